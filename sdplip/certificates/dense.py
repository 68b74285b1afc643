r"""Certificates of one matrix: the least provable $c$ with $W^\top W \preceq c^2\,\mathrm{diag}(t)$, and a proven lower bound."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.certificates.certificate import Certificate, Form
from sdplip.certificates.definite import guard_scale, least_scale, proves_semidefinite
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, down, gamma, up
from sdplip.certificates.validate import as_scaling, as_weight
from sdplip.certificates.witness import top_eigenvector
from sdplip.errors import NotProvable


def certify(
    W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"], *, form: Form = "linear", scaling: str = "given"
) -> Certificate:
    r"""Certificate with the smallest $c$ that double precision can prove in $W^\top W \preceq c^2\,\mathrm{diag}(t)$.

    `c_lower <= least c <= c`, both proven, every rounding and underflow included. `W` is always the matrix of $W^\top W$: the
    weight `(out, in)` of a linear layer, the transposed weight `(features, hidden)` of a residual layer.

    Args:
        W: real matrix of any float or integer type; it is taken exactly as it stands.
        t: positive on every nonzero column of `W`; it is taken exactly as it stands.
        form: the layer whose bound follows: "linear" $W T^{-1/2} x$ or "residual" $x - 2 W T^{-1} \sigma(W^\top x + b)$.
        scaling: how `t` was proposed, for the record.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
        NotProvable: the bound leaves the range of double precision.
    """
    W = as_weight(W)
    t = as_scaling(t, (W != 0).any(0), scaling)
    scaled = _scale(W, t)
    estimate, v = _propose(scaled)
    d, gram = scaled.d, _gram(scaled)
    kappa = least_scale(
        estimate,
        guard=lambda kappa: guard_scale(kappa, d, *gram[1:]),
        proves=lambda kappa: proves_semidefinite(kappa, d, *gram),
    )
    c = root_above(kappa, scaled.exponent)
    witness = np.zeros(W.shape[1])
    witness[scaled.columns] = v
    return Certificate(t=t, c=c, c_lower=_lower(scaled, v), witness=witness, form=form, scaling=scaling)


def root_above(kappa: float, exponent: int) -> float:
    r"""$2^{\mathrm{exponent}} \sqrt{\kappa}$ rounded up.

    Raises:
        NotProvable: it is not a finite double.
    """
    with np.errstate(over="ignore"):
        c = up(float(np.ldexp(up(float(np.sqrt(kappa))), exponent)))
    if not np.isfinite(c):
        raise NotProvable(
            "No finite `c` could be proven for this `W` and `t`: the bound leaves the range of double precision."
            " Rescale `W` or `t` by a power of two."
        )
    return c


def square_below(c: float, exponent: int) -> float:
    r"""$(2^{-\mathrm{exponent}} c)^2$ rounded down, or 0 where c is not positive or it leaves the range of double precision."""
    with np.errstate(over="ignore"):
        root = float(np.ldexp(c, -exponent))
        kappa = down(root * root)
    return kappa if c > 0 and np.isfinite(kappa) and kappa > 0 else 0.0


def holds(W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"], c: float) -> bool:
    r"""True only if $W^\top W \preceq c^2\,\mathrm{diag}(t)$ is proven for this very `c`."""
    W = as_weight(W)
    scaled = _scale(W, as_scaling(t, (W != 0).any(0), "given"))
    return proves_semidefinite(square_below(c, scaled.exponent), scaled.d, *_gram(scaled))


def lower_bound(
    W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"], witness: Float[np.ndarray, " n"]
) -> float:
    r"""Proven lower bound of every $c$ with $W^\top W \preceq c^2\,\mathrm{diag}(t)$, from any `witness` vector.

    The witness is read in the scaled coordinates of `docs/rounding.md`, section 1: $x_j = 2^{-e_j} v_j$.
    """
    W = as_weight(W)
    scaled = _scale(W, as_scaling(t, (W != 0).any(0), "given"))
    return _lower(scaled, np.asarray(witness, np.float64)[scaled.columns])


@dataclass(frozen=True)
class _Scaled:
    r"""`W` and `t` brought near 1 by powers of two, which is exact: $W^\top W \preceq c^2 T \iff B^\top B \preceq \kappa\,
    \mathrm{diag}(\tau)$ with $c^2 = 4^{\mathrm{exponent}} \kappa$, $|B| < 1$ and $1/2 \le \tau < 2$."""

    B: Float[np.ndarray, "m k"]
    tau: Float[np.ndarray, " k"]
    columns: np.ndarray  # the nonzero columns of W, which are the columns of B
    exponent: int

    @property
    def wide(self) -> bool:
        """Whether the smaller of the two equivalent forms is the one of order m, see `_gram`."""
        return self.B.shape[0] < self.B.shape[1]

    @property
    def d(self) -> Float[np.ndarray, " n"]:
        return np.ones(self.B.shape[0]) if self.wide else self.tau


def _scale(W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"]) -> _Scaled:
    largest = abs(W).max(0)
    columns = np.flatnonzero(largest)
    e = np.frexp(t[columns])[1] // 2
    exponent = int((np.frexp(largest[columns])[1] - e).max())
    B = np.ldexp(W[:, columns] if len(columns) < W.shape[1] else W, -(e + exponent))
    return _Scaled(B, np.ldexp(t[columns], -2 * e), columns, exponent)


def _gram(scaled: _Scaled) -> tuple[np.ndarray, np.ndarray, float]:
    r"""$-G$, its diagonal negated, and a bound of $\lVert G - G^* \rVert_2$, for the smaller of two equivalent statements:
    $B^\top B \preceq \kappa\,\mathrm{diag}(\tau)$ and $B\,\mathrm{diag}(\tau)^{-1} B^\top \preceq \kappa I$."""
    B = scaled.B
    m, n = B.shape
    G = (B / scaled.tau) @ B.T if scaled.wide else B.T @ B
    diagonal = G.diagonal().copy()
    error = gamma(n + 1 if scaled.wide else m) * float(diagonal.sum()) + 8 * m * n * TINY
    return np.negative(G, out=G), diagonal, error * GENEROUS


def _propose(scaled: _Scaled) -> tuple[float, Float[np.ndarray, " k"]]:
    """Estimate of the least kappa and a witness that attains it nearly. Not trusted."""
    B, r = scaled.B, scaled.tau**-0.5
    if scaled.wide:
        estimate, u = top_eigenvector(lambda x: B @ (B.T @ x / scaled.tau), B.shape[0])
        v = B.T @ u / scaled.tau
    else:
        estimate, u = top_eigenvector(lambda x: r * (B.T @ (B @ (r * x))), B.shape[1])
        v = r * u
    return estimate, v / abs(v).max()


def _lower(scaled: _Scaled, v: Float[np.ndarray, " k"]) -> float:
    r"""Rayleigh quotient $\lVert B v \rVert / \lVert v \rVert_\tau$ rounded down (`docs/rounding.md`, section 4)."""
    B = scaled.B
    m, n = B.shape
    y = B @ v
    frobenius, length = float(np.linalg.norm(B)), float(np.linalg.norm(v))
    error = (gamma(n) * frobenius * length + 4 * m * n * TINY * (1 + length) + 2.0**-500) * GENEROUS
    above = float(np.linalg.norm(y)) * (1 - gamma(m + 3)) - error
    below = float(np.sqrt((scaled.tau * v * v).sum())) * (1 + gamma(n + 4)) + 2.0**-500
    quotient = max(0.0, above / below * (1 - 4 * UNIT))
    return max(0.0, down(float(np.ldexp(quotient, scaled.exponent))))
