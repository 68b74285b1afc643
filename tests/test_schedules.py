"""Schedules: laws at both ends, numbers by hand, and torch's own scheduler on top."""

import pytest
import torch
from torch import nn

from sdplip.training.schedules import build_optimiser, build_schedule, factor
from sdplip.training.tables import OptimiserConfig

SCHEDULES = ("piecewise_linear", "one_cycle", "linear", "cosine", "constant")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7, 1000])
def test_factors_are_positive_and_at_most_one(name, total):
    schedule = build_schedule(OptimiserConfig(schedule=name), total)
    factors = [schedule(step) for step in range(total)]
    assert all(0 < f <= 1 for f in factors)
    assert schedule(total) == factors[-1]  # LambdaLR asks once more than there are steps


@pytest.mark.parametrize("name", SCHEDULES)
def test_both_ends(name):
    """The first step is small where there is a rise, the last positive and small where there is a fall."""
    schedule = build_schedule(OptimiserConfig(schedule=name, warmup=0.1), 1000)
    assert schedule(0) < 0.05
    assert max(schedule(step) for step in range(1000)) == pytest.approx(1, abs=2e-3)
    assert name == "constant" or 0 < schedule(999) < 1e-3


def test_piecewise_linear_by_hand():
    """N = 10: x = 0.05, 0.35, 0.45, 0.95; the factor is x / 0.4, then falls by 0.95 in 0.4, then from 1/20 to 0 in 0.2."""
    schedule = build_schedule(OptimiserConfig(), 10)
    assert [schedule(step) for step in (0, 3, 4, 9)] == pytest.approx([0.125, 0.875, 0.88125, 0.0125])


def test_other_schedules_by_hand():
    assert factor(OptimiserConfig(schedule="cosine"), 0.5) == pytest.approx(0.5)
    assert factor(OptimiserConfig(schedule="linear", warmup=0.2), 0.6) == pytest.approx(0.5)
    assert factor(OptimiserConfig(schedule="cosine", warmup=0.2), 0.6) == pytest.approx(0.5)
    assert factor(OptimiserConfig(schedule="constant", warmup=0.2), 0.05) == pytest.approx(0.25)
    assert factor(OptimiserConfig(schedule="one_cycle", peak=0.3), 0.15) == pytest.approx((1 + 1 / 25) / 2)
    assert factor(OptimiserConfig(peak=0, knee=0.5), 0.25) == pytest.approx(0.525)


def test_one_cycle_is_torchs():
    """torch puts step s of N at s / (N - 1); ours at (s + 1/2) / N: compared at the same share."""
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    total = 101
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.0, total, pct_start=0.31, cycle_momentum=False)
    config = OptimiserConfig(schedule="one_cycle", peak=(0.31 * total - 1) / (total - 1))
    for step in range(total):
        assert factor(config, step / (total - 1)) == pytest.approx(theirs.get_last_lr()[0], abs=1e-4)
        optimiser.step()
        if step < total - 1:
            theirs.step()


def test_under_torchs_scheduler_the_first_update_is_not_at_the_peak():
    config = OptimiserConfig(lr=2.0, name="sgd", momentum=0)
    layer = nn.Linear(1, 1, bias=False)
    optimiser = build_optimiser(config, layer)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, build_schedule(config, 10))
    rates = []
    for _ in range(10):
        rates.append(optimiser.param_groups[0]["lr"])
        layer(torch.ones(1, 1)).sum().backward()
        optimiser.step()
        scheduler.step()
    assert rates[0] == pytest.approx(0.25) and rates[-1] == pytest.approx(0.025)


@pytest.mark.parametrize("name", ["adam", "adamw", "nadam", "sgd"])
def test_weight_decay_spares_biases(name):
    """Without a gradient only decay moves a parameter."""
    layer = nn.Linear(3, 2)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    optimiser = build_optimiser(OptimiserConfig(name=name, lr=0.1, weight_decay=0.5), layer)
    (0 * layer(torch.ones(1, 3)).sum()).backward()
    optimiser.step()
    assert not torch.equal(layer.weight, weight) and torch.equal(layer.bias, bias)
