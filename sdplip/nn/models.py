"""Networks in the shapes of the papers, and small ones for a CPU. All are `nn.Sequential`, so everything of torch works on them.

Build with `torch.device("meta")` around the call to count parameters for nothing. Weights start as published; `initialise(model)`
starts them so that deep networks pass signals on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal

from torch import nn

from sdplip.geometry import Geometry
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.activations import MaxMin
from sdplip.nn.containers import Residual
from sdplip.nn.heads import LastLayerNormalised, Normalise
from sdplip.nn.optimal import Optimal
from sdplip.nn.orthogonal import CayleyConv2d
from sdplip.nn.orthogonal import orthogonal as orthonormal
from sdplip.nn.pooling import FirstChannels, ScaledAvgPool2d
from sdplip.nn.rescaled import rescaled
from sdplip.nn.residual import PadChannels, ResidualConv2d, ResidualLinear
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.sandwich_conv import CompactSandwichConv2d
from sdplip.nn.scaling import AOL, SLL, MultiStep, Spectral, as_scaling

Size = Literal["S", "M", "L", "XL"]

FAMILIES: dict[str, Callable[[], AbstractScaling]] = {
    "sll": SLL,
    "cpl": partial(Spectral, iterations=5),
    "aol": AOL,
    "multi_step2": partial(MultiStep, 2),
    "multi_step4": partial(MultiStep, 4),
    "optimal": Optimal,
}
"""Families of networks by name: what makes the T of each of their layers."""


@dataclass(frozen=True)
class Plan:
    """A network of residual blocks: zero channels, convolutions, pooling, dense layers, last layer with rows of length 1.

    Attributes:
        convolutions, dense: number of blocks.
        width: channels.
        hidden_channels, hidden: hidden units of a convolutional and of a dense block.
        pool: side of the pooling windows.
        kernel: side of the kernels.
        patch: side of the patches of pixels that become channels first (`nn.PixelUnshuffle`, an isometry): convolutions then run
            on fewer pixels and more channels, which processors like.
        image: input `(channels, height, width)`.
    """

    convolutions: int
    dense: int
    width: int
    hidden_channels: int = 5
    hidden: int = 2048
    pool: int = 4
    image: tuple[int, int, int] = (3, 32, 32)
    classes: int = 10
    kernel: int = 3
    patch: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the convolutions see."""
        return self.image[1] // self.patch, self.image[2] // self.patch

    @property
    def features(self) -> int:
        """Entries after pooling."""
        return self.width * (self.size[0] // self.pool) * (self.size[1] // self.pool)

    def entrance(self) -> list[nn.Module]:
        """Patches to channels, and zero channels up to the width."""
        patches: list[nn.Module] = [] if self.patch == 1 else [nn.PixelUnshuffle(self.patch)]
        return [*patches, PadChannels(self.width - self.image[0] * self.patch**2)]


PLANS: dict[Size, Plan] = {
    "S": Plan(20, 7, 45),
    "M": Plan(30, 10, 60),
    "L": Plan(50, 10, 90),
    "XL": Plan(70, 15, 120),
}
"""The four sizes of SLL and CPL (Araujo et al. 2023, Meunier et al. 2022), for CIFAR."""

DIGITS = Plan(3, 2, 16, 16, 128, 2, (1, 8, 8))
MNIST = Plan(4, 2, 16, 16, 256, 4, (1, 28, 28))
CIFAR_SMALL = Plan(6, 2, 24, 12, 512, 4)


def residual_network(
    plan: Plan, scaling: str | Callable[[], AbstractScaling] = "sll", *, mean: Sequence[float] | None = None
) -> nn.Sequential:
    """Network of residual blocks (statement 2) with T from `scaling`; 1-Lipschitz up to its head.

    Args:
        scaling: a name, or what makes a new scaling for each block, such as `FAMILIES["cpl"]`.
        mean: channel means to subtract first; no division, so that radii need no correction.
    """
    new = _maker(scaling)
    layers: list[nn.Module] = [] if mean is None else [Normalise(mean)]
    layers += plan.entrance()
    geometry = Geometry(image_size=plan.size)
    layers += [
        ResidualConv2d(plan.width, plan.hidden_channels, plan.kernel, new(), geometry=geometry)
        for _ in range(plan.convolutions)
    ]
    layers += [ScaledAvgPool2d(plan.pool), nn.Flatten()]
    layers += [ResidualLinear(plan.features, plan.hidden, new()) for _ in range(plan.dense)]
    return nn.Sequential(*layers, LastLayerNormalised(plan.features, plan.classes))


def sll(size: Size = "S", *, classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)) -> nn.Sequential:
    """SLL network (Araujo et al. 2023): 41.4, 78.8, 118.3, 236.4 million parameters for ten classes."""
    return residual_network(replace(PLANS[size], classes=classes, image=image), "sll")


