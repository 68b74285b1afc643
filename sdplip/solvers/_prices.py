r"""Largest eigenvalues of many symbols under one `t`, by Lanczos iteration on a few at a time, as many as the cache holds.

All are looked at in single precision, no better than it takes to see which matter; then, from the highest on, in double, until no
other can be the highest. NumPy, whose products of matrices with vectors are the fast ones here.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from sdplip.solvers._units import CACHED, lengths_squared

EXACT = 64
"""Up to so many channels eigenvalues are computed by LAPACK."""

STEPS, FINE_STEPS = 60, 120
"""Of an iteration in single precision, and in double."""

SPREAD = 2.0**10
r"""A Ritz value is off by about $\rho^2$ times this: the inverse of the distance to the next eigenvalue, about $n^{-2/3}$."""

ROUGH = 2.0**-18
"""Residual that single precision reaches, relatively."""

CLEAR = 0.99
"""Eigenvalues that are likely below are not looked at any closer."""

Found = tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Complex[np.ndarray, "k n"]]


@dataclass(frozen=True, eq=False)
class Symbols:
    """One matrix a frequency with columns of lengths near 1: all in single precision, those that are asked for in double.

    Attributes:
        given: of the problem.
        keep: its columns that are not zero.
        scale: what they are multiplied by.
        low: all in single precision.
        squares: of the lengths of the columns.
    """

    given: Complex[np.ndarray, "F m all"]
    keep: Int[np.ndarray, " n"]
    scale: Float[np.ndarray, " n"]
    low: Complex[np.ndarray, "F m n"]
    squares: Float[np.ndarray, "F n"]

    @classmethod
    def of(
        cls,
        given: Complex[np.ndarray, "F m all"],
        keep: Bool[np.ndarray, " all"],
        scale: Float[np.ndarray, " n"],
    ) -> "Symbols":
        """In one pass over the memory."""
        F, m, _ = given.shape
        n, width = len(scale), max(1, CACHED // given[0].size)
        low, squares = np.empty((F, m, n), np.complex64), np.empty((F, n))
        self = cls(given, np.flatnonzero(keep), scale, low, squares)
        for a in range(0, F, width):
            S = self.exact(np.arange(a, min(a + width, F)))
            low[a : a + width] = S
            squares[a : a + width] = lengths_squared(S)
        return self

    def __len__(self) -> int:
        return len(self.given)

    def exact(self, chosen: Int[np.ndarray, " k"]) -> Complex[np.ndarray, "k m n"]:
        """Some in double precision."""
        S = self.given[chosen]
        return (S if len(self.keep) == S.shape[-1] else S[..., self.keep]) * self.scale

    def gram(self, V: Complex[np.ndarray, "F n"]) -> Complex[np.ndarray, "F n"]:
        """All Gram matrices times a vector each, in single precision."""
        width, image = max(1, CACHED // self.low[0].size), np.empty_like(V)
        for a in range(0, len(V), width):
            image[a : a + width] = gram(self.low[a : a + width], V[a : a + width])
        return image

    def priced(
        self,
        t: Float[np.ndarray, " n"],
        tolerance: float,
        warm: Complex[np.ndarray, "F n"],
        asked: Bool[np.ndarray, " F"],
    ) -> tuple[Float[np.ndarray, " F"], Complex[np.ndarray, "F n"]]:
        r"""Estimates of $\lambda_{\max}(T^{-1/2} S^* S T^{-1/2})$ from above, likely, and eigenvectors, from those that are `warm`;
        of those that are not asked for, 0 and what they were. The highest is within `tolerance`, likely."""
        where, scale = np.flatnonzero(asked), t**-0.5
        theta, vectors = np.zeros(len(self)), warm.copy()
        width = max(1, CACHED // self.low[0].size)
        for a in range(0, len(where), width):
            f = where[a : a + width]
            if len(t) <= EXACT:
                P = self.exact(f) * scale
                values, Q = np.linalg.eigh(P.conj().mT @ P)
                theta[f], vectors[f] = values[:, -1], Q[..., -1]
                continue
            aim = max(ROUGH, (tolerance / SPREAD) ** 0.5)
            found, rho, vectors[f] = _top(self.low[f] * scale.astype(np.float32), warm[f], aim, STEPS)
            theta[f] = _above(found, rho) + 4 * ROUGH**2
        if len(t) > EXACT:
            self._refine(theta, vectors, scale, tolerance)
        return theta, vectors

    def _refine(self, theta: np.ndarray, vectors: np.ndarray, scale: np.ndarray, tolerance: float) -> None:
        """In double precision from the highest on."""
        highest = 0.0
        for f in np.argsort(-theta, kind="stable"):
            if theta[f] <= highest:
                break
            P, aim = self.exact(np.array([f])) * scale, (tolerance / (8 * SPREAD)) ** 0.5
            found, rho, x = _top(P, vectors[f : f + 1].astype(P.dtype), aim, FINE_STEPS)
            theta[f], vectors[f] = _above(found, rho)[0], x[0]
            highest = max(highest, theta[f])


def gram(P: Complex[np.ndarray, "k m n"], v: Complex[np.ndarray, "k n"]) -> Complex[np.ndarray, "k n"]:
    """$P^* P v$, where no matrix is transposed in memory."""
    u = (P @ v[..., None])[..., 0]
    return (u.conj()[:, None, :] @ P)[:, 0].conj()


def _above(theta: np.ndarray, rho: np.ndarray) -> np.ndarray:
    return theta + np.minimum(rho, SPREAD * rho**2)


def _top(
    P: Complex[np.ndarray, "k m n"], warm: Complex[np.ndarray, "k n"], tolerance: float, steps: int
) -> Found:
    """Largest eigenvalues of the Gram matrices, residuals of at most `tolerance` times the highest, and vectors; rough where they
    are below `CLEAR`."""
    k, n, steps = len(P), P.shape[-1], min(steps, P.shape[-1])
    basis = np.empty((k, steps, n), P.dtype)
    alpha, beta = np.zeros((k, steps)), np.zeros((k, steps))
    w = warm
    for j in range(steps):
        size = np.linalg.norm(w, axis=-1, keepdims=True)
        basis[:, j] = w / (size + (size == 0))
        known, w = basis[:, : j + 1], gram(P, basis[:, j])
        alpha[:, j] = np.real((basis[:, j].conj() * w).sum(-1))
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            parts = (known @ w.conj()[..., None])[..., 0].conj()
            w = w - (parts[:, None, :] @ known)[:, 0]
        beta[:, j] = np.linalg.norm(w, axis=-1)
        if j % 4 == 3 or j == steps - 1:
            theta, rho, s = _ritz(alpha[:, : j + 1], beta[:, : j + 1])
            near = theta + rho >= CLEAR
            if j == steps - 1 or not near.any() or (rho[near] <= tolerance * theta.max()).all():
                return theta, rho, (s.astype(P.dtype)[:, None, :] @ known)[:, 0]
    raise AssertionError("there is at least one step")


def _ritz(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest eigenvalues of tridiagonal matrices, their residuals, and their eigenvectors."""
    j = np.arange(alpha.shape[1])
    M = np.zeros((len(alpha), len(j), len(j)))
    M[:, j, j], M[:, j[1:], j[:-1]] = alpha, beta[:, :-1]  # the lower triangle is read
    values, s = np.linalg.eigh(M)
    return values[:, -1], beta[:, -1] * abs(s[:, -1, -1]), s[..., -1]
