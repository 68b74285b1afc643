"""Images that are certified: out of a .npz file of test images, and in the order in which a network takes them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from torch import Tensor

    from sdplip.network.graph import Shape

CHANNELS = (1, 3)
"""Numbers of channels by which an axis of channels is recognised, as in data sets to train on."""


def read_samples(path: Path) -> "tuple[Tensor, Tensor]":
    """Images, channels first where they have channels, and labels of the test split of a .npz file.

    Raises:
        UsageError: no labels; numbers outside of [0, 1], of which radii are distances.
        UnreadableFile: missing, damaged, no images.
    """
    import torch

    from sdplip.verifier.images import NAMES, read_images

    found = read_images(path)
    if found.labels is None:
        raise click.UsageError(
            f"`{path}` holds images but no labels. Save `labels` beside `images` ({', '.join(a for a, _ in NAMES)})."
        )
    x = found.x
    if x.dtype.kind == "f" and not (x.min() >= 0 and x.max() <= 1):
        raise click.UsageError(
            f"Images of `{path}` lie between {float(x.min()):.6g} and {float(x.max()):.6g}, but radii are distances of images in"
            " [0, 1]. Save bytes (uint8), or divide them."
        )
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
        x = x.transpose(0, 3, 1, 2)
    return torch.from_numpy(x.copy()), torch.from_numpy(found.labels)


def arranged(images: "Tensor", shape: "Shape") -> "tuple[Tensor, tuple[str, ...]]":
    """The images in the order in which a network with inputs of that shape takes their numbers, and what was assumed.

    Raises:
        UsageError: the network takes something else.
    """
    own, wanted = tuple(images.shape[1:]), tuple(shape)
    if own == wanted or _squeezed(own) == _squeezed(wanted):
        return images.reshape(len(images), *wanted), ()
    if len(own) == 3 and wanted == (*own[1:], own[0]):
        return images.permute(0, 2, 3, 1).contiguous(), ()
    if images[0].numel() != _size(wanted) or len(_squeezed(wanted)) > 1:
        raise click.UsageError(
            f"The network cannot run on images of shape {own}: it takes {wanted}. Certify it on the data it was made for."
        )
    order = "Images enter the network row by row, channels first, which is assumed." if own[0] > 1 else ""
    return images, (order,) if order else ()


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _size(shape: tuple[int, ...]) -> int:
    from math import prod

    return prod(shape)
