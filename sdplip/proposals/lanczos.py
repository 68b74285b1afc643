"""Proposes eigenvectors. Nothing here is trusted: a bad proposal makes an enclosure wider, never wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

Vector = Shaped[np.ndarray, " n"]

CHECK = 8
"""Steps until convergence is looked at first, and at least from time to time."""


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
    k, check = 0, CHECK
    theta, coefficients = 0.0, np.ones(1)
    for k in range(steps):
        basis[k] = v
        known, r = basis[: k + 1], apply(v)
        parts = known.conj() @ r  # with all, every step: a basis with copies would amplify, not remove
        r = r - parts @ known
        r = r - (known.conj() @ r) @ known  # once more: what rounding left would grow from step to step
        alpha[k], beta[k] = parts[k].real, np.vdot(r, r).real ** 0.5
        last = k == steps - 1 or beta[k] <= 1e-14 * (abs(alpha[: k + 1]).max() + beta[k])
        if last or k + 1 == check:
            check += max(CHECK, check // 2)
            tridiagonal = np.diag(alpha[: k + 1]) + np.diag(beta[:k], 1) + np.diag(beta[:k], -1)
            values, vectors = np.linalg.eigh(tridiagonal)
            theta, coefficients = float(values[-1]), vectors[:, -1]
            if last or beta[k] * abs(coefficients[-1]) <= tolerance * theta:
                break
        v = r / beta[k]
    x = coefficients @ basis[: k + 1]
    x = x / np.linalg.norm(x)
    return float((x.conj() @ apply(x)).real), x


def top_ritz(
    apply: Callable[[Any], Any], start: Any, tolerance: float, blocks: int = 6, xp: Any = np
) -> tuple[float, float, Any]:
    r"""The largest Ritz value of a symmetric operator on $S, A S, A^2 S, \dots$ (block Lanczos), its residual norm and vector.

    It ends at a residual of `tolerance`, relatively, or with so many blocks. `xp` is numpy or torch, whose arrays `start` is of.
    A multiple eigenvalue, which one vector finds slowly, is found at once where `start` spans its space.
    """
    X = Q = xp.linalg.qr(start)[0]
    AX = AQ = apply(Q)
    for left in range(blocks, 0, -1):
        values, C = xp.linalg.eigh((X.mT @ AX + AX.mT @ X) / 2)
        x, theta = X @ C[:, -1], float(values[-1])
        rho = float(((AX @ C[:, -1] - theta * x) ** 2).sum()) ** 0.5
        if left == 1 or rho <= tolerance * abs(theta) or X.shape[1] + Q.shape[1] > len(X):
            break
        Q = AQ
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            Q = xp.linalg.qr(Q - X @ (X.mT @ Q))[0]
        AQ = apply(Q)
        X, AX = xp.concatenate((X, Q), 1), xp.concatenate((AX, AQ), 1)
    return theta, rho, x  # pyright: ignore[reportPossiblyUnboundVariable]
