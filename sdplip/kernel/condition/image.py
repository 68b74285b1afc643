r"""Lower bounds of a convolution on an image of given size, padding and cropping included: a witness image and its proven stretch."""

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from sdplip.arithmetic.powers import near_one, nonzero, split, times_below
from sdplip.arithmetic.rayleigh import quotient
from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import ExpandedGeometry
from sdplip.kernel.condition.certificate import Form
from sdplip.network import AbstractLinear, Convolution, Gather, Transposed
from sdplip.network.operators.linear import Rows, Vector
from sdplip.shapes import Float


@dataclass(frozen=True, eq=False)
class PaddedConvolution(AbstractLinear):
    """An index map that pads, and a convolution without padding behind it."""

    pad: Gather
    convolution: Convolution
    b: Vector | None = field(default=None, init=False)

    @property
    def inputs(self) -> int:
        return self.pad.inputs

    @property
    def outputs(self) -> int:
        return self.convolution.outputs

    @property
    def terms(self) -> int:
        return self.convolution.terms

    @property
    def adjoint_terms(self) -> int:
        return self.convolution.adjoint_terms + self.pad.adjoint_terms

    def apply(self, x: Rows) -> Rows:
        return self.convolution.apply(self.pad.apply(x))

    def adjoint(self, y: Rows) -> Rows:
        return self.pad.adjoint(self.convolution.adjoint(y))

    def absolute(self) -> "PaddedConvolution":
        return replace(self, convolution=self.convolution.absolute())


@dataclass(frozen=True, eq=False)
class Picture:
    r"""The linear map of which a witness image is stretched, brought near 1: C with the metric of T on its inputs, or $C^\top$.

    The residual form asks for $\lVert T^{-1/2} C \rVert = \lVert C^\top T^{-1/2} \rVert$: its witness is an image of hidden units.

    Attributes:
        map: C or its transpose, scaled.
        tau: the metric, one number an input of `map`.
        shape: of a witness, `(channels, *pixels)`.
        exponent: the power of two that was taken out.
    """

    map: AbstractLinear
    tau: Vector
    shape: tuple[int, ...]
    exponent: int

    def stretch(self, image: Float[np.ndarray, "channels *pixels"]) -> float:
        """Proven lower bound of c from one image, 0 where it proves nothing.

        Raises:
            NotProvable: the image has another shape, or is no array of finite real numbers.
        """
        image = np.asarray(image)
        v = image.reshape(-1) if image.shape == self.shape else image  # any other shape is refused there
        found = quotient(self.map, v, self.tau)
        return times_below(found, self.exponent)


def picture(K: np.ndarray, t: np.ndarray, geometry: ExpandedGeometry, form: Form) -> Picture:
    """The map of a kernel on images of the size that `geometry` has.

    Raises:
        UnsupportedConvolution: no output pixel is left.
    """
    shape = witness_shape(K, geometry, form)
    assert geometry.image_size is not None, "a picture has a size"
    f, E = split(t)
    e = np.where(nonzero(t), E // 2, 0)
    tau = np.where(nonzero(t), np.ldexp(f, E - 2 * e), 1.0)
    taps = tuple(range(2, K.ndim))
    if form == "linear":  # input channel j of group g is channel g * in_per_group + j of t
        of_kernel = np.repeat(e.reshape(geometry.groups, -1), len(K) // geometry.groups, 0)
        B, exponent = near_one(K, of_kernel.reshape(*K.shape[:2], *(1,) * len(taps)), taps)
    else:
        B, exponent = near_one(K, e.reshape(-1, *(1,) * (K.ndim - 1)), tuple(range(1, K.ndim)))
    C = padded_convolution(B, geometry)
    return Picture(C if form == "linear" else Transposed(C), np.repeat(tau, prod(shape[1:])), shape, exponent)


def witness_shape(K: np.ndarray, geometry: ExpandedGeometry, form: Form) -> tuple[int, ...]:
    """Of a witness image: what the convolution takes, or makes in the residual form. Nothing is allocated.

    Raises:
        UnsupportedConvolution: no output pixel is left.
    """
    assert geometry.image_size is not None, "an image has a size"
    axes = zip(
        geometry.image_size,
        geometry.pads(K.shape),
        geometry.dilation,
        K.shape[2:],
        geometry.stride,
        strict=True,
    )
    size = tuple((h + sum(p) - d * (k - 1) - 1) // s + 1 for h, p, d, k, s in axes)
    if min(size) < 1:
        raise UnsupportedConvolution("No output pixel is left.")
    return (K.shape[1] * geometry.groups, *geometry.image_size) if form == "linear" else (len(K), *size)


def largest_image(K: np.ndarray, geometry: ExpandedGeometry) -> int:
    """Entries of the largest image on the way from input to output."""
    assert geometry.image_size is not None, "an image has a size"
    padded = (h + sum(p) for h, p in zip(geometry.image_size, geometry.pads(K.shape), strict=True))
    return max(K.shape[1] * geometry.groups * prod(padded), prod(witness_shape(K, geometry, "residual")))


def padded_convolution(B: np.ndarray, geometry: ExpandedGeometry) -> PaddedConvolution:
    """The convolution by `B` on images of one size, zero or circular padding of any amount.

    Raises:
        UnsupportedConvolution: no output pixel is left.
    """
    size = geometry.image_size
    assert size is not None, "an image has a size"
    pads = geometry.pads(B.shape)
    padded = tuple(h + a + b for h, (a, b) in zip(size, pads, strict=True))
    witness_shape(B, geometry, "linear")
    index = np.arange(B.shape[1] * geometry.groups * prod(size)).reshape(-1, *size)
    if geometry.padding_mode == "circular":
        index = np.pad(index, ((0, 0), *pads), mode="wrap")
    else:
        index = np.pad(index, ((0, 0), *pads), constant_values=-1)
    axes = len(size)
    C = Convolution(B, padded, geometry.stride, ((0, 0),) * axes, geometry.dilation, geometry.groups)
    return PaddedConvolution(Gather(index.reshape(-1), B.shape[1] * geometry.groups * prod(size)), C)
