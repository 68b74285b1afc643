"""A weight together with the statement that is asked about it: the one place where files meet the orientation of the papers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.condition import inverse_scaling, rescale
from sdplip.display import equal, hashed
from sdplip.errors import SdplipError
from sdplip.geometry import ExpandedGeometry, Geometry
from sdplip.kernel.condition import Certificate, Form
from sdplip.proposals import certify, certify_convolution
from sdplip.shapes import short
from sdplip.weights import Weight


@dataclass(frozen=True, eq=False)
class Layer:
    r"""A weight as the theorem sees it.

    A file stores `(out, in, *taps)`. The linear layer has $W$ = the array and $t$ on its inputs; the residual layer
    $x - 2 W T^{-1} \sigma(W^\top x + b)$ has $W$ = the transposed array `(features, hidden)` and $t$ on the hidden units.
    """

    weight: Weight
    form: Form = "linear"

    __repr__ = short
    __eq__ = equal
    __hash__ = hashed

    @property
    def name(self) -> str:
        return self.weight.name

    @property
    def is_convolution(self) -> bool:
        return self.weight.array.ndim > 2

    @property
    def geometry(self) -> ExpandedGeometry:
        """How the convolution moves, every axis spelled out.

        Raises:
            UnsupportedConvolution: no theorem covers it.
        """
        return (self.weight.geometry or Geometry()).expand(self.weight.array.shape)

    @property
    def K(self) -> Float[np.ndarray, "out in *taps"]:
        """The kernel in double precision."""
        return self.weight.array.astype(np.float64)

    @property
    def W(self) -> Float[np.ndarray, "m n"]:
        """The matrix of $W^T W$ in double precision; only of a dense layer."""
        return self.K if self.form == "linear" else self.K.T

    @property
    def channels(self) -> int:
        """Length of `t`."""
        out, inputs = self.weight.array.shape[:2]
        if self.form == "residual":
            return out
        return inputs * self.geometry.groups if self.is_convolution else inputs

    def certify(self, t: Float[np.ndarray, " n"], scaling: str, *, dense: bool = False) -> Certificate:
        """The certificate of the array as its file stores it, in its own precision; see `certify_convolution` for `dense`."""
        array = self.weight.array
        if self.is_convolution:
            return certify_convolution(array, t, self.geometry, form=self.form, scaling=scaling, dense=dense)
        return certify(array if self.form == "linear" else array.T, t, form=self.form, scaling=scaling)

    def rescaled(self, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, "out in *taps"]:
        r"""The array of $W T^{-1/2}$ in double precision, stored like the weight: its inputs (hidden units) are scaled."""
        if not self.is_convolution:
            P = rescale(self.W, t)
            return P if self.form == "linear" else P.T
        K, r = self.K, inverse_scaling(t, 0.5)
        if self.form == "residual":
            return K * r.reshape(-1, *(1,) * (K.ndim - 1))
        blocks = K.reshape(self.geometry.groups, -1, *K.shape[1:])
        return (blocks * r.reshape(len(blocks), 1, -1, *(1,) * (K.ndim - 2))).reshape(K.shape)


@contextmanager
def naming(layer: Layer) -> Iterator[None]:
    """A block whose errors begin with the name of the layer: a file may hold a hundred."""
    try:
        yield
    except SdplipError as error:
        raise type(error)(f"Layer `{layer.name}`: {error}") from None
