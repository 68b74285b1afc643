r"""The one prover: is every member of a symmetric enclosure positive semidefinite? A yes is a proof, and trusts no LAPACK.

**Statement.** `proves(M)` is True only if every symmetric $M^*$ with $|M^* - M| \le R$ is positive semidefinite; every Hermitian
one, where M is complex. `mid` and `rad` should be symmetric; of blocks below the diagonal the lower triangle counts. `which` says
it of each matrix of a batch, `proves_arrow` of block tridiagonal matrices with a border. For complex matrices read $L^*$ for
$L^\top$ below.

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
subtracted one after another (of the columns of earlier blocks, of $K$ in pieces, of $J$), $X_q$ the sums of their absolute values. Each
is computed with an error of at most $\gamma_k X_q$, $k$ the longest sum ($1.5 \gamma_{2k}$ if complex: `matrix.rounding_of`), and
each subtraction rounds by $u$ times its result.
Read backwards from the last result $\hat e$, such a result is at most $(|\hat e| + \sum_q X_q)(1 + \gamma_{k+p})$. Hence
$|\hat e - e| \le \gamma_{k + 2 p + 4} \sum_q X_q + \gamma_{2p} |\hat e|$. The matrix of the sums $\sum_q X_q$ is
$|L| |L|^\top$, with the norm at most $\lVert L \rVert_F^2$ and at most its largest row sum. So

$$ \lVert E \rVert_2 \le \bigl(\lVert \hat E \rVert_F + \gamma_{k + 2p + 4}
\min(\lVert L \rVert_F^2, \lVert |L| |L|^\top \rVert_\infty)\bigr)(1 + 2^{-20}) + 16 u + \text{underflow} , $$

where $16 u$ pays for the diagonal, $S_{ii} - (d_i + \sigma)$ with $S_{ii} < 2$ and $\sigma \le 1/4$ (if $d_i > 2$, then
$\lVert E \rVert_2 > \sigma$ by far), and for squares that underflow, which are those of numbers below $2^{-511}$. Only products
of matrices are trusted: any order of summation, with or without fused multiply-add, but conventional (no Strassen). A NaN or an
infinity anywhere makes a comparison false: not proven.

**Underflow.** Entries of an enclosure are zero or normal. Scaling an entry may lose `TINY` after the first factor, which the
second, $2^{e_j}$, multiplies: $\texttt{TINY} (1 + 2^{e_j})$ an entry, and likewise in the radii. An entry of $\hat E$
loses `TINY` in each of $N$ products and sums and in each entry of $L$ that is read as zero, times another entry of $L$: with N
the order, $8 (N + p + 2)(1 + \lVert L \rVert_F)$ `TINY`, and N times that in a row; four times as much if complex.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, rounding_of, size_of
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.shapes import Bool, Float, Int

Matrix = Float[np.ndarray, "*batch m n"]  # or complex
Vector = Float[np.ndarray, "*batch n"]
Exponents = Int[np.ndarray, "*batch n"]

WHOLE, BLOCK = 224, 64
"""LAPACK factors so many columns at once where there are no more; else so many. The rest is products of matrices."""
ENTRIES = 1 << 16
"""Of the matrices of a batch that are treated at once: what the cache holds."""
LARGE, WIDE = 4096, 192
"""From this order on, blocks of so many columns: fewer passes through memory."""
PIECE = 1024
"""Terms of one product at most, in a matrix that is one panel: sums of fewer terms round less, and more of them hardly cost."""
STRIP = 32
"""Columns of a residual on the diagonal that are computed at once."""
FINE = 2.0**-46
"""The norm of a residual that is too small to matter."""


def slack(order: int, trace: float | None = None, *, complex: bool = False) -> float:
    r"""What the eigenvalues of a matrix scaled to a diagonal in $[1/2, 2)$ must lie above 0 so that a proof is sure to succeed.

    For those who propose. It is about $n u\,\mathrm{tr}\,S$, with `PIECE` for larger n; `trace` is that of the scaled matrix, at
    most twice its order, which is the default. A tenth of it is often enough. Of a matrix in panels that are wider than `PIECE`
    it is too little.
    """
    terms = min(order, PIECE) + 2 * (order // PIECE)
    rounding = 1.5 * gamma(2 * terms + 24) if complex else gamma(terms + 12)
    return 1.15 * rounding * (2.0 * order if trace is None else trace) + 64 * UNIT


def proves(M: Enclosure) -> bool:
    r"""True only if every symmetric member is positive semidefinite; of a batch `(*batch, n, n)`, all of them.

    False means "not proven". Of a single matrix, rows of exact zeros are left out.
    """
    if M.mid.ndim < 2 or M.shape[-1] != M.shape[-2]:
        return False
    d = np.diagonal(M.mid, axis1=-2, axis2=-1)
    if M.mid.ndim == 2 and (d == 0).any() and _empty(M, d == 0):
        rows = np.flatnonzero(d)
        M = M[np.ix_(rows, rows)]
    return bool(which(M).all())


@np.errstate(all="ignore")
def which(M: Enclosure) -> Bool[np.ndarray, "*batch"]:
    """Of which matrices of a batch `(*batch, n, n)` it is proven."""
    n, d = M.shape[-1], np.real(np.diagonal(M.mid, axis1=-2, axis2=-1))
    if not d.size:
        return np.ones(d.shape[:-1], bool)
    if M.mid.ndim == 3 and len(M) == 1:  # cheaper without an axis
        return np.atleast_1d(which(Enclosure(M.mid[0], M.rad[0])))
    if M.mid.ndim == 3 and len(M) > (some := max(1, ENTRIES // n**2)):
        return np.concatenate([which(M[k : k + some]) for k in range(0, len(M), some)])
    good = np.asarray((np.isfinite(d) & (d >= TINY)).all(-1))
    if not good.any():
        return good
    e = _exponents(np.where(good[..., None], d, 1.0))
    s = np.ldexp(1.0, e)
    lost = 8 * n * TINY * (1 + s.max(-1, keepdims=True))
    off = (s * _row_sums(M.rad, s, n) + lost) * GENEROUS

    def scaled() -> Iterator[Matrix]:
        S = M.mid.copy() if not e.any() else M.mid * s[..., :, None]
        if e.any():
            S *= s[..., None, :]
        yield S

    return good & _proven(scaled, [off], 0)


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
    d = [np.diagonal(A.mid) for A in (*M.diagonal, M.corner)]
    if not all((np.isfinite(v) & (v >= TINY)).all() for v in d):
        return False
    s = [np.ldexp(1.0, _exponents(v)) for v in d]
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

    return bool(_proven(scaled, off, len(s[-1])).all())


def _empty(M: Enclosure, rows: np.ndarray) -> bool:
    """Whether these rows and columns are exact zeros."""
    R = M.radius()
    return not any(A.any() for A in (M.mid[rows], M.mid[:, rows], R[rows], R[:, rows]))


def _exponents(d: Vector) -> Exponents:
    """Powers of two whose squares bring `d` into [1/2, 2)."""
    return -(np.frexp(d)[1] // 2)


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
    return max(n, 1) if n <= WHOLE else BLOCK if n < LARGE else WIDE


def _proven(scaled: Callable[[], Iterator[Matrix]], off: list[Vector], m: int) -> Bool[np.ndarray, "*batch"]:
    r"""Whether the matrix with the panels `scaled()`, less `off` on its diagonal, is proven positive semidefinite.

    A panel holds a block of columns from the diagonal downwards: the block, the next block, the border of m rows.
    """
    panels = list(scaled())
    order, p = sum(v.shape[-1] for v in off), len(panels)
    widest = max(v.shape[-1] for v in off)
    longest = widest if p > 1 else min(widest, PIECE)
    rounding = rounding_of(longest + 2 * (p + widest // PIECE) + 8, panels[0])
    lost = 32.0 * (order + p + 2) * order * TINY
    shift = 1.1 * rounding * _size(panels, widest) + 24 * UNIT
    proven = np.zeros(shift.shape, bool)
    for _ in range(4):
        need = _residual(panels, [v + shift for v in off], m, rounding, lost)
        proven = (need <= shift) & (shift <= 0.25)
        if not (~proven & (need <= 0.15)).any():  # nothing is left that more room would prove
            break
        shift, panels = np.where(proven, shift, 1.5 * need), list(scaled())
    return proven[..., 0]


def _size(panels: list[Matrix], widest: int) -> Vector:
    r"""A guess of $\min(\mathrm{tr}\,S, \lVert |L| |L|^\top \rVert_\infty)$ from some rows. A bad one costs time."""
    trace = sum(np.real(np.diagonal(T, axis1=-2, axis2=-1)).sum(-1, keepdims=True) for T in panels)
    rows = [
        size_of(T[..., :: max(1, T.shape[-2] // 32), :]).sum(-1).max(-1, initial=0.0, keepdims=True)
        for T in panels
    ]
    return np.minimum(trace, 0.6 * widest**0.5 * np.max(rows, 0))


def _residual(panels: list[Matrix], off: list[Vector], m: int, rounding: float, lost: float) -> Vector:
    r"""At least $\lVert E \rVert_2$ of every matrix of the batch, see above; the panels are overwritten by L. NaN where the
    factorization breaks down."""
    sizes, square, error = [np.zeros_like(v) for v in off], *np.zeros((2, *off[0].shape[:-1], 1))
    for k, (T, d) in enumerate(zip(panels, off, strict=True)):
        n, behind = d.shape[-1], T.shape[-2] - m
        diagonal = np.einsum("...ii->...i", T[..., :n, :])  # a view
        diagonal -= d
        size = _columns(T, error, square)
        if np.isnan(square).all():
            return square
        sizes[k] += size[..., :n]
        if k < len(panels) - 1:
            sizes[-1] += size[..., behind:]
            sizes[k + 1][..., : behind - n] += size[..., n:behind]
            C, B = T[..., n:behind, :], T[..., behind:, :]
            panels[-1] -= B @ _adjoint(B)
            if k < len(panels) - 2:
                panels[k + 1][..., : behind - n, :] -= C @ _adjoint(C)
                panels[k + 1][..., panels[k + 1].shape[-2] - m :, :] -= B @ _adjoint(C)
    size = np.minimum(np.concatenate(sizes, -1).max(-1, keepdims=True), square)
    return (np.sqrt(error) + rounding * size * GENEROUS + lost * (1 + np.sqrt(square))) * GENEROUS + 16 * UNIT


def _columns(T: Matrix, error: Vector, square: Vector) -> Vector:
    r"""Factors a panel in place: the row sums of its part of $|L| |L|^\top$. Adds its part of $\lVert \hat E \rVert_F^2$ to `error`,
    of $\lVert L \rVert_F^2$ to `square`, which is NaN where the factorization breaks down."""
    n, rows, size = T.shape[-1], T.shape[-2], np.zeros(T.shape[:-1])
    for a in range(0, n, width := _width(n)):
        z = min(a + width, n)
        for b in range(0, a, PIECE):
            c = min(b + PIECE, a)
            T[..., a:, a:z] -= T[..., a:, b:c] @ _adjoint(T[..., a:z, b:c])
        S = T[..., a:z, a:z]
        L = _cholesky(S)
        square += _squares(L)
        if np.isnan(square).all():
            break
        error += _on_diagonal(S, L)
        S[...] = L
        L = _absolute(L)
        w = L.sum(-2)
        if z < rows:
            below, own = _below(T[..., z:, a:z], S)
            error += own
            square += _squares(below)
            T[..., z:, a:z] = below
            below = _absolute(below)
            w = w + below.sum(-2)
            size[..., z:] += _times(below, w)
        size[..., a:z] += _times(L, w)
    return size


def _cholesky(S: Matrix) -> Matrix:
    """Lower factors by LAPACK, NaN where it breaks down: halves of a batch, or one by one, where one of them does."""
    try:
        if S.ndim == 2 or S.shape[-1] < STRIP:
            return np.linalg.cholesky(S)
        L = np.empty_like(S)
        for own, A in zip(L, S, strict=True):
            own[...] = _cholesky(A)
        return L
    except np.linalg.LinAlgError:
        if S.ndim == 2 or len(S) == 1:
            return np.full_like(S, np.nan)
        return np.concatenate([_cholesky(S[: len(S) // 2]), _cholesky(S[len(S) // 2 :])])


def _on_diagonal(S: Matrix, L: Matrix) -> Vector:
    r"""$\lVert S - L L^* \rVert_F^2$ by strips of columns: what lies above them is mirrored. That of the symmetric part is no larger."""
    total = np.zeros((*S.shape[:-2], 1))
    for a in range(0, S.shape[-1], STRIP):
        z = min(a + STRIP, S.shape[-1])
        E = L[..., a:, :z] @ _adjoint(L[..., a:z, :z])
        E -= S[..., a:, a:z]
        total += _squares(E[..., : z - a, :]) + 2 * _squares(E[..., z - a :, :])
    return total


def _below(S: Matrix, L: Matrix) -> tuple[Matrix, Vector]:
    r"""X with $X L^*$ near S, and $2 \lVert S - X L^* \rVert_F^2$. A step of refinement makes it as good as substitution where it is
    not."""
    try:
        inverse = _adjoint(_inverse(L))
    except np.linalg.LinAlgError:
        return S, np.full((*S.shape[:-2], 1), np.nan)
    X = S @ inverse
    E = X @ _adjoint(L)
    E -= S
    if _squares(E).max() > FINE**2:
        X -= E @ inverse
        E = X @ _adjoint(L)
        E -= S
    return X, np.asarray(2 * _squares(E))


def _adjoint(A: Matrix) -> Matrix:
    return A.conj().mT


def _absolute(A: Matrix) -> Matrix:
    """Absolute values, as `size_of`; real numbers are overwritten."""
    return size_of(A) if np.iscomplexobj(A) else np.abs(A, out=A)


def _inverse(L: Matrix) -> Matrix:
    """Of a lower triangular matrix, by halves: LAPACK would take it for a full one. Not trusted."""
    h = L.shape[-1] // 2
    if h < 16 or L.shape[-1] % 2:
        return np.linalg.inv(L)
    first, second = np.linalg.inv(np.stack([L[..., :h, :h], L[..., h:, h:]]))
    X = np.zeros_like(L)
    X[..., :h, :h], X[..., h:, h:], X[..., h:, :h] = first, second, -second @ (L[..., h:, :h] @ first)
    return X


def _squares(L: Matrix) -> Vector | np.float64:
    """The square of the Frobenius norm; of a batch with an axis for broadcasting."""
    if np.iscomplexobj(L):
        return _squares(np.real(L)) + _squares(np.imag(L))
    if L.ndim == 2:
        return np.float64(np.vdot(L, L))
    return np.einsum("...ij,...ij->...", L, L)[..., None]
