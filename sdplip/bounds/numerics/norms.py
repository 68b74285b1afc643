"""Spectral norms in floating point, and how much room a proof of them needs."""

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import gamma
from sdplip.arithmetic.semidefinite import slack

LEAST = 1e-150
"""The least bound of a matrix that is proposed: squares of smaller ones underflow."""
STEPS = 60
"""Of the Lanczos iteration, which ends earlier where it stands still."""


def norm_estimate(W: Float[np.ndarray, "m n"]) -> float:
    r"""$\lVert W \rVert_2$ to about $10^{-14}$, by the eigenvalues of the smaller Gram matrix."""
    if not W.any() or not np.isfinite(W).all():
        return 0.0 if np.isfinite(W).all() else np.inf
    size = float(abs(W).max())
    W = W / size
    G = W @ W.T if W.shape[0] < W.shape[1] else W.T @ W
    return size * _top(G) ** 0.5


def provable_norm(A: Enclosure, room: float = 1.0) -> float:
    """A bound of the norm of every member that a proof can reach; more `room` makes it larger."""
    norm, error = norm_estimate(A.mid), A.error() * (1 + 1e-6)
    if not (np.isfinite(norm) and norm > 0):
        return max(norm, LEAST) + error
    spread = (float(np.linalg.norm(A.mid / norm))) ** 2
    relative = slack(min(A.shape)) + 2 * gamma(max(A.shape) + 8) * spread
    return max(norm * (1 + room * relative), LEAST) + error


def _top(G: Float[np.ndarray, "n n"]) -> float:
    """The largest eigenvalue of a positive semidefinite matrix: Lanczos with full orthogonality, or all of them."""
    n = len(G)
    if n <= 200:
        return max(float(np.linalg.eigvalsh(G)[-1]), 0.0)
    rng = np.random.default_rng(0)
    V, alpha, beta = np.zeros((STEPS + 1, n)), list[float](), list[float]()
    V[0] = rng.normal(size=n)
    V[0] /= np.linalg.norm(V[0])
    value = 0.0
    for k in range(STEPS):
        w = G @ V[k]
        alpha.append(float(w @ V[k]))
        w -= V[: k + 1].T @ (V[: k + 1] @ w)
        w -= V[: k + 1].T @ (V[: k + 1] @ w)
        T = np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)
        values, vectors = np.linalg.eigh(T)
        size = float(np.linalg.norm(w))
        value = float(values[-1])
        if size * abs(vectors[-1, -1]) < 1e-15 * value or size == 0:
            return value
        beta.append(size)
        V[k + 1] = w / size
    return max(float(np.linalg.eigvalsh(G)[-1]), 0.0)
