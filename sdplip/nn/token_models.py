"""Networks of few products: shifts instead of convolutions on patches of pixels, and wide dense layers alone."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.nn.activations import MaxMin
from sdplip.nn.heads import LastLayerNormalised
from sdplip.nn.models import FAMILIES
from sdplip.nn.orthogonal import orthogonal
from sdplip.nn.pooling import GlobalL2Pool, L2Pool2d
from sdplip.nn.rescaled import rescaled
from sdplip.nn.residual import PadChannels
from sdplip.nn.shifted import LipNeXtBlock

Method = Literal["aoc", "manifold"]
Image = tuple[int, int, int]


def shift_network(
    width: int = 256,
    depth: int = 8,
    method: Method = "manifold",
    *,
    patch: int = 4,
    pool: int | None = None,
    image: Image = (3, 32, 32),
    classes: int = 10,
) -> nn.Sequential:
    """The form of LipNeXt (ICLR 2026): patches to channels, blocks of shifts and orthogonal matrices, L2 pooling, last layer of rows of length 1.

    Two products of `width` x `width` a token and block; a convolution of 3 x 3 has nine times as many taps as one of them.

    Args:
        width: channels, at least those of a patch; zeros fill up.
        depth: number of blocks.
        method: of `orthogonal` for their matrices; "manifold" is for the optimiser `Muon`.
        patch: side of the patches of pixels that become tokens.
        pool: side of the windows of tokens that L2 pooling takes together; all of them if None.

    Raises:
        InvalidWeight: sizes that do not fit.
    """
    size = (image[1] // patch, image[2] // patch)
    window = pool or 1
    if image[1] % patch or image[2] % patch or size[0] % window or size[1] % window:
        raise InvalidWeight(
            f"`patch` times `pool` must divide the sides of the images, but they are {patch}, {pool} and {image[1]} x {image[2]}."
        )
    if width < image[0] * patch**2:
        raise InvalidWeight(
            f"`width` must be at least the {image[0] * patch**2} channels of a patch, but is {width}."
        )
    blocks = [LipNeXtBlock(width, size, method=method) for _ in range(depth)]
    ending: list[nn.Module] = [GlobalL2Pool()] if pool is None else [L2Pool2d(pool), nn.Flatten()]
    features = width if pool is None else width * (size[0] // pool) * (size[1] // pool)
    entrance = [nn.PixelUnshuffle(patch), PadChannels(width - image[0] * patch**2)]
    return nn.Sequential(*entrance, *blocks, *ending, LastLayerNormalised(features, classes))


def mlp(
    width: int = 3072,
    depth: int = 8,
    layer: str = "aol",
    *,
    image: Image = (3, 32, 32),
    classes: int = 10,
) -> nn.Sequential:
    """The AOL-MLP of Prach and Lampert (2024): zeros up to the width, `depth` square dense layers that start at the identity, MaxMin.

    The published code reads the logits off the first channels; our head is the last layer.

    Args:
        width: features of every layer, an even number, at least those of an image.
        layer: "aol", "sll", "cpl", "multi_step2", ...: what rescales; "orthogonal" (Cayley) or "manifold".

    Raises:
        InvalidWeight: a width that does not fit.
    """
    features = image[0] * image[1] * image[2]
    if width < features or width % 2:
        raise InvalidWeight(
            f"`width` must be even and at least the {features} features of an image, but is {width}."
        )
    make: Callable[[nn.Linear], nn.Module] = lambda dense: rescaled(dense, FAMILIES[layer]())  # noqa: E731
    if layer in ("orthogonal", "manifold"):
        make = lambda dense: orthogonal(dense, "manifold" if layer == "manifold" else "cayley")  # noqa: E731
    layers: list[nn.Module] = [nn.Flatten(), PadChannels(width - features)]
    for _ in range(depth):
        dense = nn.Linear(width, width)
        with torch.no_grad():
            nn.init.eye_(dense.weight)
            nn.init.zeros_(dense.bias)
        layers += [make(dense), MaxMin()]
    return nn.Sequential(*layers, LastLayerNormalised(width, classes))
