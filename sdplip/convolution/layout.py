"""A `Geometry` together with its kernel: every number spelled out on every image axis, padding resolved."""

from dataclasses import dataclass, replace
from math import gcd
from typing import Literal

from jaxtyping import Float

from sdplip.condition import Array
from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Axes, Geometry

Form = Literal["linear", "residual"]
"""Which layer the scaling is for: `conv(x * t**-0.5)`, or the residual layer of SLL and CPL."""

EVERY_SIZE = Geometry()
"""Stride 1, zero padding, every image size."""


@dataclass(frozen=True)
class Layout:
    """What a convolution does on each image axis; `before` and `both_sides` count padded pixels."""

    taps: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    both_sides: tuple[int, ...]
    image_size: tuple[int, ...] | None
    circular: bool
    groups: int

    @property
    def reach(self) -> tuple[int, ...]:
        """Pixels between the first and the last tap."""
        return tuple(d * (k - 1) for d, k in zip(self.dilation, self.taps, strict=True))

    @property
    def output_size(self) -> tuple[int, ...] | None:
        r"""Output pixels, $\lfloor (h + 2p - d(k-1) - 1) / s \rfloor + 1$; None if the image size is not known.

        Raises:
            UnsupportedConvolution: the dilated kernel does not fit into the padded image.
        """
        if self.image_size is None:
            return None
        axes = zip(self.image_size, self.both_sides, self.reach, self.stride, strict=True)
        size = tuple((h + p - r - 1) // s + 1 for h, p, r, s in axes)
        if min(size) < 1:
            raise UnsupportedConvolution(
                f"A kernel that reaches {self.reach} pixels does not fit into an image of {self.image_size} pixels"
                f" with {self.both_sides} padded ones. Pass the image size and padding of the layer."
            )
        return size

    @property
    def period(self) -> tuple[int, ...] | None:
        """Steps of the stride after which a circular convolution repeats; None if it never does."""
        if self.image_size is None or not self.circular:
            return None
        return tuple(h // s for h, s in zip(self.image_size, self.stride, strict=True))

    @property
    def stationary(self) -> "Layout":
        r"""The layout of smaller, equal copies that this convolution consists of, or is a part of. `t` is theirs too.

        Circular on a known image: nothing changes. Otherwise the dilation $d$ goes: on the infinite image the outputs $v$
        of one residue modulo $d / g$, $g = \gcd(s, d)$, read pixels of one residue modulo $d$ that no others read, and
        in steps of $d$ they see a convolution of stride $s / g$ without dilation, on at most $\lceil h / d \rceil$ pixels.
        "Every image size" of a circular convolution includes sizes that the stride does not divide: there the outputs are
        a selection of those of stride 1, which only shrinks $C^\top C$ and takes a submatrix of $C C^\top$.
        """
        if self.circular and self.image_size:
            return self
        ones = (1,) * len(self.taps)
        stride = tuple(s // gcd(s, d) for s, d in zip(self.stride, self.dilation, strict=True))
        h = self.image_size and tuple(-(-h // d) for h, d in zip(self.image_size, self.dilation, strict=True))
        return replace(self, stride=ones if self.circular else stride, dilation=ones, image_size=h)


def layout(K: Float[Array, "out channels *taps"], geometry: Geometry) -> Layout:
    """The layout of a convolution.

    Raises:
        InvalidWeight: `K` has no or more than three image axes.
        UnsupportedConvolution: no theorem covers the padding mode, or the numbers contradict the kernel.
    """
    if K.ndim not in (3, 4, 5) or 0 in K.shape:
        raise InvalidWeight(
            "`K` must have shape (out, in / groups, *taps) with one to three image axes, none of them empty, but has"
            f" shape {tuple(K.shape)}. Use `sdplip.scalings` for a matrix."
        )
    geometry = geometry.expand(K.shape)
    taps, dilation = tuple(K.shape[2:]), _tuple(geometry.dilation)
    reach = tuple(d * (k - 1) for d, k in zip(dilation, taps, strict=True))
    each_side = None if geometry.padding is None else _tuple(geometry.padding)
    return Layout(
        taps=taps,
        stride=_tuple(geometry.stride),
        dilation=dilation,
        before=each_side or tuple(r // 2 for r in reach),  # an odd pixel of "same" goes last, as in torch
        both_sides=tuple(2 * p for p in each_side) if each_side else reach,
        image_size=geometry.image_size,
        circular=geometry.padding_mode == "circular",
        groups=geometry.groups,
    )


def channels(K: Float[Array, "out channels *taps"], geometry: Geometry, form: Form) -> int:
    """Length of `t`: the output channels for the residual form, all input channels for the linear form."""
    if form not in ("linear", "residual"):
        raise ValueError(f'`form` must be "linear" or "residual", but is {form!r}.')
    return K.shape[0] if form == "residual" else layout(K, geometry).groups * K.shape[1]


def _tuple(axes: Axes) -> tuple[int, ...]:
    assert isinstance(axes, tuple), "Geometry.expand returns tuples"
    return axes
