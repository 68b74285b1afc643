"""Shift networks and wide dense ones: shapes by hand, constants proven, one short run each; ramps, precisions, memory of images."""

import pytest
import torch
from torch import nn

from sdplip.errors import InvalidConfig, InvalidWeight
from sdplip.nn import lipschitz
from sdplip.nn.losses import EMMA, LogitAnnealing
from sdplip.nn.manifold import deviation, manifold_weights
from sdplip.nn.targets import LossContext
from sdplip.nn.token_models import mlp, shift_network
from sdplip.training import load_run, override, preset, preset_names, train
from sdplip.training.build import build_loss, build_model
from sdplip.training.precision import channels_last, fast, resolved
from sdplip.training.tables import LossConfig, ModelConfig
from tests.training_runs import few, small

torch.set_num_threads(1)
IMAGE = (1, 8, 8)
SHIFT = (
    "model.shape=shift",
    "model.family=manifold",
    "model.patch=2",
    "model.convolutions=2",
    "model.width=8",
)
MUON = (
    "optimiser.name=muon",
    "optimiser.lr=0.1",
    "model.dense=none",
    "model.hidden=none",
    "model.hidden_channels=none",
)


def run(*changes):
    """A small run; keys of the shape of the digits are taken back."""
    return small("model.pool=none", *changes)


@pytest.mark.parametrize("method", ["aoc", "manifold"])
@pytest.mark.parametrize(("pool", "features"), [(None, 8), (2, 32)])
def test_shift_networks(method, pool, features):
    """Four tokens a side; the body is 1-Lipschitz, and its blocks alone keep lengths."""
    torch.manual_seed(0)
    model = shift_network(8, 3, method, patch=2, pool=pool, image=IMAGE, classes=5).eval().double()
    x = torch.randn(2, *IMAGE, dtype=torch.float64)
    head = model[-1]
    assert isinstance(head, nn.Linear) and model(x).shape == (2, 5) and head.in_features == features
    assert 1 <= float(lipschitz(model[:-1], input_shape=IMAGE)) < 1 + 1e-5
    tokens = model[:2](x)
    assert tokens.shape == (2, 8, 4, 4) and not tokens[:, 4:].any()
    pooled = model[:-1](x)
    torch.testing.assert_close(
        pooled.norm(dim=1), model[: 2 + 3](x).flatten(1).norm(dim=1), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("layer", ["aol", "cpl", "orthogonal", "manifold"])
def test_dense_networks_start_at_the_identity(layer):
    model = mlp(12, 2, layer, image=(1, 3, 3), classes=4).eval()
    x = torch.rand(3, 1, 3, 3)
    start = nn.functional.pad(x.flatten(1), (0, 3))
    torch.testing.assert_close(model[2](start), start, atol=1e-3, rtol=0.03)  # Gram iteration: T = 1.04
    assert model(x).shape == (3, 4)
    assert float(lipschitz(model[:-1], input_shape=(1, 3, 3))) < 1 + 1e-5


def test_sizes_that_do_not_fit():
    for arguments in ({"patch": 3}, {"patch": 2, "pool": 3}, {"width": 3, "patch": 2}):
        with pytest.raises(InvalidWeight, match="must"):
            shift_network(**{"width": 8, "image": IMAGE, **arguments})
    for width in (8, 65):
        with pytest.raises(InvalidWeight, match="even"):
            mlp(width, 1, image=IMAGE)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelConfig(shape="shift", family="sll"), "has the families orthogonal, manifold"),
        (ModelConfig(shape="shift", family="manifold", dense=2), "has no effect on the shape 'shift'"),
        (ModelConfig(shape="mlp", family="aol", patch=2), "has no effect on the shape 'mlp'"),
        (ModelConfig(shape="mlp", family="aol", width=7), "do not fit"),
        (ModelConfig(shape="mlp", family="aoc"), "has the families"),
    ],
)
def test_run_files_that_do_not_fit(model, words):
    with pytest.raises(InvalidConfig, match=words):
        build_model(model, image_shape=IMAGE, classes=10, mean=(0.5,))


