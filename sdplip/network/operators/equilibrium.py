r"""An implicit layer: the solution z of $z = \sigma(W z + x)$, a monotone operator equilibrium network (Winston and Kolter 2020).

Nothing here says that there is one, or one only: that is proven of W by the rule `equilibrium` of the kernel, or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.operators.linear import Matrix, Rows, Vector, finite
from sdplip.network.operators.nonlinear import Activation
from sdplip.network.operators.slopes import slopes_at
from sdplip.shapes import Bool, Float, short

ROUNDS, STEPS, POLISH = 40, 25, 12
"""So many times as many steps of Peaceman-Rachford, and Newton steps behind each of them."""
CLOSE = 1e-13
"""Residual of a solution, relative to the largest number in it."""
ROOM = 1 << 24
"""Numbers of the matrices that are solved with at once."""


@dataclass(frozen=True, eq=False)
class Equilibrium:
    r"""$z = \sigma(W z + x)$ for a function with difference quotients in [0, 1].

    Attributes:
        W: square.
        name: of $\sigma$, in `sdplip.arithmetic.functions.FUNCTIONS`.
        parameters: of $\sigma$.

    Raises:
        InvalidWeight: W is not square or not finite, a function that is not known or has other slopes.
    """

    W: Matrix
    name: str = "relu"
    parameters: Mapping[str, "float | Vector"] = field(default_factory=dict)

    __repr__ = short

    def __post_init__(self) -> None:
        W = finite("The matrix of an equilibrium", np.asarray(self.W))
        if W.ndim != 2 or W.shape[0] != W.shape[1]:
            raise InvalidWeight(f"The matrix W of an equilibrium must be square, but has shape {W.shape}.")
        if not self.name:
            raise InvalidWeight("The activation of an equilibrium needs a name.")
        object.__setattr__(self, "W", W)
        op = self.activation
        if op.alpha.min() < 0 or op.beta.max() > 1:
            raise InvalidWeight(
                f"The activation of an equilibrium must have slopes in [0, 1], but `{self.name}` has slopes from"
                f" {float(op.alpha.min())!r} to {float(op.beta.max())!r}. Scale W, or use relu, tanh or sigmoid."
            )

    @cached_property
    def activation(self) -> Activation:
        """The elementwise function."""
        return Activation(self.name, len(self.W), self.parameters)

    @property
    def inputs(self) -> int:
        return len(self.W)

    @property
    def outputs(self) -> int:
        return len(self.W)

    @np.errstate(all="ignore")
    def value(self, x: Rows) -> Rows:
        """A solution in floating point; NaN where none is found, or the network has none.

        Peaceman-Rachford splitting with step 1, whose proximal map is the activation itself, then Newton steps from there.
        """
        c = np.asarray(x, np.float64).reshape(-1, len(self.W))
        z, found = np.zeros(c.shape), np.full(c.shape, np.nan)
        try:
            V = np.linalg.inv(2 * np.eye(len(self.W)) - self.W).T
        except np.linalg.LinAlgError:
            return found.reshape(np.shape(x))
        u, left = z, np.arange(len(c))
        for _ in range(ROUNDS):
            for _ in range(STEPS):
                back = 2 * z - u
                ahead = (back + c[left]) @ V
                u = 2 * ahead - back
                z = self.activation.value(u)
            near = self._polished(z, c[left])
            done = self._solves(near, c[left])
            found[left[done]] = near[done]
            left, z, u = left[~done], z[~done], u[~done]
            if not len(left):
                break
        return found.reshape(np.shape(x))

    def jacobian(self, x: Rows) -> Float[np.ndarray, "*batch n n"]:
        r"""$(I - D W)^{-1} D$ at the solution for `x`, D the slopes there; floating point, NaN where no solution is found."""
        z = self.value(x)
        D = slopes_at(self.activation, z @ self.W.T + x)[..., None] * np.eye(len(self.W))
        try:
            J = np.linalg.solve(np.eye(len(self.W)) - D @ self.W, D)
        except np.linalg.LinAlgError:
            return np.full(D.shape, np.nan)
        found = np.asarray(np.isfinite(z).all(-1))
        return np.where(found[..., None, None], J, np.nan)

    def _polished(self, z: Rows, c: Rows) -> Rows:
        """Newton steps, which end where the pieces of the solution are found."""
        n = len(self.W)
        for _ in range(POLISH):
            y = z @ self.W.T + c
            residual, D = z - self.activation.value(y), slopes_at(self.activation, y)
            steps = []
            for k in range(0, len(z), width := max(1, ROOM // n**2)):
                A = np.eye(n) - D[k : k + width, :, None] * self.W
                try:
                    steps.append(np.linalg.solve(A, residual[k : k + width, :, None])[..., 0])
                except np.linalg.LinAlgError:
                    return z
            z = z - np.concatenate([np.zeros((0, n)), *steps])
        return self.activation.value(z @ self.W.T + c)

    def _solves(self, z: Rows, c: Rows) -> Bool[np.ndarray, " batch"]:
        """Whether z is a solution up to rounding."""
        products = abs(z) @ abs(self.W).T + abs(c)
        size = np.maximum(1e-300, products.max(-1, initial=0.0) + abs(z).max(-1, initial=0.0))
        residual = abs(z - self.activation.value(z @ self.W.T + c)).max(-1, initial=0.0)
        return np.asarray(residual <= CLOSE * size)