def cpl(size: Size = "S", *, classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)) -> nn.Sequential:
    """CPL network (Meunier et al. 2022) in the same shape: T is a proven squared norm, by Gram iteration."""
    return residual_network(replace(PLANS[size], classes=classes, image=image), "spectral")


def aol(size: Size = "S", *, classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)) -> nn.Sequential:
    """The same shape with the T of AOL (Prach and Lampert 2022): SLL with all q = 1."""
    return residual_network(replace(PLANS[size], classes=classes, image=image), "aol")


def orthogonal(
    size: Size = "S", *, classes: int = 10, image: tuple[int, int, int] = (3, 32, 32)
) -> nn.Sequential:
    """The same depths with orthogonal layers and MaxMin, widths rounded up to even numbers: every gradient keeps its length.

    Cayley convolutions of the width, then dense layers with `hidden` outputs.
    """
    return orthogonal_network(replace(PLANS[size], classes=classes, image=image))


def orthogonal_network(
    plan: Plan, convolution: Literal["cayley", "aoc", "manifold"] = "cayley"
) -> nn.Sequential:
    """Network of orthogonal layers and MaxMin in the shape of `plan`.

    Args:
        convolution: `CayleyConv2d`, circular, or `orthogonal(nn.Conv2d(...))` with zero padding: one plain kernel each, several times
            faster. "manifold" makes dense layers and kernels of one pixel with weights that are orthogonal themselves, for `Muon`.
    """
    direct = convolution == "manifold"
    if plan.convolutions:  # MaxMin pairs channels
        plan = replace(plan, width=plan.width + plan.width % 2)
    layers: list[nn.Module] = plan.entrance()
    for _ in range(plan.convolutions):
        if convolution != "cayley":
            plain = nn.Conv2d(plan.width, plan.width, plan.kernel, padding="same")
            conv = orthonormal(plain, "manifold" if direct and plan.kernel == 1 else "aoc")
        else:
            conv = CayleyConv2d(plan.width, plan.width, plan.kernel, plan.size)
        layers += [conv, MaxMin()]
    layers += [ScaledAvgPool2d(plan.pool), nn.Flatten()]
    for number in range(plan.dense):
        dense = nn.Linear(plan.hidden if number else plan.features, plan.hidden)
        layers += [orthonormal(dense, "manifold" if direct else "cayley"), MaxMin()]
    return nn.Sequential(
        *layers, LastLayerNormalised(plan.hidden if plan.dense else plan.features, plan.classes)
    )


def sandwich_network(plan: Plan) -> nn.Sequential:
    """Network of sandwich layers with ReLU inside, in the shape of `plan`: `CompactSandwichConv2d` of the width, then dense ones of `hidden` features.

    Raises:
        InvalidWeight: an even `plan.kernel`.
    """
    convs = [CompactSandwichConv2d(plan.width, plan.width, plan.kernel) for _ in range(plan.convolutions)]
    sizes = [plan.features, *[plan.hidden] * plan.dense]
    dense = [Sandwich(n, m) for n, m in pairwise(sizes)]
    pooling = (ScaledAvgPool2d(plan.pool), nn.Flatten())
    return nn.Sequential(
        *plan.entrance(), *convs, *pooling, *dense, LastLayerNormalised(sizes[-1], plan.classes)
    )


def digits(scaling: str = "sll") -> nn.Sequential:
    """For the 8 x 8 digits of scikit-learn: trains in seconds."""
    return residual_network(DIGITS, scaling)


