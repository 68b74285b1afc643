r"""Residual layers $h(x) = H x + G \sigma(W^\top x + b)$: the LMI of SLL, Theorem 4, for given multipliers, and its lower side.

$$ \begin{bmatrix} \gamma I - H^\top H + 2 \alpha \beta W \Lambda W^\top & -H^\top G - (\alpha + \beta) W \Lambda \\
   \cdot & 2 \Lambda - G^\top G \end{bmatrix} \succeq 0 $$

proves that h is $\sqrt\gamma$-Lipschitz for every $\sigma$ with slopes in $[\alpha, \beta]$.

**Powers of two.** With $\Lambda = 4^e \Lambda'$, $\Lambda' \in [1/2, 2)$, the units are measured in $2^{-e}$: $W' = W 2^e$, $G' = G
2^{-e}$, whose entries are below 2 wherever $2 \Lambda \succeq G^\top G$; then H and $(\alpha + \beta) W'$ are divided by the power of two that
brings them below 1, and $\gamma$ by its square. These are congruences, so the statement stays the same, and nothing that underflows
afterwards is enlarged again. Rounding is that of `arithmetic.matrix`.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.powers import nonzero, split
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, down, gamma, up
from sdplip.arithmetic.semidefinite import proves
from sdplip.display import brief, equal, hashed
from sdplip.errors import InvalidScaling, InvalidWeight
from sdplip.kernel.condition.validate import as_weight
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Slopes = tuple[float, float]


@dataclass(frozen=True, eq=False)
class ResidualCertificate:
    r"""Proof that $H x + G \sigma(W^\top x + b)$ is $\sqrt\gamma$-Lipschitz for every $\sigma$ with slopes in $[\alpha, \beta]$.

    Attributes:
        gamma: proven upper bound of the squared Lipschitz constant.
        multipliers: the diagonal of $\Lambda$ with which the LMI holds.
        slopes: $(\alpha, \beta)$.
    """

    gamma: float
    multipliers: Vector
    slopes: Slopes

    __repr__ = brief("bound", "gamma", "slopes", "multipliers")
    __eq__ = equal
    __hash__ = hashed

    @property
    def bound(self) -> float:
        r"""Proven Lipschitz bound $\sqrt\gamma$, rounded up."""
        return up(float(np.sqrt(self.gamma)))


def residual_holds(
    H: Matrix, G: Matrix, W: Matrix, multipliers: Vector, gamma_: float, slopes: Slopes = (0.0, 1.0)
) -> bool:
    r"""True only if the LMI is proven for this very $\gamma$ and these very multipliers.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
    """
    pieces = scaled(H, G, W, multipliers, slopes)
    return pieces.holds(gamma_)


@dataclass(frozen=True, eq=False)
class Scaled:
    r"""The blocks of the LMI without $\gamma$, in the units above; $\gamma$ is divided by $4^{\mathrm{exponent}}$."""

    top: Enclosure
    side: Enclosure
    corner: Enclosure
    exponent: int

    def holds(self, gamma_: float) -> bool:
        r"""True only if the LMI is proven for this $\gamma$."""
        with np.errstate(all="ignore"):
            value = float(np.ldexp(gamma_, -2 * self.exponent))
        if not TINY <= value < np.inf:
            return False
        top = self.top.plus_diagonal(value)
        return proves(Enclosure.block([[top, self.side.T], [self.side, self.corner]]))


def scaled(H: Matrix, G: Matrix, W: Matrix, multipliers: Vector, slopes: Slopes) -> Scaled:
    """The LMI of the units that are neither constant nor absent.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
    """
    H, G, W, L = inputs(H, G, W, multipliers, slopes)
    used = nonzero(W).any(0) & (nonzero(L) | nonzero(G).any(0))
    G, W, (f, E) = G[:, used], W[:, used], split(L[used])
    e = E // 2
    a, b = (Enclosure.exact(np.full((1, 1), slope)) for slope in slopes)
    with np.errstate(all="ignore"):
        total = a + b
        down_, up_ = _shifted(G, -e), _shifted(W, e)
        exponent = max(_top(H), _top((up_ * total).magnitude()))
        H_ = Enclosure.exact(H).shifted(rows=np.full(len(H), -exponent))
        inward = up_.shifted(rows=np.full(len(W), -exponent))
        L_ = np.ldexp(f, E - 2 * e)
        product = (inward * a) * L_ @ (inward * b).T * 2.0
        top = product - H_.T @ H_
        side = -(down_.T @ H_) - ((inward * total) * L_).T
        corner = (-(down_.T @ down_)).plus_diagonal(2.0 * L_)
    return Scaled(top, side, corner, exponent)


def residual_lower_bound(
    H: Matrix, G: Matrix, W: Matrix, Y: Float[np.ndarray, "dn r"], slopes: Slopes = (0.0, 1.0)
) -> float:
    r"""Proven lower bound of every $\gamma$ for which the LMI has multipliers, from the dual factor `Y` of `ResidualLMI`.

    With the map written for slopes $[0, 1]$, $H' = H + \alpha G W^\top$, $G' = (\beta - \alpha) G$, any $Y = [Y_x; Y_u]$ with
    $\lVert u_i \rVert^2 \le \langle u_i, w_i^\top Y_x \rangle$ for every row of $Y_u$ proves
    $\gamma \ge \lVert H' Y_x + G' Y_u \rVert_F^2 / \lVert Y_x \rVert_F^2$. Rows that break the inequality are shortened first. Units are
    measured so that the columns of W are near 1, and $Y_x$ is scaled to be near 1; rows of $Y_u$ below $2^{-200}$ then are left out.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
    """
    H, G, W, _ = inputs(H, G, W, np.ones(np.shape(W)[-1]), slopes)
    d, n = W.shape
    Y = np.asarray(Y, np.float64)
    if Y.ndim != 2 or len(Y) != d + n or not np.isfinite(Y).all():
        raise InvalidScaling(
            f"The dual factor `Y` must be finite with {d + n} rows, but its shape is {Y.shape}."
        )
    if not nonzero(Y[:d]).any():
        return 0.0
    with np.errstate(all="ignore"):
        e = np.where(nonzero(W).any(0), np.frexp(abs(W).max(0))[1], 0)
        scale = -int(np.frexp(abs(Y[:d]).max())[1])
        X, U = np.ldexp(Y[:d], scale), np.ldexp(Y[d:], (scale - e)[:, None])
        X = np.where(abs(X) < 2.0**-500, 0.0, X)
        inward, outward = _shifted(W, -e), _shifted(G, e)
        lengths = np.sqrt((U * U).sum(1))
        U = np.where((lengths > 2.0**-200)[:, None], U, 0.0)
        reach = inward.T @ X
        inner = (U * reach.mid).sum(1) * 1.0
        r = U.shape[1]
        lost = gamma(r + 4) * (abs(U) * abs(reach.mid)).sum(1) + (abs(U) * reach.radius()).sum(1) + 2.0**-900
        inner = inner - lost * GENEROUS
        squares = (U * U).sum(1) * (1 + gamma(r + 4)) + 2.0**-900
        U = np.clip(inner / squares * (1 - gamma(r + 16)), 0, 1)[:, None] * U
        a, b = (Enclosure.exact(np.full((1, 1), slope)) for slope in slopes)
        value = (Enclosure.exact(H) + (outward * a) @ inward.T) @ X + (outward * (b - a)) @ U
        low = np.maximum(abs(value.mid) * (1 - 4 * UNIT) - value.radius() * GENEROUS, 0.0)
        largest = float(low.max(initial=0.0))
        if not 0 < largest < np.inf:
            return 0.0
        g = int(np.frexp(largest)[1])
        above = float(np.linalg.norm(np.ldexp(low, -g))) * (1 - gamma(low.size + 8))
        below = float(np.linalg.norm(X)) * (1 + gamma(X.size + 8)) + 2.0**-300
        root = above / below * (1 - 8 * UNIT)
        found = down(float(np.ldexp(down(root * root), 2 * g)))
    return max(0.0, found) if np.isfinite(found) else 0.0


def inputs(
    H: Matrix, G: Matrix, W: Matrix, multipliers: Vector, slopes: Slopes
) -> tuple[Matrix, Matrix, Matrix, Vector]:
    """The parts of the layer in double precision; columns of G whose unit is a constant are zero.

    Raises:
        InvalidWeight, InvalidScaling: shapes or values contradict the statement.
    """
    H, W, G = as_weight(H, zero=True), as_weight(W), as_weight(G, zero=True)
    multipliers = np.asarray(multipliers, np.float64)
    (k, d), n = H.shape, W.shape[1]
    if W.shape[0] != d or G.shape != (k, n):
        raise InvalidWeight(
            f"`H`, `G`, `W` must have shapes (k, d), (k, n), (d, n), but they are {H.shape}, {G.shape}, {W.shape}."
        )
    negative = nonzero(multipliers) & np.signbit(multipliers)
    if multipliers.shape != (n,) or not np.isfinite(multipliers).all() or negative.any():
        raise InvalidScaling(f"`multipliers` must be {n} finite numbers that are not negative.")
    if not -np.inf < slopes[0] <= slopes[1] < np.inf:
        raise InvalidScaling(f"`slopes` must be a finite interval, but is {slopes}.")
    return H, np.where(nonzero(W).any(0), G, 0.0), W, multipliers


def _shifted(M: Matrix, columns: np.ndarray) -> Enclosure:
    r"""$M\,\mathrm{diag}(2^{\mathrm{columns}})$, subnormal entries read by their bits."""
    m, e = split(M)
    with np.errstate(all="ignore"):
        found = np.ldexp(m, e + columns)
    lost = nonzero(M) & (abs(found) < TINY)
    return enclose(np.where(lost, 0.0, found), TINY * lost if lost.any() else 0.0)


def _top(M: Matrix) -> int:
    """The largest exponent; of zeros, one that is smaller than any."""
    m, e = np.frexp(abs(M[np.isfinite(M)]))
    return int(e.max(initial=-1100, where=m != 0))
