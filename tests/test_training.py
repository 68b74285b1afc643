"""Runs from start to end: what is in the folder, what is selected, what is refused."""

import json
import math
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from sdplip.errors import Diverged, InvalidConfig, InvalidRun, OutOfResources
from sdplip.nn import estimate_lipschitz, lipschitz, pairwise_lipschitz
from sdplip.robustness.radii import certified_radius
from sdplip.training import load_run, loop, read_config, start, train
from sdplip.training.build import build_model
from sdplip.training.config import ModelConfig
from sdplip.training.config import read_config as read
from sdplip.training.data import mean
from sdplip.training.distributed import Team, device_named
from sdplip.training.margins import aimed_constants
from sdplip.training.precision import lowered
from sdplip.training.validate import validate
from tests.training_runs import few, small

CPU = Team(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data():
    return few()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, train(small(), out, data=data)


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_folder(finished):
    out, summary = finished
    assert {path.name for path in out.iterdir()} == {
        "config.toml",
        "environment.json",
        "metrics.jsonl",
        "checkpoint.safetensors",
        "model.safetensors",
        "summary.json",
    }
    assert read(out / "config.toml") == small()
    assert summary.finished and summary.steps == 8 and summary.epochs == 2
    environment = json.loads((out / "environment.json").read_text())
    assert environment["seed"] == 0 and environment["versions"]["torch"] == torch.__version__
    assert [line["step"] for line in lines(out)] == [4, 8]
    assert lines(out)[0]["lr"] == pytest.approx(
        0.01 * (3.5 / 8) ** 0 * (1 + (3.5 / 8 - 0.4) / 0.4 * (1 / 20 - 1))
    )


def test_selected_weights_are_the_best_line(finished):
    out, summary = finished
    best = max((line["certified"], line["clean"], line["step"]) for line in lines(out))
    assert best == (pytest.approx(summary.certified), pytest.approx(summary.clean), summary.selected)


def test_the_proof_is_of_the_saved_weights(finished, data):
    out, summary = finished
    config, model = load_run(out)
    images = data.validation.images.double() / 255
    with torch.no_grad():
        logits = model.double()(images)
    right = (logits.argmax(1) == data.validation.labels).numpy()
    radius = certified_radius(logits, pairwise_lipschitz(model, input_shape=(1, 8, 8)))
    assert summary.proven_clean == right.mean()
    assert summary.proven_certified <= (right & (radius > config.train.eps)).mean()
    assert summary.bound < 2


def test_a_run_repeats_itself_bit_for_bit(finished, data, tmp_path):
    out, _ = finished
    train(small(), tmp_path / "again", data=data)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def test_training_leaves_no_trace_in_torch(data, tmp_path):
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(small("train.epochs=1"), tmp_path / "run", data=data)
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


def test_finished_run_is_not_trained_again(finished, data):
    out, summary = finished
    before = (out / "metrics.jsonl").read_bytes()
    assert train(small(), out, data=data) == summary
    assert (out / "metrics.jsonl").read_bytes() == before


def test_progress_arrives_at_the_end(data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "EVERY", 0)
    seen = []
    train(small(), tmp_path / "run", data=data, progress=seen.append)
    assert [now.step for now in seen] == [*range(1, 9), 8]
    assert seen[-1].share == 1 and seen[-1].left == 0 and seen[0].clean is None and seen[5].clean is not None


def test_steps_instead_of_epochs_and_no_validation(data, tmp_path):
    from dataclasses import replace

    config = small("train.steps=5", "data.validation=0")
    summary = train(config, tmp_path / "run", data=replace(data, validation=None))
    assert summary.steps == 5 and summary.clean is None and "validation" in summary.unproven
    assert [line["step"] for line in lines(tmp_path / "run")] == [4, 5]


@pytest.mark.parametrize(("clock", "ticking"), [("wall", "monotonic"), ("cpu", "process_time")])
def test_a_time_budget_ends_the_schedule(data, tmp_path, monkeypatch, clock, ticking):
    """A clock that ticks a second at each look: the budget, not the machine, ends the run."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(f"time.{ticking}", lambda: float(next(ticks)))
    config = small("train.minutes=2", f"train.clock={clock}", "train.device=cpu")
    summary = train(config, tmp_path / "run", data=data)
    assert summary.finished and 3 < summary.steps < 60
    assert lines(tmp_path / "run")[-1]["lr"] < 0.3 * 0.01 / 20 * 20  # on its way down
    assert lines(tmp_path / "run")[-1]["seconds"] <= 125


def test_the_processor_does_not_time_a_gpu(data, tmp_path, monkeypatch):
    monkeypatch.setattr("sdplip.training.precision.device_named", lambda _: torch.device("cuda"))
    with pytest.raises(InvalidConfig, match=r"train\.clock.*Use wall"):
        train(small("train.minutes=2", "train.clock=cpu"), tmp_path / "run", data=data)


def test_tensorboard(data, tmp_path):
    pytest.importorskip("tensorboard")
    train(small("train.epochs=1", "train.tensorboard=true"), tmp_path / "run", data=data)
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


@pytest.mark.parametrize("family", ["sll", "cpl", "aol", "multi_step2", "orthogonal"])
def test_families_train_and_monitor_what_is_proven(family, data, tmp_path):
    """The monitored constants are those that the proof ends with, up to the proof's outward rounding and slack."""
    summary = train(small(f'model.family="{family}"', "train.steps=2"), tmp_path / "run", data=data)
    assert summary.finished and summary.proven_certified is not None, summary.unproven
    _, model = load_run(tmp_path / "run")
    proven = torch.tensor(pairwise_lipschitz(model, input_shape=(1, 8, 8)).values)
    aimed = aimed_constants(model).double()
    assert (aimed <= proven * (1 + 1e-4)).all() and (proven <= aimed * 1.05).all()


def test_constants_of_a_plain_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(
            ModelConfig(family="plain", shape="liresnet", width=8, convolutions=1),
            image_shape=(3, 32, 32),
            classes=10,
            mean=(0.5, 0.5, 0.5),
        )
    aimed = aimed_constants(model)
    proven = torch.tensor(pairwise_lipschitz(model, input_shape=(3, 32, 32)).values)
    assert (aimed.double() >= proven * 0.95).all()
    aimed.sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all()
        for n, p in model.named_parameters()
        if n.endswith("weight")
    )