@pytest.mark.parametrize(
    "changes",
    [
        (*SHIFT, *MUON, "train.precision=auto"),
        (*SHIFT, *MUON, "train.channels_last=true"),
        (
            "model.shape=mlp",
            "model.family=aol",
            "model.width=64",
            "model.dense=2",
            *MUON[3:],
            "model.convolutions=none",
        ),
    ],
    ids=["shift", "shift, channels last", "mlp"],
)
def test_runs(changes, tmp_path):
    summary = train(run(*changes, "train.steps=6"), tmp_path / "run", data=few())
    config, model = load_run(tmp_path / "run")
    assert summary.bound is not None and summary.proven_clean is not None
    assert config.train.precision in ("float32", "bfloat16")
    assert all(
        w.dtype == torch.float32 and deviation(w.detach().flatten(1)) < 1e-5 for w in manifold_weights(model)
    )


def test_the_presets_are_of_the_shapes():
    assert {"cifar10-shift", "cifar10-mlp", "mnist-muon"} <= set(preset_names())
    shift, wide = preset("cifar10-shift"), preset("cifar10-mlp")
    assert (shift.model.shape, shift.optimiser.name, shift.train.channels_last) == ("shift", "muon", True)
    assert (wide.model.shape, wide.loss.offset) == ("mlp", pytest.approx(2**0.5 * 36 / 255, abs=1e-5))
    with torch.random.fork_rng():
        model = build_model(shift.model, image_shape=(3, 32, 32), classes=10, mean=(0.5,) * 3)
    assert len(manifold_weights(model)) == 16


def test_auto_is_what_the_processor_has():
    """`auto` never stays; memory follows the precision unless it is asked for."""
    config = resolved(run("train.precision=auto"))
    assert config.train.precision == ("bfloat16" if fast(torch.device("cpu")) else "float32")
    assert resolved(run("train.precision=auto"), there="float32").train.precision == "float32"
    assert resolved(run("train.precision=auto"), there="bfloat16").train.precision == "bfloat16"
    assert resolved(run("train.precision=auto"), everywhere=lambda _: False).train.precision == "float32"
    assert channels_last(config) == (config.train.precision == "bfloat16")
    assert channels_last(run("train.channels_last=true")) and not channels_last(run())
    assert not channels_last(run("train.precision=bfloat16", "train.channels_last=false"))
    assert not fast(torch.device("meta"))


def test_ramps():
    """At the start a radius of `ramp[0] eps`, from the middle on `ramp[1] eps`; a constant ramp is no ramp."""
    logits = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    labels, M = torch.tensor([0]), 1 - torch.eye(3, dtype=torch.float64)
    at = lambda loss, progress: loss(logits, labels, LossContext(M, progress)).item()  # noqa: E731
    for kind in (EMMA, LogitAnnealing):
        for progress, multiple in ((0.0, 0.2), (0.25, 0.6), (0.5, 1.0), (1.0, 1.0)):
            ramped, fixed = kind(eps=0.4, ramp=(0.2, 1.0)), kind(eps=0.4 * multiple, ramp=(1.0, 1.0))
            assert at(ramped, progress) == pytest.approx(at(fixed, 0.7))
    assert build_loss(LossConfig("emma", ramp=(0.1, 2.0))).ramp == (0.1, 2.0)  # pyright: ignore[reportAttributeAccessIssue]
    assert override(preset("digits-sll"), ["loss.name=emma", "loss.ramp=0.1,2"]).loss.ramp == (0.1, 2.0)
    assert build_loss(LossConfig("emma")).ramp == (0.1, 3.0)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InvalidConfig, match="no effect on the loss"):
        LossConfig("cr", ramp=(0.1, 2.0))
