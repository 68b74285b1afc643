"""Means and maxima over windows of entries, given by an index array: pooling of every kind."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.operators.indices import Gather
from sdplip.network.operators.linear import AbstractLinear, Rows, Vector
from sdplip.shapes import Float, Int, short

Windows = Int[np.ndarray, "outputs size"]


def pooling_windows(
    channels: int,
    image_size: tuple[int, ...],
    window: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...] | None = None,
    *,
    output_size: tuple[int, ...] | None = None,
) -> Windows:
    """Entries of each window on images flattened channels first; -1 where a window leaves the image.

    `output_size` is for `ceil_mode`, where windows may begin in the image and end behind the padding.

    Raises:
        InvalidWeight: numbers that contradict each other, a window without a pixel.
    """
    axes, dilation = len(image_size), dilation or (1,) * len(image_size)
    if (
        not (len(window) == len(stride) == len(pads) == len(dilation) == axes)
        or min(*window, *stride, *dilation) < 1
    ):
        raise InvalidWeight(
            f"A pooling layer needs positive whole numbers on each image axis, but has {window}, {stride}."
        )
    if output_size is None:
        output_size = tuple(
            (h + sum(p) - d * (k - 1) - 1) // s + 1
            for h, p, d, k, s in zip(image_size, pads, dilation, window, stride, strict=True)
        )
    if min(output_size) < 1:
        raise InvalidWeight(f"Pooling windows {window} do not fit an image of {image_size} pixels.")
    flat = np.zeros((1, 1), np.intp)
    outside = np.zeros((1, 1), bool)
    for h, (before, _), d, k, s, n in zip(
        image_size, pads, dilation, window, stride, output_size, strict=True
    ):
        at = np.arange(n)[:, None] * s - before + np.arange(k) * d
        out = (at < 0) | (at >= h)
        flat = (flat[:, None, :, None] * h + np.clip(at, 0, h - 1)[None, :, None, :]).reshape(
            len(flat) * n, flat.shape[1] * k
        )
        outside = (outside[:, None, :, None] | out[None, :, None, :]).reshape(flat.shape)
    if outside.all(1).any():
        raise InvalidWeight(
            f"Some pooling window {window} with padding {pads} lies outside of the image {image_size}."
        )
    pixels = int(np.prod(image_size))
    every = (np.arange(channels) * pixels)[:, None, None] + flat
    return np.where(outside, -1, every).reshape(channels * len(flat), -1)


@dataclass(frozen=True, eq=False)
class Average(AbstractLinear):
    r"""$y_i = \frac{1}{n_i} \sum_k x_{\mathrm{index}_{ik}}$; -1 reads 0.

    Attributes:
        index: entries of each window.
        divisor: $n_i$: the size of the window, or its pixels within the image where padding does not count.
        length: of the input.
    """

    index: Windows
    divisor: Float[np.ndarray, " outputs"]
    length: int
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        check_windows(self.index, self.length)
        if self.divisor.shape != self.index.shape[:1] or not (self.divisor >= 1).all():
            raise InvalidWeight("Means over windows need one divisor of at least 1 for each window.")
        assert self.b is None, "a mean has no shift"

    @property
    def error(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The entries 1 / n are rounded unless n is a power of two."""
        return 0.0 if (np.frexp(self.divisor)[0] == 0.5).all() else 2.0**-53

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return len(self.index)

    @property
    def terms(self) -> int:
        return self.index.shape[1] + 1

    @property
    def adjoint_terms(self) -> int:
        return self._adjoint.most + 1

    def apply(self, x: Rows) -> Rows:
        return np.where(self.index < 0, 0.0, x[..., self.index]).sum(-1) / self.divisor

    def adjoint(self, y: Rows) -> Rows:
        shares = np.broadcast_to((y / self.divisor)[..., None], (*y.shape, self.index.shape[1]))
        return self._adjoint.adjoint(shares.reshape(*y.shape[:-1], -1))

    def absolute(self) -> "Average":
        return self

    @cached_property
    def _adjoint(self) -> Gather:
        return Gather(self.index.reshape(-1), self.length)


@dataclass(frozen=True, eq=False)
class Maximum:
    r"""$y_i = \max_k x_{\mathrm{index}_{ik}}$ over windows of entries; -1 is left out.

    Not wider than the number of windows that an entry may lie in: $\lVert \Delta y \rVert^2 \le$ `overlap`
    $\lVert \Delta x \rVert^2$.
    """

    index: Windows
    length: int

    __repr__ = short

    def __post_init__(self) -> None:
        check_windows(self.index, self.length)

    @property
    def inputs(self) -> int:
        return self.length

    @property
    def outputs(self) -> int:
        return len(self.index)

    @cached_property
    def overlap(self) -> int:
        """In how many windows one entry lies at most."""
        return Gather(self.index.reshape(-1), self.length).most

    def value(self, x: Rows) -> Rows:
        return np.where(self.index < 0, -np.inf, x[..., self.index]).max(-1)


def check_windows(index: Windows, length: int) -> None:
    """Raises:
    InvalidWeight: no array of windows of entries of an input of this length, a window without entries.
    """
    if index.ndim != 2 or not index.size or index.dtype.kind not in "iu":
        raise InvalidWeight(
            f"Windows need an array of whole numbers (outputs, size), but have shape {index.shape}."
        )
    if index.min() < -1 or index.max() >= length or (index < 0).all(1).any():
        raise InvalidWeight(f"Windows must hold entries from 0 to {length - 1}, at least one each.")
