r"""One matrix: is $W^\top W \preceq c^2\,\mathrm{diag}(t)$ proven for a given c, and below which c is it false for sure?

**Scaling.** Let $t_j = f 2^E$ with $1/2 \le f < 1$, $e_j = \lfloor E / 2 \rfloor$, $\tau_j = 4^{-e_j} t_j \in [1/2, 2)$ and
$B = 2^{-g} W\,\mathrm{diag}(2^{-e_j})$ with $|B| < 1$. Then $W^\top W \preceq c^2\,\mathrm{diag}(t) \iff B^\top B \preceq \kappa\,
\mathrm{diag}(\tau)$ with $c^2 = 4^g \kappa$. All of it is exact, but for entries of B that underflow and lose `TINY`. Nothing can overflow
after this. Columns of zeros constrain nothing and are left out.

**Order.** The smaller of two equivalent statements is used: $B^\top B \preceq \kappa\,\mathrm{diag}(\tau)$ of order n, or $B\,
\mathrm{diag}(\tau)^{-1} B^\top \preceq \kappa I$ of order m.

**Gram matrix.** $|fl(B^\top B) - B^\top B|_{ij} \le \gamma_m \lVert b_i \rVert \lVert b_j \rVert$ (Cauchy-Schwarz), a matrix of rank one
whose norm is $\gamma_m \mathrm{tr}\,B^\top B$; $\gamma_{k + p}$ where it is a sum of p products of at most k terms each. One more
rounding with $\tau$. Entries that underflowed lose $16 m$ `TINY`, n of them a row.
This $\varepsilon$ is taken off the diagonal, $\kappa d_i - G_{ii} - \varepsilon$, whose own roundings are part of it.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.powers import near_one, some_nonzero, split, square_below, times_below
from sdplip.arithmetic.rayleigh import quotient
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.arithmetic.semidefinite import which
from sdplip.kernel.condition.validate import as_scaling, as_weight
from sdplip.network import Dense
from sdplip.shapes import Bool, Float, Int

PIECE = 1024
"""Terms of one product: a sum of many in pieces rounds less."""


def holds(W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"], c: float) -> bool:
    r"""True only if $W^\top W \preceq c^2\,\mathrm{diag}(t)$ is proven for this very `c`.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
    """
    scaled = scale(W, t)
    return scaled.gram().below(square_below(c, scaled.exponent))


def lower_bound(
    W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"], witness: Float[np.ndarray, " n"]
) -> float:
    r"""Proven lower bound of every $c$ with $W^\top W \preceq c^2\,\mathrm{diag}(t)$, from any `witness` vector.

    The witness is read in scaled coordinates: $x_j = 2^{-e_j} v_j$, see above.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
        NotProvable: the witness is no vector of n finite numbers.
    """
    return scale(W, t).stretch(witness)


@dataclass(frozen=True, eq=False)
class Gram:
    r"""$-G$, with an `error` of at least $\lVert G - B^\top B \rVert_2$ (or the smaller of the two), to compare with $\kappa\,\mathrm{diag}(d)$."""

    minus: Float[np.ndarray, "k k"]
    diagonal: Float[np.ndarray, " k"]
    d: Float[np.ndarray, " k"]
    error: float

    @np.errstate(all="ignore")  # what overflows proves nothing
    def below(self, kappa: float) -> bool:
        r"""True only if $G \preceq \kappa\,\mathrm{diag}(d)$ is proven. The diagonal of `minus` is overwritten."""
        return bool(dominated(self.minus[None], -self.diagonal[None], self.d, kappa, self.error).all())


def dominated(
    minus: Float[np.ndarray, "f k k"],
    diagonal: Float[np.ndarray, "f k"],
    d: Float[np.ndarray, " k"],
    kappa: float,
    error: float,
) -> Bool[np.ndarray, " f"]:
    r"""Where $G \preceq \kappa\,\mathrm{diag}(d)$ is proven for every G within `error` of `-minus` in norm, which may be complex.

    The diagonal of `minus` is overwritten; it was `diagonal`. Entries that are subnormal count as part of the error.
    """
    k = range(len(d))
    rounding = 8 * UNIT * (kappa * float(d.max()) + float(abs(diagonal).max(initial=0.0)) + error)
    minus[:, k, k] = kappa * d + diagonal - (error + rounding) * GENEROUS
    return which(Enclosure(minus, np.zeros((1, 1, 1))))


@dataclass(frozen=True, eq=False)
class Scaled:
    """W and t brought near 1 by powers of two, see above."""

    B: Float[np.ndarray, "m k"]
    tau: Float[np.ndarray, " k"]
    columns: Int[np.ndarray, " k"]  # those of W that are not zero
    exponent: int
    width: int

    @property
    def wide(self) -> bool:
        """Whether the statement of order m is the smaller one."""
        return self.B.shape[0] < self.B.shape[1]

    def gram(self) -> Gram:
        """The Gram matrix of the smaller statement."""
        B, tau = self.B, self.tau
        m, n = B.shape
        C, d, terms = (B.T, np.ones(m), n) if self.wide else (B, tau, m)
        G, pieces = None, range(0, terms, PIECE)
        for a in pieces:
            c = C[a : a + PIECE]
            more = (c.T / tau[a : a + PIECE]) @ c if self.wide else c.T @ c
            G = more if G is None else np.add(G, more, out=G)
        assert G is not None, "as_weight refuses empty matrices"
        diagonal, rounding = G.diagonal().copy(), min(terms, PIECE) + len(pieces) + 2 * self.wide
        error = gamma(rounding + 2) * float(diagonal.sum()) + 16 * terms * (len(G) + 1) * TINY
        return Gram(np.negative(G, out=G), diagonal, d, error * GENEROUS)

    def stretch(self, witness: Float[np.ndarray, " n"]) -> float:
        r"""$2^g \lVert B v \rVert / \lVert v \rVert_\tau$ rounded down."""
        witness = np.asarray(witness)
        v = witness[self.columns] if witness.shape == (self.width,) else witness
        found = quotient(Dense(self.B), v, self.tau)
        return times_below(found, self.exponent)


def scale(W: Float[np.ndarray, "m n"], t: Float[np.ndarray, " n"], scaling: str = "given") -> Scaled:
    """W and t in the coordinates of the proof.

    Raises:
        InvalidWeight, InvalidScaling: the input is not what the statement needs.
    """
    W = as_weight(W)
    used = some_nonzero(W, 0)
    t = as_scaling(t, used, scaling)
    columns = np.flatnonzero(used)
    f, E = split(t[columns])
    e = E // 2
    B, exponent = near_one(W if used.all() else W[:, columns], e[None], 0)
    return Scaled(B, np.ldexp(f, E - 2 * e), columns, exponent, W.shape[1])
