"""What `certify_dense` asks of images and masks, which may differ in size."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.errors import InvalidProblem
from sdplip.kernel.pixels import IGNORED
from sdplip.nn.given import tensor
from sdplip.robustness.arithmetic import Precision, device_of, pixels
from sdplip.shapes import said


def samples(
    images: Tensor | Sequence[Tensor], masks: Tensor | Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Images and masks one by one.

    Raises:
        InvalidProblem: of a number, a type or a shape that does not fit.
    """
    for name, value in (("images", images), ("masks", masks)):
        if not hasattr(value, "__iter__") or isinstance(value, str | dict):
            raise InvalidProblem(f"`{name}` must be a tensor, or a sequence of them, but is {said(value)}.")
    x, y = [tensor("images", one) for one in images], [tensor("masks", one) for one in masks]
    if not x or len(x) != len(y):
        raise InvalidProblem(
            f"{len(x)} images and {len(y)} masks do not fit together. Pass one mask an image."
        )
    for image, mask in zip(x, y, strict=True):
        if image.ndim < 2 or (
            image.dtype != torch.uint8 and not (image.is_floating_point() and bool(image.isfinite().all()))
        ):
            raise InvalidProblem(
                f"Each image must be uint8 or finite floating-point numbers of shape (channels, *pixels), but one is {image.dtype}"
                f" of shape {tuple(image.shape)}."
            )
        if mask.is_floating_point() or mask.is_complex():
            raise InvalidProblem(
                f"Masks must be whole numbers, the class of each pixel, but are {mask.dtype}."
            )
    return x, y


def check_outputs(network: nn.Module, x: list[Tensor], y: list[Tensor], precision: Precision) -> int:
    """The number of logits a pixel; one image of each size is run.

    Raises:
        InvalidProblem: outputs that do not fit the masks.
    """
    tried, classes = set[tuple[tuple[int, ...], tuple[int, ...]]](), 0
    for image, mask in zip(x, y, strict=True):
        if (tuple(image.shape), tuple(mask.shape)) in tried:
            continue
        tried.add((tuple(image.shape), tuple(mask.shape)))
        try:
            out = network(pixels(image[None].to(device_of(network)), precision))
        except (RuntimeError, ValueError, IndexError) as error:
            raise InvalidProblem(
                f"The network cannot run on an image of shape {tuple(image.shape)}: {error}. Certify it on the data it was made for."
            ) from None
        if out.ndim < 3 or len(out) != 1 or out.shape[2:] != mask.shape:
            raise InvalidProblem(
                f"The network returns {tuple(out.shape)}, which does not fit masks of shape {tuple(mask.shape)}. It must return"
                " (n, classes, *pixels), with one class a pixel of the mask."
            )
        classes = int(out.shape[1])
    return classes


def check_labels(label: np.ndarray, classes: int, *, allowed: bool) -> None:
    """Refuses classes that the network does not have; `IGNORED` is `allowed` or not.

    Raises:
        InvalidProblem: there are some.
    """
    counted = label[label != IGNORED] if allowed else label
    if counted.size and not 0 <= int(counted.min()) <= int(counted.max()) < classes:
        raise InvalidProblem(
            f"Masks hold classes between {int(counted.min())} and {int(counted.max())}, but the network has {classes}. Say"
            " `ignore=255`, or whatever label does not count."
        )


def batches(x: list[Tensor], batch: int) -> list[list[int]]:
    """Indices of neighbours of one size, at most `batch` of them, in order."""
    groups = list[list[int]]()
    for i, image in enumerate(x):
        last = groups[-1] if groups else []
        if last and len(last) < batch and x[last[0]].shape == image.shape and x[last[0]].dtype == image.dtype:
            last.append(i)
        else:
            groups.append([i])
    return groups


def at_least(eps: float | Fraction | str) -> float:
    """The radius as a double, rounded up.

    Raises:
        InvalidProblem: no number, or negative.
    """
    try:
        exact = Fraction(eps)
        nearest = float(exact)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise InvalidProblem(
            f"A radius must be a number or a fraction such as '36/255', but is {eps!r}."
        ) from None
    if exact < 0:
        raise InvalidProblem(f"A radius must not be negative, but is {eps}.")
    return nearest if Fraction(nearest) >= exact else float(np.nextafter(nearest, np.inf))
