r"""The one test on which every certificate rests: is $\kappa\,\mathrm{diag}(d) - G$ positive semidefinite? A yes is a proof."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma


def proves_semidefinite(
    kappa: float,
    d: Float[np.ndarray, "*batch n"],
    minus_G: Float[np.ndarray, "*batch n n"],
    diagonal_G: Float[np.ndarray, "*batch n"],
    error_G: float,
) -> bool:
    r"""True only if $\kappa\,\mathrm{diag}(d) \succeq G^*$ for every $G^*$ with $\lVert G^* - G \rVert_2 \le$ `error_G`.

    False means "not proven". Verified Cholesky factorization: Rump, BIT 46 (2006), Corollary 2.4; `docs/rounding.md`, section 2.
    `minus_G` holds $-G$ below the diagonal; its diagonal is scratch space and is overwritten. `d > 0`, `diagonal_G >= 0`.
    """
    guard = outward_guard(kappa, d, diagonal_G, error_G)
    n = d.shape[-1]
    minus_G[..., range(n), range(n)] = kappa * d - diagonal_G - guard
    if not np.isfinite(minus_G).all():
        return False
    try:
        L = np.linalg.cholesky(minus_G)
    except np.linalg.LinAlgError:
        return False
    return bool((np.diagonal(L, axis1=-2, axis2=-1) > 0).all())


def proves_within(M: Float[np.ndarray, "n n"], R: Float[np.ndarray, "n n"]) -> bool:
    r"""True only if every symmetric $M^*$ with $|M^* - M| \le R$ entrywise is positive semidefinite.

    Powers of two bring the diagonal into $[1/2, 2)$ first, which is exact except for underflow; then the verified Cholesky
    factorization of `proves_semidefinite`, with $\lVert R \rVert_\infty$ as the error of the entries.
    """
    d = M.diagonal()
    if not (np.isfinite(M).all() and np.isfinite(R).all() and (d > 0).all()):
        return False
    e = -(np.frexp(d)[1] // 2)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        S = np.ldexp(M, e[:, None] + e)
        error = float(np.ldexp(R, e[:, None] + e).sum(1).max()) * GENEROUS + 4 * len(d) * TINY
    if not (np.isfinite(S).all() and np.isfinite(error)):
        return False
    return proves_semidefinite(1.0, S.diagonal().copy(), S, np.zeros(len(d)), error)


def outward_guard(
    kappa: float, d: Float[np.ndarray, "*batch n"], diagonal_G: Float[np.ndarray, "*batch n"], error_G: float
) -> float:
    r"""What is taken off the diagonal before the factorization: the sum of every error that was or will be made.

    `error_G`, the three roundings of each diagonal entry, and the backward error of Cholesky, at most
    $\gamma_{n+2} / (1 - \gamma_{n+2})$ times the trace ($n + 1$ roundings in the longest chain of Rump's analysis, one more
    because BLAS multiplies by the reciprocal of the pivot).
    """
    n = d.shape[-1]
    trace = kappa * float(d.sum(-1).max())
    cholesky = gamma(n + 2) / (1 - gamma(n + 2)) * trace
    diagonal = 4 * UNIT * (kappa * float(d.max()) + float(diagonal_G.max()) + error_G + cholesky)
    underflow = 8 * n * (n + 2) * TINY * (1 + trace)
    return (error_G + cholesky + diagonal + underflow) * GENEROUS


def guard_scale(
    kappa: float, d: Float[np.ndarray, "*batch n"], diagonal_G: Float[np.ndarray, "*batch n"], error_G: float
) -> float:
    r"""By how much $\kappa$ must exceed the least one so that $\kappa\,\mathrm{diag}(d)$ outweighs the guard."""
    return outward_guard(kappa, d, diagonal_G, error_G) / float(d.min())


def least_scale(estimate: float, guard: Callable[[float], float], proves: Callable[[float], bool]) -> float:
    r"""A small $\kappa$ for which `proves(kappa)` is True; infinite if none was found.

    `estimate` proposes the least $\kappa$ and is not trusted: when the proof fails, the proposal grows. The first proposal lies a
    quarter of `guard(kappa)` above the least provable one (so that another BLAS can prove it again): a good estimate costs one
    factorization and about $n^2 u$ of tightness.
    """
    room = 1.25
    for _ in range(40):
        kappa = estimate + room * guard(estimate)
        if np.isfinite(kappa) and proves(kappa):
            return kappa
        room *= 4
    return np.inf
