"""A convolution on images of one size, as a linear map that never becomes dense by itself."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.network.operators.linear import AbstractLinear, Rows, Vector, finite, set_shift
from sdplip.shapes import Float, short

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Convolution(AbstractLinear):
    """Images flattened channels first, then pixel rows, as torch and ONNX have them.

    Attributes:
        K: kernel `(out, in / groups, *taps)` with one to three image axes.
        image_size: input pixels on each axis.
        stride, dilation: one number an axis.
        pads: pixels added before and after each axis.
        groups: channel groups, as in torch.
        circular: whether the pixels added are those of the other side, else zeros; then no output pixel may stand twice.
        b: one entry for each output pixel of each channel; None is 0.

    Raises:
        InvalidWeight: shapes that contradict each other, an image smaller than the kernel.
        UnsupportedConvolution: circular padding that repeats output pixels.
    """

    K: Float[np.ndarray, "out in_per_group *taps"]
    image_size: tuple[int, ...]
    stride: tuple[int, ...]
    pads: Pads
    dilation: tuple[int, ...]
    groups: int = 1
    circular: bool = False
    b: Vector | None = None

    __repr__ = short

    def __post_init__(self) -> None:
        K = finite("A convolution kernel", self.K)
        axes = K.ndim - 2
        fields = (self.image_size, self.stride, self.pads, self.dilation)
        pairs = all(len(pad) == 2 for pad in self.pads)
        if axes not in (1, 2, 3) or 0 in K.shape or not pairs or any(len(field) != axes for field in fields):
            raise InvalidWeight(
                f"A kernel must have shape (out, in / groups, *taps) with one to three image axes, but has {K.shape}; image size,"
                f" stride, padding (a pair) and dilation {fields} need one entry an axis."
            )
        if (
            min(map(min, (self.image_size, self.stride, self.dilation))) < 1
            or min(map(min, self.pads)) < 0
            or self.groups < 1
            or len(K) % self.groups
        ):
            raise InvalidWeight(
                f"Numbers of a convolution contradict each other: {fields}, groups {self.groups}."
            )
        object.__setattr__(self, "K", K)
        if min(self.output_size) < 1:
            raise InvalidWeight(
                f"A kernel that reaches {self.reach} pixels does not fit an image of {self.image_size} pixels with padding"
                f" {self.pads}. Check image size, stride and padding."
            )
        if self.circular and any(
            sum(p) > r or r >= h or h % s
            for p, r, h, s in zip(self.pads, self.reach, self.image_size, self.stride, strict=True)
        ):
            raise UnsupportedConvolution(
                f"Circular padding {self.pads} of a kernel that reaches {self.reach} pixels on {self.image_size} with stride"
                f" {self.stride} is no circulant. Pad with an index map in front instead."
            )
        set_shift(self, self.outputs)

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.K.shape[1] * self.groups

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels between the first and the last tap."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.K.shape[2:], strict=True))

    @property
    def output_size(self) -> tuple[int, ...]:
        """Output pixels on each axis."""
        axes = zip(self.image_size, self.pads, self.reach, self.stride, strict=True)
        return tuple((h + sum(p) - r - 1) // s + 1 for h, p, r, s in axes)

    @property
    def inputs(self) -> int:
        return self.channels * prod(self.image_size)

    @property
    def outputs(self) -> int:
        return len(self.K) * prod(self.output_size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one output sample, `(channels, *pixels)`."""
        return (len(self.K), *self.output_size)

    @property
    def terms(self) -> int:
        return prod(self.K.shape[1:])

    @property
    def adjoint_terms(self) -> int:
        return len(self.K) // self.groups * prod(self.K.shape[2:])

    def geometry(self, *, every_size: bool = False) -> Geometry:
        """For proofs of upper sides, which hold for every padding with zeros and every crop: padding is left out.

        Never for a lower side, which would be one of the padding "same".
        """
        mode = "circular" if self.circular else "zeros"
        size = None if every_size else self.image_size
        return Geometry(self.stride, mode, None, self.dilation, self.groups, size)

    def apply(self, x: Rows) -> Rows:
        batch, K = x.shape[:-1], self._grouped
        x = self._padded(x.reshape(-1, self.channels, *self.image_size))
        x = x.reshape(len(x), self.groups, -1, *x.shape[2:])
        size, found = self.output_size, np.zeros((len(x), self.groups, K.shape[1], prod(self.output_size)))
        for tap in np.ndindex(*self.K.shape[2:]):
            part = x[(slice(None), slice(None), slice(None), *self._window(tap, size))]
            found += K[:, :, :, *tap] @ part.reshape(*part.shape[:3], -1)
        return found.reshape(*batch, -1)

    def adjoint(self, y: Rows) -> Rows:
        batch, K = y.shape[:-1], self._grouped
        y = y.reshape(-1, self.groups, K.shape[1], prod(self.output_size))
        padded = tuple(h + sum(p) for h, p in zip(self.image_size, self.pads, strict=True))
        found = np.zeros((len(y), self.groups, K.shape[2], *padded))
        for tap in np.ndindex(*self.K.shape[2:]):
            part = K[:, :, :, *tap].mT @ y
            window = (slice(None), slice(None), slice(None), *self._window(tap, self.output_size))
            found[window] += part.reshape(*part.shape[:3], *self.output_size)
        return self._folded(found.reshape(len(y), self.channels, *padded)).reshape(*batch, -1)

    def absolute(self) -> "Convolution":
        return self._absolute

    @cached_property
    def _absolute(self) -> "Convolution":
        return replace(self, K=abs(self.K), b=None if self.b is None else abs(self.b))

    @cached_property
    def _grouped(self) -> Float[np.ndarray, "groups out in *taps"]:
        return self.K.reshape(self.groups, -1, *self.K.shape[1:])

    def _window(self, tap: tuple[int, ...], size: tuple[int, ...]) -> list[slice]:
        """Padded pixels that a tap reads, one an output pixel."""
        axes = zip(tap, self.dilation, self.stride, size, strict=True)
        return [slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in axes]

    def _padded(
        self, x: Float[np.ndarray, "batch channels *pixels"]
    ) -> Float[np.ndarray, "batch channels *padded"]:
        if not any(map(sum, self.pads)):
            return x
        return np.pad(x, ((0, 0), (0, 0), *self.pads), mode="wrap" if self.circular else "constant")

    def _folded(
        self, y: Float[np.ndarray, "batch channels *padded"]
    ) -> Float[np.ndarray, "batch channels *pixels"]:
        """The adjoint of `_padded`."""
        for axis, ((before, after), h) in enumerate(zip(self.pads, self.image_size, strict=True), 2):
            y = np.moveaxis(y, axis, 0)
            inner = y[before : before + h].copy()
            if self.circular:
                inner[h - before :] += y[:before]
                inner[:after] += y[before + h :]
            y = np.moveaxis(inner, 0, axis)
        return y


def pixels_bias(b: Float[np.ndarray, " channels"] | None, size: tuple[int, ...]) -> Vector | None:
    """The bias of each output pixel of each channel."""
    return None if b is None else np.repeat(np.asarray(b, np.float64), prod(size))
