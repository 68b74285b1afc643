r"""The one Rayleigh quotient: a proven lower bound of the norm of a linear map, from any vector.

**Statement.** For every vector v other than 0, with $\lVert x \rVert_\tau^2 = \sum_j \tau_j x_j^2$,
$$ \lVert A \rVert_\tau := \max_x \lVert A x \rVert_2 / \lVert x \rVert_\tau \ge \lVert A v \rVert_2 / \lVert v \rVert_\tau . $$

**Proof of the number.** v may be replaced by any other vector, so it is first scaled by powers of two until the largest
$|v_j| \sqrt{\tau_j}$ is near 1, and entries that become subnormal are replaced by 0. With computed $y \approx A v$ and proven
errors $r$, $\lVert A v \rVert \ge \lVert z \rVert$ for $z_i = \max(|y_i| - r_i, 0)$. A computed length of m entries, scaled
so that the largest is near 1, is within $\gamma_{m + 4}$ of the true one: squares that underflow are below $2^{-1000}$ of it.
What is not finite proves nothing. Complex vectors are pairs of real ones: $\lVert (R + i J)(a + i b) \rVert$ is that of $[R,
-J; J, R] [a; b]$.
"""

from typing import Protocol, Self

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, down, gamma
from sdplip.errors import NotProvable
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]


class Operator(Protocol):
    """A linear map that is known by what it does, see `sdplip.network.operators.AbstractLinear`."""

    @property
    def inputs(self) -> int: ...
    @property
    def terms(self) -> int: ...
    @property
    def error(self) -> float: ...
    def apply(self, x: Vector, /) -> Vector: ...
    def absolute(self) -> Self: ...


@np.errstate(all="ignore")
def quotient(A: "Enclosure | Operator", v: Vector, tau: Vector | None = None) -> float:
    r"""A proven lower bound of $\lVert A \rVert_\tau$ near $\lVert A v \rVert_2 / \lVert v \rVert_\tau$, for every member of an
    enclosure; 0 where nothing is proven.

    Args:
        A: of shape (m, n).
        v: n real numbers, of any size.
        tau: n numbers, not negative; None is ones.

    Raises:
        NotProvable: `v` or `tau` is not that.
    """
    n = A.shape[1] if isinstance(A, Enclosure) else A.inputs
    v = _vector("witness", v, n)
    tau = np.ones(n) if tau is None else _vector("metric", tau, n)
    if (tau < 0).any():
        raise NotProvable("The metric of a witness must be positive.")
    tau = np.maximum(tau, TINY)  # a longer vector: the bound stays below
    half = np.frexp(tau)[1] // 2
    used = np.flatnonzero(v)
    if not used.size:
        return 0.0
    e = np.frexp(v[used])[1] + half[used]
    shift = -int(e.max())
    if isinstance(A, Enclosure):
        size = A.magnitude().max(0, initial=0.0)[used]
        if not (np.isfinite(size).all() and size.any()):
            return 0.0
        w = _normal(np.ldexp(v[used], half[used] + shift))
        columns = -half[used]
        top = int((np.frexp(size)[1] + columns)[size > 0].max())
        y = A[:, used].shifted(columns=columns - top) @ w
        low, exponent = abs(y.mid) - y.rad, top
        length = np.sqrt((np.ldexp(tau, -2 * half)[used] * w * w).sum())
    else:
        w = np.zeros(n)
        w[used] = _normal(np.ldexp(v[used], shift))
        y, rad = _applied(A, w)
        low, exponent = abs(y) - rad, 0
        w = np.ldexp(w, half)[used]
        length = np.sqrt((np.ldexp(tau, -2 * half)[used] * w * w).sum())
    z = np.maximum(low * (1 - 2 * UNIT), 0.0)
    largest = float(z.max(initial=0.0))
    if not (np.isfinite(z).all() and largest > 0 and np.isfinite(length)):
        return 0.0
    k = int(np.frexp(largest)[1])
    z = np.ldexp(z, -k)
    above = float(np.sqrt((z * z).sum())) * (1 - gamma(len(z) + 8))
    below = float(length) * (1 + gamma(n + 8)) * (1 + 4 * UNIT) + 2.0**-400
    found = float(np.ldexp(above / below * (1 - 8 * UNIT), exponent + k))
    return max(0.0, down(found)) if np.isfinite(found) else 0.0


def _applied(A: Operator, v: Vector) -> tuple[Vector, Vector]:
    r"""$A v$ and a bound of its error: rounding, entries known up to `A.error`, underflow with subnormal weights read as zero."""
    y, size = A.apply(v), A.absolute().apply(abs(v))
    rad = (gamma(A.terms + 2) + A.error * (1 + 2.0**-10)) * size
    return y, (rad + 16 * (A.terms + 2) * TINY * (1 + abs(v).max())) * GENEROUS


def _vector(what: str, v: Vector, n: int) -> Vector:
    v = np.asarray(v)
    if v.shape != (n,) or v.dtype.kind not in "fiu":
        raise NotProvable(f"A {what} must hold {n} real numbers, but has shape {v.shape} and type {v.dtype}.")
    v = v.astype(np.float64)
    if not np.isfinite(v).all():
        raise NotProvable(f"A {what} must hold finite numbers.")
    return v


def _normal(v: Vector) -> Vector:
    """Subnormal numbers made 0."""
    return np.where(abs(v) < TINY, 0.0, v)
