r"""One set of multipliers for all pairs of outputs: the best multiple $\theta \lambda$ for each pair, from one factorization.

With $A$ the matrix of the rule `joint` without $\kappa$ and output, and $c$ the row of a pair, the Schur complement of
$\theta A - c c^\top$ on the nonlinear variables $v$ is, by Sherman and Morrison,

    theta S - theta / (theta - a) w w' ,   S = A_xx - A_xv A_vv^-1 A_vx ,   w = c_x - A_xv A_vv^-1 c_v ,   a = c_v' A_vv^-1 c_v ,

so the least $\kappa$ is the largest root of a secular equation in the eigenvalues of $S$. Floating point: only proposes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.bounds.increments import Increments

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "m n"]


@dataclass(frozen=True, eq=False)
class SharedMultipliers:
    """What all pairs have in common: eigenvalues and eigenvectors of S, the factor of A_vv, and A_vv^-1 A_vx."""

    system: Increments
    values: Vector
    vectors: Matrix
    factor: Matrix
    back: Matrix

    @staticmethod
    def of(system: Increments, multipliers: Vector) -> "SharedMultipliers":
        """From the system of all outputs.

        Raises:
            numpy.linalg.LinAlgError: the multipliers dominate no output at all.
        """
        n, y = system.inputs, system.y
        lam = multipliers[system.group] * system.weight
        A = (y.T * (lam * system.alpha * system.beta)) @ y
        side = (0.5 * lam * (system.alpha + system.beta))[:, None] * y
        A[n:] -= side
        A[:, n:] -= side.T
        A[np.arange(n, len(A)), np.arange(n, len(A))] += lam
        factor = np.linalg.cholesky(A[n:, n:])
        half = np.linalg.solve(factor, A[n:, :n])
        values, vectors = np.linalg.eigh(A[:n, :n] - half.T @ half)
        return SharedMultipliers(system, values, vectors, factor, np.linalg.solve(factor.T, half))

    def best(self, i: int, j: int) -> tuple[float, float]:
        r"""The least $\kappa$ of $f_i - f_j$, and its $\theta$."""
        return self.best_of(self.system.out[i] - self.system.out[j])

    def best_of(self, c: Vector) -> tuple[float, float]:
        r"""The least $\kappa$ of the output whose row is `c`, and its $\theta$."""
        n = self.system.inputs
        a = float(np.square(np.linalg.solve(self.factor, c[n:])).sum())
        g = np.square(self.vectors.T @ (c[:n] - self.back.T @ c[n:]))
        theta, found = a + np.geomspace(1e-6, 1e2, 161) * (a or 1.0), (np.inf, 1.0)
        for _ in range(3):
            kappa = _largest_root(self.values, g, theta, theta / (theta - a))
            at = int(np.argmin(kappa))
            found = float(kappa[at]), float(theta[at])
            low, high = theta[max(at - 1, 0)], theta[min(at + 1, len(theta) - 1)]
            theta = a + np.geomspace(low - a, high - a, 41)
        return found


def _largest_root(s: Vector, g: Vector, theta: Vector, rho: Vector) -> Vector:
    r"""$\lambda_{\max}(\rho g^{1/2} g^{1/2 \top} - \theta \, \mathrm{diag}(s))$ for each theta, by bisection; at least 0."""
    poles = -theta * s.min()
    low, high = np.zeros_like(theta), rho * g.sum()
    for _ in range(60):
        middle = low / 2 + high / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            total = rho * (g / (middle[:, None] + theta[:, None] * (s - s.min()))).sum(1)
        above = total < 1
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.maximum(high + poles, 0.0)