def test_validation_counts():
    """By hand: the identity on two pixels as logits."""
    from sdplip.training.data import Split

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2, bias=False))
    torch.nn.init.eye_(model[1].weight)
    images = torch.tensor([[255, 0], [255, 204], [0, 255], [9, 9]], dtype=torch.uint8).reshape(4, 1, 1, 2)
    # margins 1, 0.2, wrong, tie; radii margin / sqrt 2
    split = Split(images, torch.tensor([0, 0, 0, 0]))
    assert validate(model, split, 0.2, CPU) == (0.75, 0.25)
    assert validate(model, split, 0.1, CPU) == (0.75, 0.5)


@pytest.mark.parametrize("family", ["sll", "cpl", "multi_step2"])
def test_autocast_leaves_t_alone(family):
    model = build_model(
        small(f'model.family="{family}"').model, image_shape=(1, 8, 8), classes=10, mean=(0.5,)
    )
    for module in model.modules():
        if hasattr(module, "t"):
            exact = module.t
            with lowered(torch.device("cpu"), "bfloat16"):
                assert torch.equal(module.t, exact) and module.t.dtype == torch.float32


def test_bfloat16_trains_and_is_proven_in_float(data, tmp_path):
    summary = train(small("train.precision=bfloat16", "train.epochs=1"), tmp_path / "run", data=data)
    _, model = load_run(tmp_path / "run")
    assert summary.proven_certified is not None
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("place", ["weight", "gradient"])
def test_not_finite_names_the_layer(place, data, tmp_path, monkeypatch):
    build = start.build_model

    def spoiled(*args, **kwargs):
        model = build(*args, **kwargs)
        if place == "weight":
            model[-2].bias.data[0] = math.nan
        else:
            model[-2].bias.register_hook(lambda g: g * math.inf)
        return model

    monkeypatch.setattr(start, "build_model", spoiled)
    with pytest.raises(Diverged, match=r"step 1, .*`\d\.bias`.*optimiser\.lr") as caught:
        train(small(), tmp_path / "run", data=data)
    assert place in str(caught.value) and not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_not_finite_keeps_the_checkpoint(data, tmp_path, monkeypatch):
    calls = iter(range(100))
    loss = start.build_loss

    def late(config):
        plain = loss(config)
        spoil = lambda *a: plain(*a) * (math.nan if next(calls) >= 5 else 1)  # noqa: E731
        spoil.needs_pairwise = False
        return spoil

    monkeypatch.setattr(start, "build_loss", late)
    with pytest.raises(Diverged, match=r"step 6, where the loss is nan: .*although.*keeps the last good"):
        train(small("train.checkpoint_steps=1"), tmp_path / "run", data=data)
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_refusals(finished, data, tmp_path):
    out, _ = finished
    with pytest.raises(InvalidRun, match=r"`optimiser\.lr` is 0\.01 there and 0\.02 here.*--no-resume"):
        train(small("optimiser.lr=0.02"), out, data=data)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(InvalidRun, match="holds files, but no run"):
        train(small(), tmp_path / "other", data=data)
    with pytest.raises(InvalidRun, match="is a file"):
        train(small(), tmp_path / "other" / "letter.txt", data=data)
    with pytest.raises(InvalidRun, match="holds no run"):
        load_run(tmp_path / "other")
    assert (tmp_path / "other" / "letter.txt").read_text() == "mine"


