"""Proposes eigenvectors. Nothing here is trusted: a bad proposal makes an enclosure wider, never wrong."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

Vector = Shaped[np.ndarray, " n"]


def top_eigenvector(
    apply: Callable[[Vector], Vector],
    n: int,
    tolerance: float = 1e-7,
    steps: int = 300,
    start: Vector | None = None,
) -> tuple[float, Vector]:
    """Rayleigh quotient and unit vector near the largest eigenvalue of a symmetric (or Hermitian, if `start` is complex)
    semidefinite operator, by Lanczos iteration.

    Stops when the residual is below `tolerance` times the eigenvalue, at the latest after `steps` steps.
    """
    steps = min(n, steps)
    # By default a fixed start without symmetries that a weight matrix might share.
    v = np.cos(np.arange(n) * 2.399963 + 0.5) + 1e-3 if start is None else start
    v = v / np.linalg.norm(v)
    basis = np.empty((steps, n), v.dtype)
    alpha, beta = np.zeros(steps), np.zeros(steps)
    previous, k = 0.0, 0
    theta, coefficients = 0.0, np.ones(1)
    for k in range(steps):
        basis[k] = v
        r = apply(v)
        alpha[k] = (v.conj() @ r).real
        r = r - alpha[k] * v
        if k:
            r -= previous * basis[k - 1]
        # every step: a basis with copies would amplify, not remove
        r -= basis[: k + 1].T @ (basis[: k + 1].conj() @ r)
        beta[k] = previous = float(np.linalg.norm(r))
        last = k == steps - 1 or previous <= 1e-14 * (abs(alpha[: k + 1]).max() + previous)
        if last or k % 8 == 7:
            tridiagonal = np.diag(alpha[: k + 1]) + np.diag(beta[:k], 1) + np.diag(beta[:k], -1)
            values, vectors = np.linalg.eigh(tridiagonal)
            theta, coefficients = float(values[-1]), vectors[:, -1]
            if last or previous * abs(coefficients[-1]) <= tolerance * theta:
                break
        v = r / previous
    x = coefficients @ basis[: k + 1]
    x = x / np.linalg.norm(x)
    return float((x.conj() @ apply(x)).real), x
