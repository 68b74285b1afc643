"""Pooling as layers of a network: the mean over windows, which is linear, and the maximum, which is not."""

from dataclasses import dataclass
from itertools import product
from math import ceil, prod

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidWeight


@dataclass(frozen=True)
class _Pool:
    """Windows on the flattened channels of an image; `padding` pixels on both sides of each axis, incomplete windows dropped."""

    channels: int
    image_size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def __post_init__(self) -> None:
        fields = (self.image_size, self.window, self.stride, self.padding)
        if (
            len({len(field) for field in fields}) != 1
            or min(map(min, fields[:3])) < 1
            or min(self.padding) < 0
        ):
            raise InvalidWeight(
                f"A pooling layer needs positive whole numbers on each image axis, but has {fields}."
            )
        if min(self.output_size) < 1 or any(
            2 * p > k for p, k in zip(self.padding, self.window, strict=True)
        ):
            raise InvalidWeight(
                f"Pooling windows {self.window} with padding {self.padding} do not fit an image of {self.image_size} pixels."
            )

    @property
    def output_size(self) -> tuple[int, ...]:
        """Output pixels on each axis."""
        axes = zip(self.image_size, self.padding, self.window, self.stride, strict=True)
        return tuple((h + 2 * p - k) // s + 1 for h, p, k, s in axes)

    @property
    def inputs(self) -> int:
        return self.channels * prod(self.image_size)

    @property
    def outputs(self) -> int:
        return self.channels * prod(self.output_size)

    @property
    def windows(self) -> Float[np.ndarray, "windows pixels"]:
        """Which pixels of one channel each window sees: 0 or 1."""
        seen = np.zeros((prod(self.output_size), prod(self.image_size)))
        for row, place in enumerate(product(*map(range, self.output_size))):
            axes = zip(place, self.stride, self.padding, self.window, self.image_size, strict=True)
            ranges = [range(max(0, v * s - p), min(h, v * s - p + k)) for v, s, p, k, h in axes]
            seen[row, np.ravel_multi_index(tuple(np.array(list(product(*ranges))).T), self.image_size)] = 1
        return seen

    @property
    def overlap(self) -> int:
        """In how many windows one pixel may lie."""
        return prod(ceil(k / s) for k, s in zip(self.window, self.stride, strict=True))


@dataclass(frozen=True)
class AveragePool(_Pool):
    """The mean of every window; padded pixels count as zeros (`count_padding`), or not at all."""

    count_padding: bool = True

    def matrix(self) -> Float[np.ndarray, "outputs inputs"]:
        """The dense matrix, entries rounded to nearest: exact for windows of a power of two pixels."""
        seen = self.windows
        count = prod(self.window) if self.count_padding else seen.sum(1, keepdims=True)
        return np.kron(np.eye(self.channels), seen / count)


@dataclass(frozen=True)
class MaxPool(_Pool):
    r"""The maximum of every window. $\lVert \Delta z \rVert^2 \le$ `overlap` $\lVert \Delta y \rVert^2$: nonexpansive if no
    windows overlap."""
