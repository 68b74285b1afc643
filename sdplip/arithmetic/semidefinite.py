r"""The one prover: is every member of a symmetric enclosure positive semidefinite? A yes is a proof, and trusts no LAPACK.

**Statement.** `proves(M)` is True only if every symmetric $M^*$ with $|M^* - M| \le R$ is positive semidefinite. `mid` and
`rad` should be symmetric; of blocks below the diagonal the lower triangle counts. `proves_arrow` says the same of block
tridiagonal matrices with a border.

**Proof.** Powers of two bring the diagonal into $[1/2, 2)$: $S = (2^{e_i + e_j} M_{ij})$. Let $d_i$ be the sum of row i of the
scaled radii. Scaled, $M^*$ is $S + \Delta$ with $|\Delta|$ at most those radii, and $\Delta + \mathrm{diag}(d) \succeq 0$ by
diagonal dominance. So it is enough that $S - \mathrm{diag}(d) \succeq 0$. Any real $L$ has $L L^\top \succeq 0$, however it was
found. With $E = S - \mathrm{diag}(d) - \sigma I - L L^\top$,

$$ S - \mathrm{diag}(d) = L L^\top + \sigma I + E \succeq (\sigma - \lVert E \rVert_2) I \succeq 0
\quad\text{as soon as}\quad \lVert E \rVert_2 \le \sigma . $$

**The residual is nearly free.** $L$ is found block column by block column. For the columns $J$, with $K$ those before them,
the factorization forms $\hat S = S_{\cdot J} - L_{\cdot K} L_{J K}^\top$ anyway; then $L_{JJ}$ is a Cholesky factor of the top
of $\hat S$, and $L_{\cdot J} \approx \hat S L_{JJ}^{-\top}$. So $E_{\cdot J} = \hat S - L_{\cdot J} L_{JJ}^\top$ is one thin
product away.

**Rounding.** Of one entry let $a$ be that of $S - \mathrm{diag}(d) - \sigma I$, $x_1, \dots, x_p$ the exact sums that are
subtracted one after another (of the columns of earlier blocks, of $K$, of $J$), $X_q$ the sums of their absolute values. Each
is computed with an error of at most $\gamma_k X_q$, $k$ the longest sum, and each subtraction rounds by $u$ times its result.
Read backwards from the last result $\hat e$, such a result is at most $(|\hat e| + \sum_q X_q)(1 + \gamma_{k+p})$. Hence
$|\hat e - e| \le \gamma_{k + 2 p + 4} \sum_q X_q + \gamma_{2p} |\hat e|$. The matrix of the sums $\sum_q X_q$ is
$|L| |L|^\top$, with the norm at most $\lVert L \rVert_F^2$ and at most its largest row sum. So

$$ \lVert E \rVert_2 \le \bigl(\lVert \hat E \rVert_\infty + \gamma_{k + 2p + 4}
\min(\lVert L \rVert_F^2, \lVert |L| |L|^\top \rVert_\infty)\bigr)(1 + 2^{-20}) + 16 u + \text{underflow} , $$

where $16 u$ pays for the diagonal, $S_{ii} - (d_i + \sigma)$ with $S_{ii} < 2$ and $\sigma \le 1/4$ (if $d_i > 2$, then
$\lVert E \rVert_2 > \sigma$ by far). Only products of matrices are trusted: any order of summation, with or without fused
multiply-add, but conventional (no Strassen). A NaN or an infinity anywhere makes a comparison false: not proven.

**Underflow.** Entries of an enclosure are zero or normal. Scaling an entry may lose `TINY` after the first factor, which the
second, $2^{e_j}$, multiplies: $\texttt{TINY} (1 + 2^{e_j})$ an entry, and likewise in the radii. An entry of $\hat E$
loses `TINY` in each of $N$ products and sums and in each entry of $L$ that is read as zero, times another entry of $L$: with N
the order, $8 (N + p + 2)(1 + \lVert L \rVert_F)$ `TINY`, and N times that in a row.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.shapes import Float, Int

Matrix = Float[np.ndarray, "*batch m n"]
Vector = Float[np.ndarray, "*batch n"]
Exponents = Int[np.ndarray, "*batch n"]

WHOLE, BLOCK = 128, 64
"""LAPACK factors so many columns at once where there are no more; else so many. The rest is products of matrices."""
FINE = 2.0**-46
"""Absolute row sums of a residual that are too small to matter."""


def slack(order: int, trace: float | None = None) -> float:
    r"""What the eigenvalues of a matrix scaled to a diagonal in $[1/2, 2)$ must lie above 0 so that a proof is sure to succeed.

    For those who propose. It is about $n u\,\mathrm{tr}\,S$; `trace` is that of the scaled matrix, at most twice its order, which
    is the default. A tenth of it is often enough.
    """
    return 1.15 * gamma(order + 12) * (2.0 * order if trace is None else trace) + 64 * UNIT


@np.errstate(all="ignore")
def proves(M: Enclosure) -> bool:
    r"""True only if every symmetric member is positive semidefinite; of a batch `(*batch, n, n)`, all of them.

    False means "not proven". Of a single matrix, rows of exact zeros are left out.
    """
    if M.mid.ndim < 2 or M.shape[-1] != M.shape[-2]:
        return False
    d = np.diagonal(M.mid, axis1=-2, axis2=-1)
    if not d.size:
        return True
    if M.mid.ndim == 2 and (d == 0).any() and _empty(M, d == 0):
        rows = np.flatnonzero(d)
        return not rows.size or proves(M[np.ix_(rows, rows)])
    e = _exponents(d)
    if e is None:
        return False
    n, s = d.shape[-1], np.ldexp(1.0, e)
    lost = 4 * n * TINY * (1 + s.max(-1, keepdims=True))
    off = (s * _row_sums(M.rad, s, n) + lost) * GENEROUS
    plain = not e.any()

    def scaled() -> Iterator[Matrix]:
        S = M.mid.copy() if plain else M.mid * s[..., :, None]
        if not plain:
            S *= s[..., None, :]
        yield S

    return _proven(scaled, [off], 0)


def hermitian(real: Enclosure, imaginary: Enclosure) -> Enclosure:
    r"""$\begin{bmatrix} A & -B \\ B & A \end{bmatrix}$: positive semidefinite exactly where the Hermitian $A + i B$ is.

    With A symmetric and B skew symmetric it has the eigenvalues of $A + i B$, each twice.
    """

    def put(a: Matrix, b: Matrix, sign: float) -> Matrix:
        return np.concatenate([np.concatenate([a, sign * b], -1), np.concatenate([b, a], -1)], -2)

    mid = put(real.mid, imaginary.mid, -1.0)
    if not (real.rad.any() or imaginary.rad.any()):
        return Enclosure(mid, np.zeros((1,) * mid.ndim))
    return Enclosure(mid, put(real.radius(), imaginary.radius(), 1.0))


@dataclass(frozen=True, eq=False)
class Arrow:
    r"""A symmetric block tridiagonal matrix with a border, by its blocks (l of them, then the border, which may have order 0).

        [ A_1  B_1'          F_1' ]
        [ B_1  A_2  B_2'     F_2' ]
        [      B_2  A_3  ..  ..   ]
        [ F_1  F_2  ..   ..  G    ]

    Attributes:
        diagonal: A, of orders n_k.
        lower: B, `lower[k]` of shape (n_{k+1}, n_k).
        border: F, of shapes (m, n_k).
        corner: G, of order m.
    """

    diagonal: list[Enclosure]
    lower: list[Enclosure]
    border: list[Enclosure]
    corner: Enclosure

    @property
    def sizes(self) -> list[int]:
        """Orders of the blocks, without the border."""
        return [len(A) for A in self.diagonal]

    def fits(self) -> bool:
        """Whether the blocks have the shapes that they need."""
        n, m = self.sizes, len(self.corner)
        return (
            len(n) > 0
            and [A.shape for A in (*self.diagonal, self.corner)] == [(k, k) for k in (*n, m)]
            and [B.shape for B in self.lower] == [(b, a) for a, b in pairwise(n)]
            and [F.shape for F in self.border] == [(m, k) for k in n]
        )


@np.errstate(all="ignore")
def proves_arrow(M: Arrow) -> bool:
    """True only if every symmetric member is positive semidefinite, at the price of the blocks alone."""
    if not M.fits():
        return False
    e = [_exponents(np.diagonal(A.mid)) for A in (*M.diagonal, M.corner)]
    s = [np.ldexp(1.0, v) for v in e if v is not None]
    if len(s) < len(e):
        return False
    order, largest = sum(map(len, s)), max(float(v.max(initial=0.0)) for v in s)
    sums = [_row_sums(A.rad, v, len(v)) for A, v in zip((*M.diagonal, M.corner), s, strict=True)]
    for k, (a, b) in enumerate(pairwise(s[:-1])):
        R = M.lower[k].radius()
        sums[k], sums[k + 1] = sums[k] + R.T @ b, sums[k + 1] + R @ a
    for k, F in enumerate(M.border):
        R = F.radius()
        sums[k], sums[-1] = sums[k] + R.T @ s[-1], sums[-1] + R @ s[k]
    lost = 8 * order * TINY * (1 + largest)
    off = [(v * r + lost) * GENEROUS for v, r in zip(s, sums, strict=True)]

    def scaled() -> Iterator[Matrix]:
        for k, A in enumerate(M.diagonal):
            below = [(A.mid, s[k])] + ([(M.lower[k].mid, s[k + 1])] if k < len(M.lower) else [])
            yield np.concatenate([(C * v[:, None]) * s[k] for C, v in (*below, (M.border[k].mid, s[-1]))])
        yield (M.corner.mid * s[-1][:, None]) * s[-1]

    return _proven(scaled, off, len(s[-1]))


def _empty(M: Enclosure, rows: np.ndarray) -> bool:
    """Whether these rows and columns are exact zeros."""
    R = M.radius()
    return not any(A.any() for A in (M.mid[rows], M.mid[:, rows], R[rows], R[:, rows]))


def _exponents(d: Vector) -> Exponents | None:
    """Powers of two whose squares bring `d` into [1/2, 2); None unless all are positive and finite."""
    return -(np.frexp(d)[1] // 2) if (np.isfinite(d) & (d >= TINY)).all() else None


def _row_sums(R: Matrix, s: Vector, n: int) -> Vector:
    """Of the symmetric matrix with the lower triangle of the radii `R`: at least its product with s, but for rounding."""
    if not R.any():
        return np.zeros(n)
    if R.shape[-2:] == (1, 1):
        return R[..., 0] * s.sum(-1, keepdims=True)
    R, sums = np.broadcast_to(R, (*R.shape[:-2], n, n)), np.zeros(s.shape)
    for a in range(0, n, width := _width(n)):
        z = min(a + width, n)
        top, below = R[..., a:z, a:z], R[..., z:, a:z]
        sums[..., a:z] += _times((top + top.mT) / 2, s[..., a:z]) + _times(below.mT, s[..., z:])
        sums[..., z:] += _times(below, s[..., a:z])
    return sums


def _times(A: Matrix, v: Vector) -> Vector:
    return (A @ v[..., None])[..., 0]


def _width(n: int) -> int:
    return max(n, 1) if n <= WHOLE else BLOCK


def _proven(scaled: Callable[[], Iterator[Matrix]], off: list[Vector], m: int) -> bool:
    r"""Whether the matrix with the panels `scaled()`, less `off` on its diagonal, is proven positive semidefinite.

    A panel holds a block of columns from the diagonal downwards: the block, the next block, the border of m rows.
    """
    panels = list(scaled())
    order, p = sum(v.shape[-1] for v in off), len(panels)
    widest = max(v.shape[-1] for v in off)
    rounding = gamma(widest + 2 * p + 8)
    lost = 8.0 * (order + p + 2) * order * TINY
    shift = 1.1 * rounding * _size(panels, widest) + 24 * UNIT
    for _ in range(4):
        if not (shift <= 0.25).all():
            return False
        need = _residual(panels, [v + shift for v in off], m, rounding, lost)
        if need is None:
            return False
        if (need <= shift).all():
            return True
        shift, panels = np.where(need <= shift, shift, 1.5 * need), list(scaled())
    return False


def _size(panels: list[Matrix], widest: int) -> Vector:
    r"""A guess of $\min(\mathrm{tr}\,S, \lVert |L| |L|^\top \rVert_\infty)$ from some rows. A bad one costs time."""
    trace = sum(np.diagonal(T, axis1=-2, axis2=-1).sum(-1, keepdims=True) for T in panels)
    rows = [
        abs(T[..., :: max(1, T.shape[-2] // 32), :]).sum(-1).max(-1, initial=0.0, keepdims=True)
        for T in panels
    ]
    return np.minimum(trace, 0.6 * widest**0.5 * np.max(rows, 0))


def _residual(panels: list[Matrix], off: list[Vector], m: int, rounding: float, lost: float) -> Vector | None:
    r"""At least $\lVert E \rVert_2$ of every matrix of the batch, see above; the panels are overwritten by L. None where the
    factorization breaks down."""
    errors, sizes = [np.zeros_like(v) for v in off], [np.zeros_like(v) for v in off]
    square = np.zeros((*off[0].shape[:-1], 1))
    for k, (T, d) in enumerate(zip(panels, off, strict=True)):
        n, behind = d.shape[-1], T.shape[-2] - m
        T[..., range(n), range(n)] -= d
        error, size = np.zeros(T.shape[:-1]), np.zeros(T.shape[:-1])
        if not _columns(T, error, size, square):
            return None
        last = k == len(panels) - 1
        for v, part in ((errors, error), (sizes, size)):
            v[k] += part[..., :n]
            if not last:
                v[-1] += part[..., behind:]
                v[k + 1][..., : behind - n] += part[..., n:behind]
        if not last:
            C, B = T[..., n:behind, :], T[..., behind:, :]
            panels[-1] -= B @ B.mT
            if k < len(panels) - 2:
                panels[k + 1][..., : behind - n, :] -= C @ C.mT
                panels[k + 1][..., panels[k + 1].shape[-2] - m :, :] -= B @ C.mT
    error = np.concatenate(errors, -1).max(-1, keepdims=True)
    size = np.minimum(np.concatenate(sizes, -1).max(-1, keepdims=True), square)
    return (error + rounding * size * GENEROUS + lost * (1 + np.sqrt(square))) * GENEROUS + 16 * UNIT


def _columns(T: Matrix, error: Vector, size: Vector, square: Vector) -> bool:
    r"""Factors a panel in place. Adds the absolute row sums of its part of the symmetric $\hat E$ and of $|L| |L|^\top$, and
    $\lVert L \rVert_F^2$. False where the factorization breaks down.

    On diagonal blocks $\hat E$ need not be symmetric: of its symmetric part, row and column sum share the row sum.
    """
    n, rows = T.shape[-1], T.shape[-2]
    for a in range(0, n, width := _width(n)):
        z = min(a + width, n)
        if a:
            T[..., a:, a:z] -= T[..., a:, :a] @ T[..., a:z, :a].mT
        S = T[..., a:z, a:z]
        try:
            L = np.linalg.cholesky(S)
            inverse = _inverse(L).mT if z < rows else L
        except np.linalg.LinAlgError:
            return False
        E = L @ L.mT
        E -= S
        E = np.abs(E, out=E)
        error[..., a:z] += (E.sum(-2) + E.sum(-1)) / 2
        S[...] = L
        square += _squares(L)
        w = np.abs(L, out=L).sum(-2)
        if z < rows:
            A = _below(T[..., z:, a:z], S, inverse, error[..., a:z], error[..., z:])
            square += _squares(A)
            w += A.sum(-2)
            size[..., z:] += _times(A, w)
        size[..., a:z] += _times(L, w)
    return True


def _below(S: Matrix, L: Matrix, inverse: Matrix, columns: Vector, rows: Vector) -> Matrix:
    """Overwrites S by X with $X L^T$ near S, and adds the sums of the absolute residual; gives $|X|$.

    A step of refinement makes X as good as substitution where it is not.
    """
    X = S @ inverse
    E = _residual_of(S, X, L)
    sums = E.sum(-1)
    if sums.max(initial=0.0) > FINE:
        X += (S - X @ L.mT) @ inverse
        E = _residual_of(S, X, L)
        sums = E.sum(-1)
    columns += E.sum(-2)
    rows += sums
    S[...] = X
    return np.abs(X, out=X)


def _residual_of(S: Matrix, X: Matrix, L: Matrix) -> Matrix:
    E = X @ L.mT
    E -= S
    return np.abs(E, out=E)


def _inverse(L: Matrix) -> Matrix:
    """Of a lower triangular matrix, by halves: LAPACK would take it for a full one. Not trusted."""
    h = L.shape[-1] // 2
    if h < 16 or L.shape[-1] % 2:
        return np.linalg.inv(L)
    first, second = np.linalg.inv(np.stack([L[..., :h, :h], L[..., h:, h:]]))
    X = np.zeros_like(L)
    X[..., :h, :h], X[..., h:, h:], X[..., h:, :h] = first, second, -second @ (L[..., h:, :h] @ first)
    return X


def _squares(L: Matrix) -> Vector | float:
    """The square of the Frobenius norm, with an axis for broadcasting."""
    if L.ndim == 2:
        return float(np.vdot(L, L))
    return np.einsum("...ij,...ij->...", L, L)[..., None]
