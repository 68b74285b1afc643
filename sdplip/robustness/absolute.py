r"""What a rounding analysis needs of linear maps: how many terms a sum has, and the norm of the map of absolute values."""

from dataclasses import dataclass
from hashlib import sha256
from math import prod, sqrt
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from sdplip.arithmetic.rounding import GENEROUS, up
from sdplip.errors import RefusedModule
from sdplip.nn.bounds.affine import conv_geometry
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.weights import effective
from sdplip.nn.plain import CONVS, TRANSPOSED

Matrix = Float[np.ndarray, "out in"]

FLOOR = 1e-100
"""Added to norms: exceeds whatever double precision loses to underflow in them."""


@dataclass(frozen=True)
class Format:
    """A floating-point format: unit roundoff, smallest normal number (underflow may flush to zero), and what may overflow."""

    unit: float
    tiny: float
    large: float

    def gamma(self, k: int) -> float:
        r"""Bound of $\gamma_k = k u / (1 - k u)$: sums of $k$ products in any order, fused or not, are that near (Higham 2002).

        Raises:
            RefusedModule: so many terms that nothing is left.
        """
        if k * self.unit > 0.5:
            raise RefusedModule(f"Sums of {k} terms have no proven accuracy in this precision. Use float64.")
        return k * self.unit / (1 - k * self.unit) * GENEROUS


FORMATS = {
    torch.float32: Format(2.0**-24, 2.0**-126, 2.0**100),
    torch.float64: Format(2.0**-53, 2.0**-1022, 2.0**900),
}


@dataclass(frozen=True, eq=False)
class LinearMap:
    r"""A linear map with a bias, as it is summed up.

    Attributes:
        M: nonnegative `(out, in)` with norm at least that of the map of absolute values. For a convolution by $K$ it is
            $\sum_\tau |K_\tau|$, because no symbol $\sum_\tau |K_\tau| e^{i \omega \tau}$ exceeds it in absolute value.
        terms: products in one sum, the bias included.
        bias: absolute values, or None.
        axes: image axes behind the outputs.
    """

    M: Matrix
    terms: int
    bias: Float[np.ndarray, " out"] | None
    axes: int


def linear_map(module: Any, path: str) -> LinearMap:
    """Of an `nn.Linear`, convolution or transposed convolution that `lipschitz` accepts.

    Raises:
        RefusedModule: circular padding that repeats pixels.
    """
    context = Context(path)
    W = abs(effective(module, "weight", context))
    bias = None if module.bias is None else abs(effective(module, "bias", context))
    kind = lipschitz.registered(module)
    if kind is nn.Linear:
        return LinearMap(W, W.shape[1] + 1, bias, 0)
    geometry = conv_geometry(module)
    if kind in CONVS and module.padding_mode == "circular" and not isinstance(module.padding, str):
        reach = [d * (k - 1) for d, k in zip(module.dilation, W.shape[2:], strict=True)]
        if any(2 * p > r for p, r in zip(module.padding, reach, strict=True)):
            raise RefusedModule(
                f"`{path}` pads circularly by more than its kernel reaches. Use less padding."
            )
    M, terms = tap_sums(W, geometry.groups), prod(W.shape[1:])
    if kind in TRANSPOSED:
        M, terms = M.T, W.shape[0] // geometry.groups * prod(W.shape[2:])
    return LinearMap(M, terms + 1, bias, W.ndim - 2)


def tap_sums(K: Float[np.ndarray, "out in_per_group *taps"], groups: int) -> Matrix:
    """The kernel summed over its taps, as the matrix between all channels."""
    S = K.reshape(*K.shape[:2], -1).sum(-1)
    out, per_group = len(S) // groups, S.shape[1]
    M = np.zeros((len(S), per_group * groups))
    for g in range(groups):
        M[g * out : (g + 1) * out, g * per_group : (g + 1) * per_group] = S[g * out : (g + 1) * out]
    return M


def norm_above(*factors: Matrix) -> float:
    r"""Bound of $\lVert M_k \cdots M_1 \rVert_2$ of nonnegative matrices, given in the order of application: `M_1` first.

    Collatz and Wielandt: $\rho(X^\top X) \le \max_i (X^\top X d)_i / d_i$ for every positive $d$; a few steps of the power
    method make it tight.
    """

    key = _key(factors)
    if key not in _NORMS:
        if len(_NORMS) >= KEPT:
            _NORMS.pop(next(iter(_NORMS)))
        _NORMS[key] = _norm(factors)
    return _NORMS[key]


KEPT = 1000
_NORMS: dict[bytes, float] = {}
"""Norms by what they are norms of: a network and its twin in double precision have equal numbers, which are proven once."""


def _key(factors: tuple[Matrix, ...]) -> bytes:
    digest = sha256()
    for M in factors:
        digest.update(repr((M.shape, M.dtype.str)).encode())
        digest.update(np.ascontiguousarray(M).data)
    return digest.digest()


def _norm(factors: tuple[Matrix, ...]) -> float:
    def square(d: np.ndarray) -> np.ndarray:
        for M in factors:
            d = M @ d
        for M in reversed(factors):
            d = M.T @ d
        return d

    d = np.ones(factors[0].shape[1])
    for _ in range(12):
        z = square(d)
        if not z.max() > 0:
            return FLOOR
        d = np.maximum(z / z.max(), 1e-6)
    return up(sqrt(float((square(d) / d).max()) * GENEROUS)) * GENEROUS + FLOOR


def length_above(v: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Euclidean length of the last axis, rounded up."""
    scale = abs(v).max(-1, keepdims=True)
    unit = v / np.where(scale > 0, scale, 1)
    return (scale[..., 0] * np.sqrt((unit * unit).sum(-1))) * GENEROUS + FLOOR
