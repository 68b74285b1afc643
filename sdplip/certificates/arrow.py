r"""Is a block tridiagonal matrix with a border positive semidefinite? A yes is a proof, at the price of its blocks alone.

    [ A_1  B_2'          F_1' ]
    [ B_2  A_2  B_3'     F_2' ]
    [      B_3  A_3  ..  ..   ]
    [ F_1  F_2  ..   ..  G    ]

Any matrix L of the same shape has $L L^\top \succeq 0$. One that nearly factors $M - s I$ proves $M \succeq 0$ as soon as
$\lVert M - s I - L L^\top \rVert \le s$, and that residual can be bounded after the fact, block by block, by products of matrices
whose rounding errors are known. How L was found does not matter. `docs/rounding-networks.md`, section 7.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from sdplip.certificates.rounding import GENEROUS, TINY, gamma

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Arrow:
    """A symmetric matrix: blocks on the diagonal, `lower[k]` left of block k + 1, the border, and its corner (order 0: none)."""

    diagonal: list[Matrix]
    lower: list[Matrix]
    border: list[Matrix]
    corner: Matrix

    @staticmethod
    def zeros(sizes: tuple[int, ...], m: int) -> "Arrow":
        return Arrow(
            [np.zeros((n, n)) for n in sizes],
            [np.zeros((b, a)) for a, b in pairwise(sizes)],
            [np.zeros((m, n)) for n in sizes],
            np.zeros((m, m)),
        )

    def couple(self, a: int, rows: slice, b: int, columns: slice, C: Matrix) -> None:
        """Writes C at rows of block a and columns of block b, which are the same or neighbours, and its transpose."""
        if a == b:
            self.diagonal[a][rows, columns] = C
            self.diagonal[a][columns, rows] = C.T
        elif a > b:
            self.lower[b][rows, columns] = C
        else:
            self.lower[a][columns, rows] = C.T

    def scaled(self) -> "tuple[Arrow, list[Vector]] | None":
        """With powers of two that bring the diagonal into [1/2, 2), exact but for underflow; None where it is not positive."""
        d = [A.diagonal() for A in (*self.diagonal, self.corner)]
        if not all(np.isfinite(v).all() and (v > 0).all() for v in d):
            return None
        *e, last = [-(np.frexp(v)[1] // 2) for v in d]
        found = Arrow(
            [np.ldexp(A, a[:, None] + a) for A, a in zip(self.diagonal, e, strict=True)],
            [np.ldexp(B, b[:, None] + a) for B, (a, b) in zip(self.lower, pairwise(e), strict=True)],
            [np.ldexp(F, last[:, None] + a) for F, a in zip(self.border, e, strict=True)],
            np.ldexp(self.corner, last[:, None] + last),
        )
        return found, [*e, last]

    def sums(self) -> list[Vector]:
        """Absolute row sums, the last vector those of the border."""
        n = len(self.diagonal)
        found = [abs(A).sum(1) + abs(F).sum(0) for A, F in zip(self.diagonal, self.border, strict=True)]
        for k in range(n - 1):
            B = abs(self.lower[k])
            found[k + 1] = found[k + 1] + B.sum(1)
            found[k] = found[k] + B.sum(0)
        border = abs(self.corner).sum(1)
        return [*found, border + sum(abs(F).sum(1) for F in self.border)]


@np.errstate(over="ignore", invalid="ignore", under="ignore")
def holds(M: Arrow, relative: float, corner: Vector) -> bool:
    r"""True only if every symmetric $M^*$ near `M` is positive semidefinite: one whose entries differ by at most `relative` of
    their size, and in its corner by a further symmetric matrix whose absolute row sums are at most `corner`.
    """
    found = M.scaled()
    if found is None:
        return False
    A, e = found
    sums, order = A.sums(), sum(map(len, e))
    entries = [relative * v for v in sums]
    entries[-1] = entries[-1] + np.ldexp(corner, 2 * e[-1]) * _spread(e[-1])
    widest = max(map(len, e)) + len(e[-1])
    shift = gamma(8 * widest) * max(float(v.max(initial=0.0)) for v in sums)
    for _ in range(4):
        L = factor(A, shift)
        if L is None:
            return False
        need = _residual(A, L, shift, sums, entries, order)
        if need <= shift:
            return True
        if not np.isfinite(need):
            return False
        shift = 2 * need
    return False


def _spread(e: Vector) -> float:
    """By how much scaling of columns can exceed that of the row, in a row sum of the corner."""
    return float(np.ldexp(1.0, int(e.max() - e.min()))) if len(e) else 1.0


def factor(A: Arrow, shift: float) -> Arrow | None:
    """Lower triangular L of the shape of A with $L L^\\top$ near $A - s I$; None where that breaks down. Not trusted."""
    diagonal, lower, border = list[Matrix](), list[Matrix](), list[Matrix]()
    corner = A.corner - shift * np.eye(len(A.corner))
    try:
        for k, D in enumerate(A.diagonal):
            D, F = D - shift * np.eye(len(D)), A.border[k]
            if k:
                C = lower[-1]
                D, F = D - C @ C.T, F - border[-1] @ C.T
            L = np.linalg.cholesky(D)
            diagonal.append(L)
            right = np.concatenate([A.lower[k], F]) if k < len(A.lower) else F
            X = np.linalg.solve(L, right.T).T
            cut = len(right) - len(F)
            if k < len(A.lower):
                lower.append(X[:cut])
            border.append(X[cut:])
            corner = corner - X[cut:] @ X[cut:].T
        return Arrow(diagonal, lower, border, np.linalg.cholesky(corner))
    except np.linalg.LinAlgError:
        return None


def _residual(
    A: Arrow, L: Arrow, shift: float, sums: list[Vector], entries: list[Vector], order: int
) -> float:
    r"""A bound of $\lVert A^* - s I - L L^\top \rVert_\infty$, all rounding included."""
    n = len(A.diagonal)
    E = Arrow.zeros(tuple(map(len, A.diagonal)), len(A.corner))
    corner = A.corner - shift * np.eye(len(A.corner)) - L.corner @ L.corner.T
    for k in range(n):
        D = A.diagonal[k] - shift * np.eye(len(A.diagonal[k])) - L.diagonal[k] @ L.diagonal[k].T
        F = A.border[k] - L.border[k] @ L.diagonal[k].T
        if k:
            C = L.lower[k - 1]
            D, F = D - C @ C.T, F - L.border[k - 1] @ C.T
            E.lower[k - 1][:] = A.lower[k - 1] - C @ L.diagonal[k - 1].T
        E.diagonal[k][:], E.border[k][:] = D, F
        corner = corner - L.border[k] @ L.border[k].T
    E.corner[:] = corner
    # |L| |L|' applied to ones: the sums of absolute products in every row
    w = [abs(D).sum(0) + abs(B).sum(0) for D, B in zip(L.diagonal, L.border, strict=True)]
    for k, C in enumerate(L.lower):
        w[k] = w[k] + abs(C).sum(0)
    last = abs(L.corner).sum(0)
    sizes = [abs(D) @ v for D, v in zip(L.diagonal, w, strict=True)]
    for k, C in enumerate(L.lower):
        sizes[k + 1] = sizes[k + 1] + abs(C) @ w[k]
    border = abs(L.corner) @ last
    for B, v in zip(L.border, w, strict=True):
        border = border + abs(B) @ v
    terms = max((len(a) + len(b) for a, b in pairwise(A.diagonal)), default=0) + 2 * max(map(len, A.diagonal))
    inner = gamma(terms + n + len(A.corner) + 8)  # of the corner, n products are added up, each of one block
    lost = 8 * (order + 2) ** 2 * TINY
    worst = 0.0
    for error, size, total, entry in zip(E.sums(), [*sizes, border], sums, entries, strict=True):
        if len(error):
            bound = error + inner * (size + total + shift) + entry + lost
            worst = max(worst, float((bound * GENEROUS).max())) if np.isfinite(bound).all() else np.inf
    return worst
