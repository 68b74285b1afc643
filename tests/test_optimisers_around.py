"""Lookahead, schedule-free and running means: against their formulas, on the manifold, and over interruptions."""

import copy

import pytest
import torch
from torch import nn

from sdplip.errors import InvalidConfig
from sdplip.nn import orthogonal
from sdplip.nn.manifold import deviation, manifold_weights
from sdplip.training import load_run, override, train
from sdplip.training.metrics import read_lines
from sdplip.training.optimisers import Average, Lookahead, Muon, ScheduleFree, muon_groups, project
from sdplip.training.schedules import build_optimiser
from sdplip.training.tables import OptimiserConfig
from tests.test_muon import MUON, descend, network
from tests.training_runs import few, same_weights, small

torch.set_num_threads(1)
AROUND = {
    "lookahead": lambda inner: Lookahead(inner, 2, 0.25),
    "free": lambda inner: ScheduleFree(inner, 0.8),
}


def parabola(optimiser_of, steps):
    """Weights of a parabola under an optimiser around plain descent at rate 0.1, from 1 on."""
    w = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimiser = optimiser_of(torch.optim.SGD([w], lr=0.1))
    seen = []
    for _ in range(steps):
        optimiser.zero_grad()
        (w * w / 2).sum().backward()
        optimiser.step()
        seen.append(w.item())
    return seen, optimiser


def test_lookahead_by_hand():
    """Fast: 1, .9, .81; slow: 1 + (.81 - 1) / 4 = .9525; again .85725, .771525, slow .9525 + (.771525 - .9525) / 4."""
    seen, _ = parabola(AROUND["lookahead"], 4)
    assert seen == pytest.approx([0.9, 0.9525, 0.85725, 0.9525 + (0.771525 - 0.9525) / 4])


def test_schedule_free_by_hand():
    """z <- z - y / 10, x the mean of z, y = z / 5 + 4 x / 5."""
    z = x = y = 1.0
    expected = []
    for step in range(1, 4):
        z -= 0.1 * y
        x += (z - x) / step
        y = 0.2 * z + 0.8 * x
        expected.append(y)
    seen, optimiser = parabola(AROUND["free"], 3)
    assert seen == pytest.approx(expected)
    (w,) = optimiser.param_groups[0]["params"]
    with optimiser.averaged():
        assert w.item() == pytest.approx(x)
    assert w.item() == pytest.approx(y)


def test_the_average_by_hand():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = Average(layer, 0.5)
    for step, value in ((1, 11.0), (20, 3.0)):
        nn.init.constant_(layer.weight, value)
        average.update(step)
    mean = 0.5 * (11 * (1 - 2 / 11)) + 0.5 * 3  # decays 2 / 11 and min(1 / 2, 21 / 30)
    with average.applied():
        assert layer.weight.item() == pytest.approx(mean)
    assert layer.weight.item() == 3


@pytest.mark.parametrize("name", AROUND)
def test_orthogonal_weights_stay_so(name):
    model = network(torch.float64)
    optimiser = AROUND[name](Muon(muon_groups(model), 0.1, momentum=0.5))
    losses = descend(model, optimiser, 40)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    project(optimiser)
    block = optimiser.averaged() if isinstance(optimiser, ScheduleFree) else torch.no_grad()
    with block:
        assert all(deviation(w.detach()) < 1e-12 for w in manifold_weights(model))


def test_a_mean_of_orthogonal_weights_is_made_orthogonal():
    layer = orthogonal(nn.Linear(6, 4), "manifold")
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.flip(0))
    average.update(100)
    with average.applied():
        assert deviation(layer.weight.detach()) < 1e-5


@pytest.mark.parametrize("name", AROUND)
def test_one_state_dict_holds_both(name):
    whole, parts = network(), network()
    first = AROUND[name](Muon(muon_groups(whole), 0.1))
    descend(whole, first, 3)
    descend(whole, first, 3, seed=6)
    second = AROUND[name](Muon(muon_groups(parts), 0.1))
    descend(parts, second, 3)
    third = AROUND[name](Muon(muon_groups(parts), 0.3))
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    descend(parts, third, 3, seed=6)
    assert same_weights(whole.state_dict(), parts.state_dict())
    scheduler = torch.optim.lr_scheduler.LambdaLR(third, lambda step: 0.5**step)
    third.step()
    scheduler.step()
    assert third.inner.param_groups[0]["lr"] == pytest.approx(0.05)


def test_closures():
    model = network()

    def closure():
        optimiser.zero_grad()
        loss = model(torch.ones(4, 8)).square().sum()
        loss.backward()
        return loss

    for around in AROUND.values():
        optimiser = around(Muon(muon_groups(model), 0.1))
        assert optimiser.step(closure).item() > 0


def test_what_is_refused():
    inner = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    for period, share in ((0, 0.5), (2, 0.0), (2, 1.5)):
        with pytest.raises(InvalidConfig, match="period"):
            Lookahead(inner, period, share)
    with pytest.raises(InvalidConfig, match="beta"):
        ScheduleFree(inner, 1.0)
    with pytest.raises(InvalidConfig, match="two means"):
        OptimiserConfig(schedule="free", lookahead=3)
    with pytest.raises(InvalidConfig, match="two means"):
        small("optimiser.schedule=free", "train.average=0.9")


def test_what_a_run_file_builds():
    layer = nn.Linear(2, 2)
    free = build_optimiser(OptimiserConfig(schedule="free", momentum=0.7), layer)
    assert (
        isinstance(free, ScheduleFree) and free.beta == 0.7 and free.param_groups[0]["betas"] == (0.0, 0.999)
    )
    ahead = build_optimiser(OptimiserConfig(name="sgd", lookahead=4), layer)
    assert isinstance(ahead, Lookahead) and ahead.period == 4 and isinstance(ahead.inner, torch.optim.SGD)


@pytest.fixture(scope="module")
def data():
    return few()


@pytest.mark.parametrize(
    "changes",
    [
        ("train.average=0.5",),
        ("optimiser.schedule=free",),
        (*MUON, "optimiser.lookahead=3"),
    ],
    ids=["average", "free", "lookahead"],
)
def test_runs_resume_bit_for_bit(changes, data, tmp_path):
    config = override(small(*changes), ["train.checkpoint_steps=1"])
    train(config, tmp_path / "whole", data=data)
    left = iter([False] * 5 + [True])
    train(config, tmp_path / "parts", data=data, stop=lambda: next(left, False))
    train(config, tmp_path / "parts", data=data)
    name = "model.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_better_of_weights_and_means_is_kept(data, tmp_path):
    """The line of an epoch tells what its better candidate certifies, and the selected weights certify as much as the best line."""
    summary = train(small("train.average=0.9", "train.epochs=3"), tmp_path / "run", data=data)
    best = max((line.certified or 0, line.clean or 0) for line in read_lines(tmp_path / "run"))
    assert (summary.certified, summary.clean) == pytest.approx(best, abs=1e-6)


def test_without_validation_the_last_means_are_kept(data, tmp_path):
    from dataclasses import replace

    bare = replace(data, validation=None)
    changes = ("data.validation=0", "train.steps=4")
    for name, more in (("plain", ()), ("mean", ("train.average=0.9",))):
        train(small(*changes, *more), tmp_path / name, data=bare)
    plain, mean = (load_run(tmp_path / name)[1].state_dict() for name in ("plain", "mean"))
    assert not same_weights(plain, mean)
