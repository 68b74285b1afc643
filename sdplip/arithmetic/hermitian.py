r"""Which Hermitian matrices of a batch are positive semidefinite? In complex arithmetic: half of the work of real embeddings.

The argument is that of `semidefinite`. Any L has $L L^* \succeq 0$; with $E = S - \sigma I - L L^*$ the matrix S is at least
$(\sigma - \lVert E \rVert_2) I$. LAPACK proposes L, all of it or block by block, and E is computed.

**Rounding.** Real and imaginary part of a sum of k complex products are sums of 2k real ones, so each is within $\gamma_{2k} \sum
|x_i| |y_i|$ in any order, and the complex number within $\sqrt 2$ times that. The subtraction from S rounds by u times its result.
Hence $|\hat E - E| \le 1.5\,\gamma_{2n + 8} |L| |L|^\top + 4 u |\hat E|$, and $\lVert |L| |L|^\top \rVert_2 \le \lVert L \rVert_F^2$.
The diagonal of S less $\sigma$ rounds by at most $2 u$ times the largest entry of it. Matrices are multiplied in the conventional
way: no Strassen, and four real products for a complex one (no 3M).

**Underflow.** Each product or sum may lose `TINY`, and entries that are read as zero lose `TINY` times another one:
$16 n^2 (n + 2) (1 + \lVert L \rVert_F^2)$ `TINY` in all.
"""

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.shapes import Bool, Complex, Float

Batch = Complex[np.ndarray, "f n n"]
Matrix = Complex[np.ndarray, "n n"]

BLOCK = 32
"""Columns of the residual that are computed at once: what lies above the diagonal is wasted."""
ALONE, LARGE = 48, 224
"""From these orders on, matrices are treated one by one, and factored block by block, which is faster than LAPACK."""


def guard(order: int, trace: float, error: float) -> float:
    """What is taken off the diagonal before the factorization, of matrices of that `trace` known up to `error`.

    For those who propose: where all eigenvalues exceed twice this, the proof is sure to succeed.
    """
    return float(
        (error + 1.25 * _rounding(order, trace) + 64 * UNIT * trace + _lost(order, trace)) * GENEROUS
    )


@np.errstate(all="ignore")
def positive(S: Batch, error: float) -> Bool[np.ndarray, " f"]:
    r"""True where every Hermitian $S^*$ with $\lVert S^* - S \rVert_2 \le$ `error` is proven positive semidefinite.

    The lower triangle of S is read, and its diagonal must be real. S is overwritten. NaN and infinity prove nothing.
    """
    f, n = S.shape[:2]
    if not S.size:
        return np.ones(f, bool)
    d = np.diagonal(S, axis1=-2, axis2=-1).copy()
    real = np.real(d)
    trace = real.sum(-1)
    good = (real > 0).all(-1) & (np.imag(d) == 0).all(-1) & np.isfinite(trace)
    shift = np.array([guard(n, t, error) for t in trace.tolist()])
    S[:, range(n), range(n)] -= shift[:, None]
    found, rest = np.zeros(f, bool), np.flatnonzero(good)
    for part in [slice(k, k + 1) for k in rest] if n >= ALONE else [rest] * bool(len(rest)):
        found[part] = _proven(S[part], error + 4 * UNIT * real.max(-1)[part], shift[part])
    return found


def _proven(
    S: Batch, error: Float[np.ndarray, " f"], shift: Float[np.ndarray, " f"]
) -> Bool[np.ndarray, " f"]:
    """Which of matrices, already shifted, are proven; halves of a batch where LAPACK breaks down at one of them."""
    f, n = S.shape[:2]
    try:
        L, residual = _blocks(S[0]) if n >= LARGE else _whole(S)
    except np.linalg.LinAlgError:
        if f == 1:
            return np.zeros(1, bool)
        half = f // 2
        parts = (slice(half), slice(half, f))
        return np.concatenate([_proven(S[part], error[part], shift[part]) for part in parts])
    square = _squares(L)
    need = np.sqrt(residual) * (1 + gamma(2 * n * n + 8)) + _rounding(n, square) + _lost(n, square) + error
    return need * GENEROUS <= shift


def _rounding(order: int, square: float | Float[np.ndarray, " f"]):
    return 1.5 * gamma(2 * order + 8) * square * GENEROUS


def _lost(order: int, square: float | Float[np.ndarray, " f"]):
    return 16.0 * order**2 * (order + 2) * (1 + square) * TINY


def _whole(S: Batch) -> tuple[Batch, Float[np.ndarray, " f"]]:
    r"""L by LAPACK, and $\lVert S - L L^* \rVert_F^2$ by the lower triangle, as computed."""
    n, L = S.shape[-1], np.linalg.cholesky(S)
    residual = np.zeros(len(S))
    for a in range(0, n, BLOCK):
        z = min(a + BLOCK, n)
        E = S[:, a:, a:z] - L[:, a:, :z] @ L[:, a:z, :z].conj().mT
        E[:, : z - a] *= np.tri(z - a)
        residual += 2 * _squares(E)
    return L, residual


def _blocks(S: Matrix) -> tuple[Batch, Float[np.ndarray, " f"]]:
    """The same of one matrix, block by block: the residual of a block is one thin product away."""
    n, L, residual = len(S), np.zeros_like(S), np.zeros(1)
    for a in range(0, n, BLOCK):
        z = min(a + BLOCK, n)
        E = S[a:, a:z] - L[a:, :a] @ L[a:z, :a].conj().T
        top = np.linalg.cholesky(E[: z - a])
        L[a:z, a:z] = top
        L[z:, a:z] = E[z - a :] @ np.linalg.inv(top).conj().T
        E -= L[a:, a:z] @ top.conj().T
        E[: z - a] *= np.tri(z - a)
        residual += 2 * _squares(E[None])
    return L[None], residual


def _squares(A: Complex[np.ndarray, "f m n"]) -> Float[np.ndarray, " f"]:
    real, imaginary = np.real(A), np.imag(A)
    return np.einsum("fij,fij->f", real, real) + np.einsum("fij,fij->f", imaginary, imaginary)
