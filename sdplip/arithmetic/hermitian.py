r"""Which Hermitian matrices of a batch are positive semidefinite? In complex arithmetic: half of the work of real embeddings.

The argument is that of `semidefinite`. Any L has $L L^* \succeq 0$; with $E = S - \sigma I - L L^*$ the matrix S is at least
$(\sigma - \lVert E \rVert_2) I$. LAPACK proposes L, and E is computed.

**Rounding.** Real and imaginary part of a sum of k complex products are sums of 2k real ones, so each is within $\gamma_{2k} \sum
|x_i| |y_i|$ in any order, and the complex number within $\sqrt 2$ times that. The subtraction from S rounds by u times its result.
Hence $|\hat E - E| \le 1.5\,\gamma_{2n + 8} |L| |L|^\top + 4 u |\hat E|$, and $\lVert |L| |L|^\top \rVert_2 \le \lVert L \rVert_F^2$.
The diagonal of S less $\sigma$ rounds by at most $2 u$ times the largest entry of it. Matrices are multiplied in the conventional
way: no Strassen, and four real products for a complex one (no 3M).

**Underflow.** Each product or sum may lose `TINY`, and entries that are read as zero lose `TINY` times another one:
$16 n^2 (n + 2) (1 + \lVert L \rVert_F^2)$ `TINY` in all.
"""

from collections.abc import Iterator

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.shapes import Bool, Complex, Float, Int

Batch = Complex[np.ndarray, "f n n"]

BLOCK = 32
"""Columns of the residual that are computed at once: what lies above the diagonal is wasted."""
ALONE = 48
"""Matrices of this order and larger are factored one by one."""


def guard(order: int, trace: float, error: float) -> float:
    """What is taken off the diagonal before the factorization, of matrices of that `trace` known up to `error`.

    For those who propose: where all eigenvalues exceed twice this, the proof is sure to succeed.
    """
    return (error + 1.25 * _rounding(order, trace) + 64 * UNIT * trace + _lost(order, trace)) * GENEROUS


@np.errstate(all="ignore")
def positive(S: Batch, error: float) -> Bool[np.ndarray, " f"]:
    r"""True where every Hermitian $S^*$ with $\lVert S^* - S \rVert_2 \le$ `error` is proven positive semidefinite.

    The lower triangle of S is read, and its diagonal must be real. S is overwritten.
    """
    f, n = S.shape[:2]
    d = np.diagonal(S, axis1=-2, axis2=-1).copy()
    good = np.isfinite(S.reshape(f, -1)).all(-1) & (d.real > 0).all(-1) & (d.imag == 0).all(-1)
    shift = np.array([guard(n, trace, error) for trace in d.real.sum(-1).tolist()])
    S[:, range(n), range(n)] -= shift[:, None]
    found, rest = np.zeros(f, bool), np.flatnonzero(good)
    for part in ([np.array([k]) for k in rest] if n >= ALONE else [rest]):
        for some, L in _factors(S, part):
            square = (L.real**2 + L.imag**2).sum((-2, -1))
            need = _residual(S[some], L) * (1 + gamma(2 * n * n + 8)) + _lost(n, square)
            need += _rounding(n, square) + 4 * UNIT * d.real.max(-1)[some] + error
            found[some] = need * GENEROUS <= shift[some]
    return found


def _rounding(order: int, square: float | Float[np.ndarray, " f"]):
    return 1.5 * gamma(2 * order + 8) * square * GENEROUS


def _lost(order: int, square: float | Float[np.ndarray, " f"]):
    return 16.0 * order**2 * (order + 2) * (1 + square) * TINY


def _factors(S: Batch, part: Int[np.ndarray, " k"]) -> Iterator[tuple[Int[np.ndarray, " k"], Batch]]:
    """Cholesky factors of those of the matrices that have one. Not trusted."""
    if not len(part):
        return
    try:
        yield part, np.linalg.cholesky(S[part])
    except np.linalg.LinAlgError:
        if len(part) > 1:
            half = len(part) // 2
            yield from _factors(S, part[:half])
            yield from _factors(S, part[half:])


def _residual(S: Batch, L: Batch) -> Float[np.ndarray, " f"]:
    r"""$\lVert S - L L^* \rVert_F$ by the lower triangle, as computed."""
    n, square = S.shape[-1], np.zeros(len(S))
    for a in range(0, n, BLOCK):
        z = min(a + BLOCK, n)
        E = S[:, a:, a:z] - L[:, a:, :z] @ L[:, a:z, :z].conj().mT
        E[:, : z - a][:, *np.triu_indices(z - a, 1)] = 0
        square += 2 * (E.real**2 + E.imag**2).sum((-2, -1))
    return np.sqrt(square)