def test_a_run_of_another_version(finished, data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    text = (finished[0] / "config.toml").read_text().replace("version = 1", "version = 99")
    (out / "config.toml").write_text(text)
    with pytest.raises(InvalidRun, match=r"cannot go on.*99.*--no-resume"):
        train(small(), out, data=data)
    with pytest.raises(InvalidConfig, match="99"):
        read_config(out / "config.toml")


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta"])
def test_wrong_device(device):
    with pytest.raises(InvalidConfig, match=r"`train\.device`.*Use cpu"):
        device_named(device)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # where a graph is left
@pytest.mark.parametrize("family", ["orthogonal", "optimal"])
def test_compiled_networks_train(family, data, tmp_path, monkeypatch):
    """One graph, without a break; but the solver of `optimal` is not for compilers. Real ones take many seconds: this one traces only."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="aot_eager"))
    changes = (
        "train.steps=3",
        f"model.family={family}",
        "model.convolutions=0" if family == "optimal" else "model.convolutions=1",
    )
    whole = train(small("train.compile=true", *changes), tmp_path / "compiled", data=data)
    plain = train(small(*changes), tmp_path / "plain", data=data)
    assert whole.clean == plain.clean
    breaks = torch._dynamo.utils.counters["graph_break"]
    assert all("disable" in reason for reason in breaks) and bool(breaks) == (family == "optimal")
    ours, theirs = (load_run(tmp_path / name)[1].state_dict() for name in ("compiled", "plain"))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4)


def test_no_compiler(data, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InvalidConfig, match=r"C\+\+ compiler"):
        train(small("train.compile=true"), tmp_path / "run", data=data)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("can't allocate memory: 9 bytes"),
    ],
)
def test_out_of_memory(error, data, tmp_path, monkeypatch):
    def full(*_):
        raise error

    monkeypatch.setattr(loop, "_step", full)
    with pytest.raises(OutOfResources, match=r"train\.batch=8"):
        train(small(), tmp_path / "run", data=data)


def test_mean_enters_the_model(finished, data):
    _, model = load_run(finished[0])
    assert model[0].mean.tolist() == pytest.approx(mean(data.train))


def test_every_other_epoch_the_network_is_bounded_from_both_sides(data, tmp_path):
    out, told = tmp_path / "run", []
    train(
        small("train.bound_every=2", "data.validation=0"),
        out,
        data=replace(data, validation=None),
        on_epoch=told.append,
    )
    first, second = lines(out)
    assert first["bound"] is None and first["lower"] is None
    assert 0 < second["lower"] <= second["bound"] == told[1].bound
    model = load_run(out)[1]  # without validation images the weights of the last epoch are kept
    assert second["bound"] <= lipschitz(model, input_shape=data.train.shape).value
    assert estimate_lipschitz(model, data.train.images[:20] / 255) <= second["bound"]
    plain = tmp_path / "plain"
    train(small("data.validation=0"), plain, data=replace(data, validation=None))
    for name, tensor in load_run(plain)[1].state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), "Looking at the network changes nothing of it."
