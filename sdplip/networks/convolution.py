"""A convolution as a layer of a network: kernel, geometry with the size of its image, and the matrix that it is."""

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
from jaxtyping import Float, Int

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution on images of one size, flattened channels first and then pixel rows, as torch does.

    Attributes:
        K: kernel `(out, in / groups, *taps)` with one to three image axes.
        geometry: stride, padding (zeros, none, circular), dilation, groups, and the size of the input image.
        b: bias, one entry a channel; None is 0.

    Raises:
        InvalidWeight: no image size, an image smaller than the kernel, a bias that does not fit.
        UnsupportedConvolution: reflect or replicate padding, or numbers that contradict the kernel.
    """

    K: Float[np.ndarray, "out in_per_group *taps"]
    geometry: Geometry
    b: Float[np.ndarray, " out"] | None = None

    def __post_init__(self) -> None:
        if self.K.ndim not in (3, 4, 5) or 0 in self.K.shape:
            raise InvalidWeight(
                f"A kernel must have shape (out, in / groups, *taps) with one to three image axes, but has {self.K.shape}."
            )
        object.__setattr__(self, "geometry", self.geometry.expand(self.K.shape))
        if self.geometry.image_size is None:
            raise InvalidWeight(
                f"A convolution in a network needs the size of its image, but for the kernel of shape {self.K.shape} none is"
                " known. Pass the image size of the input, `--image-size` at the command line."
            )
        if min(self.output_size) < 1 or (self.circular and any(np.array(self.reach) >= self.image_size)):
            raise InvalidWeight(
                f"A kernel that reaches {self.reach} pixels does not fit an image of {self.image_size} pixels."
                " Check image size, stride and padding."
            )
        if self.b is not None and (np.shape(self.b) != self.K.shape[:1] or not np.isfinite(self.b).all()):
            raise InvalidWeight(f"The bias of a convolution must hold {len(self.K)} finite numbers.")

    @property
    def image_size(self) -> tuple[int, ...]:
        """Input pixels on each axis."""
        size = self.geometry.image_size
        assert size is not None
        return tuple(size)

    @property
    def circular(self) -> bool:
        return self.geometry.padding_mode == "circular"

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels between the first and the last tap."""
        return tuple(
            d * (k - 1) for d, k in zip(_tuple(self.geometry.dilation), self.K.shape[2:], strict=True)
        )

    @property
    def before(self) -> tuple[int, ...]:
        """Padded pixels in front of each axis; an odd pixel of "same" goes last, as in torch."""
        padding = self.geometry.padding
        return tuple(r // 2 for r in self.reach) if padding is None else _tuple(padding)

    @property
    def output_size(self) -> tuple[int, ...]:
        """Output pixels on each axis."""
        padding = self.geometry.padding
        both = self.reach if padding is None else tuple(2 * p for p in _tuple(padding))
        axes = zip(self.image_size, both, self.reach, _tuple(self.geometry.stride), strict=True)
        return tuple((h + p - r - 1) // s + 1 for h, p, r, s in axes)

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.K.shape[1] * self.geometry.groups

    @property
    def inputs(self) -> int:
        return self.channels * prod(self.image_size)

    @property
    def outputs(self) -> int:
        return len(self.K) * prod(self.output_size)

    def entries(self) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"], Float[np.ndarray, " e"]]:
        """Rows, columns and values of the matrix of the layer, every place once; values bit for bit those of the kernel."""
        groups, size, h = self.geometry.groups, self.output_size, self.image_size
        m, n = len(self.K) // groups, self.K.shape[1]
        K = np.asarray(self.K, np.float64)
        places = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).reshape(prod(size), -1)
        row, column = (
            (np.arange(len(self.K)) * prod(size))[:, None, None],
            np.arange(n)[None, :, None] * prod(h),
        )
        column = column + (np.arange(len(self.K)) // m * n * prod(h))[:, None, None]
        found = []
        for tap in product(*map(range, self.K.shape[2:])):
            read = (
                places * _tuple(self.geometry.stride) + np.multiply(tap, self.geometry.dilation) - self.before
            )
            read = read % h if self.circular else read
            (inside,) = np.nonzero(((read >= 0) & (read < h)).all(1))
            pixels = np.ravel_multi_index(tuple(read[inside].T), h)
            parts = np.broadcast_arrays(row + inside, column + pixels, K[:, :, *tap][..., None])
            found.append([part.reshape(-1) for part in parts])
        rows, columns, values = (np.concatenate(part) for part in zip(*found, strict=True))
        return rows, columns, values

    def matrix(self) -> Float[np.ndarray, "outputs inputs"]:
        """The dense matrix of the layer."""
        W = np.zeros((self.outputs, self.inputs))
        rows, columns, values = self.entries()
        W[rows, columns] = values
        return W

    def bias(self) -> Float[np.ndarray, " outputs"] | None:
        """The bias of each output pixel."""
        return None if self.b is None else np.repeat(np.asarray(self.b, np.float64), prod(self.output_size))

    def on(self, image_size: tuple[int, ...]) -> "Convolution":
        """The same convolution on images of another size."""
        return replace(self, geometry=replace(self.geometry, image_size=image_size))


def _tuple(axes: int | tuple[int, ...]) -> tuple[int, ...]:
    assert isinstance(axes, tuple), "Geometry.expand returns tuples"
    return axes
