"""The networks that `families.py` compares: each family of layers in the shape for a data set."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from sdplip.nn import (
    BROConv2d,
    CompactSandwichConv2d,
    DeepResidualLinear,
    LastLayerNormalised,
    LipKernel,
    LipKernelConv2d,
    LipKernelLinear,
    LipNeXtBlock,
    LipShiFTBlock,
    MaxMin,
    PadChannels,
    Sandwich,
    initialise,
    orthogonal,
)
from sdplip.nn.models import FAMILIES, Plan, orthogonal_network, residual_network

Build = Callable[["Task"], nn.Sequential]


@dataclass(frozen=True)
class Task:
    """A data set, how it is trained on, and the radii of its columns; `select` is the one that decides."""

    name: str
    shape: tuple[int, int, int]
    augment: tuple[str, ...]
    batch: int
    offset: float
    radii: tuple[str, ...]
    select: str

    @property
    def plan(self) -> Plan:
        """Patches of 4 x 4 pixels as channels, four convolutions of 64 channels, one dense layer."""
        return Plan(4, 1, 64, 64, 512, 1, self.shape, kernel=3, patch=4)

    @property
    def dense(self) -> Plan:
        """Pixels as features, layers of 512 units."""
        return Plan(0, 4, self.shape[0], 1, 512, 1, self.shape)


TASKS = {
    "mnist": Task("mnist", (1, 28, 28), (), 1024, 2.121, ("0.5", "1", "1.58"), "1.58"),
    "cifar10": Task("cifar10", (3, 32, 32), ("crop2", "flip"), 256, 0.5, ("36/255", "72/255", "1"), "36/255"),
}


def residual(scaling: str, *, dense: bool) -> Build:
    """Blocks of statement 2."""

    def build(task: Task) -> nn.Sequential:
        model = residual_network(task.dense if dense else task.plan, FAMILIES[scaling])
        initialise(model)
        return model

    return build


def layers(new: Callable[[int, int], nn.Module]) -> Build:
    """Three dense layers of 512 units; `new` makes one of them, with its activation."""

    def build(task: Task) -> nn.Sequential:
        features = task.shape[0] * task.shape[1] * task.shape[2]
        body = [new(n, 512) for n in (features, 512, 512)]
        return nn.Sequential(nn.Flatten(), *body, LastLayerNormalised(512, 10))

    return build


def blocks(new: Callable[[int, tuple[int, int]], nn.Module]) -> Build:
    """The convolutional plan with four blocks that `new` makes of channels and image size, then one orthogonal dense layer."""

    def build(task: Task) -> nn.Sequential:
        plan = task.plan
        body = [new(plan.width, plan.size) for _ in range(plan.convolutions)]
        dense = orthogonal(nn.Linear(plan.features, plan.hidden), "cayley")
        last = (nn.Flatten(), dense, MaxMin(), LastLayerNormalised(plan.hidden, 10))
        return nn.Sequential(nn.PixelUnshuffle(4), PadChannels(64 - 16 * task.shape[0]), *body, *last)

    return build


def lipkernel(task: Task) -> nn.Sequential:
    """Two strided convolutions and two dense layers (2C2F), one joint constant of 1; the last layer is its head."""
    features = 32 * (task.shape[1] // 4) * (task.shape[2] // 4)
    convolutions = (LipKernelConv2d(task.shape[0], 16, 4, 2, 1), LipKernelConv2d(16, 32, 4, 2, 1))
    dense = (LipKernelLinear(features, 100), LipKernelLinear(100, 10))
    return nn.Sequential(LipKernel([*convolutions, nn.Flatten(), *dense], task.shape))


def active(layer: nn.Module) -> nn.Sequential:
    """The layer with MaxMin."""
    return nn.Sequential(layer, MaxMin())


def deep(n: int, m: int) -> nn.Module:
    """A deep residual layer where it fits, an orthogonal one where the width changes."""
    if n != m:
        return active(orthogonal(nn.Linear(n, m), "cayley"))
    return DeepResidualLinear(n, [m, m])


@dataclass(frozen=True)
class Family:
    """How a family builds its network for each task, what that is in words, whether layers are 1-Lipschitz whatever the weights."""

    build: dict[str, Build]
    network: dict[str, str]
    fixed: bool = True


BODY = "4 blocks of 64 channels, 1 dense layer"
RESIDUAL, DENSE = "4 residual blocks of 512 units", "3 dense layers of 512 units"


def family(mnist: tuple[Build, str], cifar10: tuple[Build, str], *, fixed: bool = True) -> Family:
    """A family by its two networks."""
    pairs = {"mnist": mnist, "cifar10": cifar10}
    return Family({k: v[0] for k, v in pairs.items()}, {k: v[1] for k, v in pairs.items()}, fixed)


def everywhere(build: Build, network: str, *, fixed: bool = True) -> Family:
    """A family with one form for both data sets."""
    return family((build, network), (build, network), fixed=fixed)


FAMILY = {
    **{
        name: family((residual(name, dense=True), RESIDUAL), (residual(name, dense=False), BODY))
        for name in ("sll", "cpl", "aol")
    },
    "orthogonal (Cayley)": family(
        (lambda task: orthogonal_network(replace(task.dense, dense=3)), DENSE),
        (lambda task: orthogonal_network(task.plan), BODY),
    ),
    "AOC": everywhere(lambda task: orthogonal_network(task.plan, "aoc"), BODY),
    "BRO": family(
        (layers(lambda n, m: active(orthogonal(nn.Linear(n, m), "bro"))), DENSE),
        (blocks(lambda channels, size: active(BROConv2d(channels, channels, 3, size))), BODY),
    ),
    "Cholesky": everywhere(layers(lambda n, m: active(orthogonal(nn.Linear(n, m), "cholesky"))), DENSE),
    "LipNeXt": everywhere(blocks(LipNeXtBlock), BODY),
    "LipShiFT": everywhere(blocks(lambda channels, _: LipShiFTBlock(channels)), BODY, fixed=False),
    "sandwich": everywhere(layers(Sandwich), DENSE),
    "sandwich convolution": everywhere(
        blocks(lambda channels, _: CompactSandwichConv2d(channels, channels, 3)), BODY
    ),
    "LipKernel": everywhere(lipkernel, "2 convolutions of 16 and 32 channels, 2 dense layers"),
    "deep residual": everywhere(layers(deep), DENSE),
}
"""Families by the names of the table."""