def mnist(scaling: str = "sll") -> nn.Sequential:
    """For MNIST: trains in minutes on a CPU."""
    return residual_network(MNIST, scaling)


def cifar_small(scaling: str = "sll") -> nn.Sequential:
    """For CIFAR-10 on a CPU."""
    return residual_network(CIFAR_SMALL, scaling)


CONVNET_WIDTHS = {"XS": 16, "S": 32, "M": 64, "L": 128}


def convnet(
    size: Literal["XS", "S", "M", "L"] = "XS",
    layer: Literal[
        "aol",
        "spectral",
        "multi_step",
        "multi_step2",
        "multi_step4",
        "sll",
        "cpl",
        "orthogonal",
        "aoc",
        "manifold",
    ] = "aol",
    *,
    classes: int = 10,
    image_size: int = 32,
) -> nn.Sequential:
    """The network of the time-budgeted comparison (Prach et al., CVPR 2024): 1.57, 6.28, 25.1, 100.5 million parameters.

    A first 1 x 1 layer; five blocks of five layers with MaxMin, each block ending in half the channels and space-to-depth, which
    doubles the width and halves the image; global max pooling; a square last layer of which the first `classes` entries count.
    The last block has 1 x 1 kernels, because its image has 2 x 2 pixels. "sll" and "cpl" are residual layers with as many hidden
    channels as channels, the others convolutions with circular padding.
    """
    width = CONVNET_WIDTHS[size]
    layers = [PadChannels(width - 3), _layer(layer, width, 1, image_size), MaxMin()]
    for block in range(5):
        for _ in range(5):
            layers += [_layer(layer, width, 1 if block == 4 else 3, image_size), MaxMin()]
        layers += [FirstChannels(width // 2), nn.PixelUnshuffle(2)]
        width, image_size = 2 * width, image_size // 2
    head = nn.Linear(width, width)
    if layer in ("sll", "cpl"):
        last = ResidualLinear(width, width, "sll" if layer == "sll" else "spectral")
    else:
        direct = layer == "manifold"
        orthogonal_ = layer in ("orthogonal", "aoc", "manifold")
        last = (
            orthonormal(head, "manifold" if direct else None)
            if orthogonal_
            else rescaled(head, _maker(layer)())
        )
    return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(1), nn.Flatten(), last, FirstChannels(classes))


def liresnet(width: int = 64, depth: int = 4, *, classes: int = 10, image_size: int = 32) -> nn.Sequential:
    """Blocks `x + conv(x)` and MaxMin (Hu et al. 2023): not normalised; `lipschitz` proves the norm of each block.

    The loss is to keep the product small (EMMA, GloRo), or to divide by it. The stem takes patches of 4 x 4 pixels.
    """
    blocks = (
        module for _ in range(depth) for module in (Residual(nn.Conv2d(width, width, 3, padding=1)), MaxMin())
    )
    features = width * (image_size // 16) ** 2
    stem = (nn.PixelUnshuffle(4), nn.Conv2d(48, width, 1), MaxMin())
    return nn.Sequential(
        *stem, *blocks, ScaledAvgPool2d(4), nn.Flatten(), LastLayerNormalised(features, classes)
    )


def _layer(kind: str, channels: int, taps: int, image_size: int) -> nn.Module:
    """A layer of the comparison that keeps channels and image."""
    if kind in ("sll", "cpl"):
        return ResidualConv2d(channels, channels, taps, "sll" if kind == "sll" else "spectral")
    if kind == "orthogonal":
        return CayleyConv2d(channels, channels, taps, (image_size, image_size))
    conv = nn.Conv2d(channels, channels, taps, padding="same", padding_mode="circular")
    if kind in ("aoc", "manifold"):
        return orthonormal(conv, "manifold" if kind == "manifold" and taps == 1 else "aoc")
    return rescaled(conv, _maker(kind)())


def _maker(scaling: str | Callable[[], AbstractScaling]) -> Callable[[], AbstractScaling]:
    """What makes a scaling of that name, of a family or of `rescaled`."""
    return FAMILIES.get(scaling, partial(as_scaling, scaling)) if isinstance(scaling, str) else scaling
