"""Training on the simulated device: the same run as on the CPU, and a step in which the host waits for nothing."""

import pytest
import torch

import sdplip.training.loop as loop
from sdplip.training import load_run, override, preset, train
from sdplip.training.build import LOSSES, build_loss, build_model
from sdplip.training.objective import Objective
from tests.simulated.device import SIM
from tests.simulated.log import Log, logged
from tests.training_runs import few, same_weights, small

torch.set_num_threads(1)

OTHERS = ("width", "convolutions", "hidden_channels", "pool", "kernel")
"""Sizes that an equilibrium does not have."""

RUNS = {
    "sll": [],
    "cpl": ['model.family="cpl"'],
    "aol": ['model.family="aol"'],
    "orthogonal": ['model.family="orthogonal"'],
    "muon": ["model.family=manifold", "optimiser.name=muon", "optimiser.lr=0.1"],
    "multi-step": ['model.family="multi_step2"'],
    "optimal": ['model.family="optimal"', "model.convolutions=0"],
    "sandwich": ['model.family="sandwich"', "model.dense=1"],
    "equilibrium": ['model.family="equilibrium"', *(f"model.{key}=none" for key in OTHERS)],
    "bfloat16": ['train.precision="bfloat16"'],
    "crop, flip": ['data.augment=["crop2", "flip"]'],
    "randaugment": ['data.augment=["randaugment9"]'],
    "warps": ['data.augment=["rotate10", "translate2", "cutout4", "jitter"]'],
} | {f"loss {name}": [f"loss.name={name}"] for name in LOSSES if name not in ("mse", "mae")}
"""Families, precision, augmentations, losses."""

ALLOWED = {"orthogonal": 1, "equilibrium": 10}
"""Of torch's own parametrization of dense layers: its solver looks whether the matrix was singular. That of an equilibrium looks whether it has
arrived."""

LAUNCHES = {"sll": 225, "aol": 200, "cpl": 475, "orthogonal": 255}
"""Kernels of a step, of one convolution and one dense block: a bound that no change may pass unseen."""


def run(folder, *changes):
    """What is left of four steps, and the log of the last one."""
    logs: list[Log] = []
    step = loop._step

    def watched(*arguments):
        with logged() as log:
            step(*arguments)
        logs.append(log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", watched)
        patch.setattr(loop, "GPU_CHECK", 1000)  # the look at the loss, now and then, is a wait that is meant
        summary = train(small("train.steps=4", "train.batch=32", *changes), folder, data=few())
    return summary, load_run(folder)[1].state_dict(), logs[-1]


@pytest.mark.parametrize("name", RUNS)
def test_the_same_run_and_no_wait(name, tmp_path):
    there, moved, log = run(tmp_path / "sim", *RUNS[name], "train.device=sim")
    here, stayed, _ = run(tmp_path / "cpu", *RUNS[name])
    assert sum(log.waits.values()) <= ALLOWED.get(name, 0), log.waits
    doubles = (
        "colour" in str(log.wide) or name == "equilibrium"
    )  # turns of hue are 3 x 3; W is made in double precision
    assert doubles or not log.wide, log.wide
    assert sum(log.launches.values()) <= LAUNCHES.get(name, 2500), log.launches.most_common(5)
    assert there.clean == here.clean
    for key, value in stayed.items():
        torch.testing.assert_close(moved[key].cpu(), value, atol=2e-3, rtol=2e-3, msg=key)


@pytest.mark.parametrize(("family", "allowed"), [("sll", 950), ("cpl", 1175)])
def test_a_step_at_the_depth_of_size_s(family, allowed):
    """20 convolutions and 7 dense blocks, wide enough for `rowsums`: forward and backward pass of the published shape."""
    config = override(
        preset(f"cifar10-{family}-S"), ["model.hidden_channels=4", "model.width=64", "model.hidden=300"]
    )
    model = build_model(config.model, image_shape=(3, 32, 32), classes=10, mean=(0.5,) * 3).to(SIM).train()
    kinds = [type(module).__name__ for module in model.modules()]
    assert kinds.count("ResidualConv2d") == 20 and kinds.count("ResidualLinear") == 7
    objective = Objective(model, model, build_loss(config.loss), "float32")
    x, y = torch.rand(2, 3, 32, 32).to(SIM), torch.tensor([1, 2]).to(SIM)
    objective(x, y, 0.5).backward()  # what is computed once, such as the frequencies of a grid, is there
    with logged() as log:
        objective(x, y, 0.5).backward()
    assert not log.waits and sum(log.launches.values()) <= allowed, log.launches.most_common(5)


def test_resume_is_exact(tmp_path):
    changes = ("train.device=sim", "train.epochs=2", 'data.augment=["crop2", "flip"]')
    train(small(*changes), tmp_path / "whole", data=few())
    left = iter([False, False, False, True])
    train(small(*changes), tmp_path / "parts", data=few(), stop=lambda: next(left, False))
    train(small(*changes), tmp_path / "parts", data=few())
    whole, parts = (load_run(tmp_path / name)[1].state_dict() for name in ("whole", "parts"))
    assert same_weights(whole, parts)
