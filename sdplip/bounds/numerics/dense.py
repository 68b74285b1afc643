r"""The inequality of a system of increments without block structure, for the interior-point method of `interior.py`.

    minimise rho   subject to   Z = rho E_0 + sum_i lambda_i (p_i q_i' + q_i p_i') - C >= 0

Variable i has $p_i = e_i - \alpha_i y_i$, $q_i = e_i - \beta_i y_i$, over input and variables, and $C = f^\top f$. Coordinates
are scaled with a feasible point, so that the optimum is of order one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.full import Full

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Dense:
    """What `Blocks` is for chains; `p` and `q` of shape (variables, order), `C` of the order."""

    inputs: int
    p: Matrix
    q: Matrix
    C: Matrix

    @property
    def order(self) -> int:
        return len(self.C)

    def assemble(self, y: Vector) -> Matrix:
        """Z of y = (rho, lambda)."""
        A = self.p.mT @ (y[1:, None] * self.q)
        Z = A + A.mT - self.C
        Z.diagonal()[: self.inputs] += y[0]
        return Z

    def factor(self, y: Vector) -> Matrix | None:
        """Cholesky factor of Z; None where Z is not positive definite."""
        L, failed = torch.linalg.cholesky_ex(self.assemble(y))
        return None if int(failed) or not bool(torch.isfinite(L).all()) else L

    def inverse(self, y: Vector, factor: Matrix) -> Full:  # noqa: ARG002
        """$P = Z^{-1}$."""
        P = torch.cholesky_inverse(factor)
        return Full((P + P.mT) / 2)

    def schur(self, P: Full, X: Full) -> Matrix:
        r"""$\mathrm{tr}(A_i P A_j X)$ for all variables."""
        n, N = self.inputs, len(self.p)
        (Pp, Pq), (Xp, Xq) = ((S.matrix @ self.p.mT, S.matrix @ self.q.mT) for S in (P, X))
        H = self.C.new_empty(N + 1, N + 1)
        cross = (self.p @ Pq) * (self.p @ Xq).mT
        H[1:, 1:] = (self.p @ Pp) * (self.q @ Xq) + (self.q @ Pq) * (self.p @ Xp) + cross + cross.mT
        H[0, 1:] = (Pp[:n] * Xq[:n] + Pq[:n] * Xp[:n]).sum(0)
        H[1:, 0] = H[0, 1:]
        H[0, 0] = (P.matrix[:n, :n] * X.matrix[:n, :n]).sum()
        return H

    def adjoint(self, S: Matrix) -> Vector:
        r"""$\langle A_i, S \rangle$ of a matrix that may be unsymmetric."""
        inner = ((self.p @ S) * self.q).sum(1) + ((self.q @ S) * self.p).sum(1)
        return torch.cat([S.diagonal()[: self.inputs].sum()[None], inner])

    def product(self, P: Full, dy: Vector, X: Full) -> Matrix:
        r"""$P (\sum_i dy_i A_i) X$."""
        S = X.matrix
        out = self.p.mT @ (dy[1:, None] * (self.q @ S)) + self.q.mT @ (dy[1:, None] * (self.p @ S))
        out[: self.inputs] += dy[0] * S[: self.inputs]
        return P.matrix @ out

    def bend(self, P: Full, dy: Vector, X: Full, dX: Matrix, c: float, first: Matrix) -> Matrix:  # noqa: ARG002
        r"""$P (\sum_i dy_i A_i) dX$."""
        return self.product(P, dy, Full(dX))

    def objective(self, X: Matrix) -> float:
        return float((self.C * X).sum())
