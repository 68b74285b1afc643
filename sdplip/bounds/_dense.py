r"""The inequality of a system of increments without block structure, for the interior-point method of `_interior.py`.

    minimise rho   subject to   Z = rho E_0 + sum_i lambda_i (p_i q_i' + q_i p_i') - C >= 0

Variable i has $p_i = e_i - \alpha_i y_i$, $q_i = e_i - \beta_i y_i$, over input and variables, and $C = f^\top f$. Coordinates
are scaled with a feasible point, so that the optimum is of order one.
"""

from dataclasses import dataclass

import torch

from sdplip.bounds._blocks import Forms, Matrix, Vector, symmetric


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

    def inverse(self, factor: Matrix) -> Matrix:
        return symmetric(torch.cholesky_inverse(factor))

    def apply_inverse(self, factor: Matrix, P: Matrix, G: Matrix) -> Matrix:  # noqa: ARG002
        return torch.cholesky_solve(G, factor)

    def forms(self, S: Matrix) -> Forms:
        """Products of S with all p and q."""
        pS, qS = self.p @ S, self.q @ S
        return Forms(
            pS @ self.p.mT, pS @ self.q.mT, qS @ self.q.mT, pS[:, : self.inputs], qS[:, : self.inputs]
        )

    def schur(self, f: Forms, g: Forms, P: Matrix, X: Matrix) -> Matrix:
        r"""$\mathrm{tr}(A_i P A_j X)$, as in `Blocks`."""
        n = self.inputs
        H = P.new_empty(len(f.pp) + 1, len(f.pp) + 1)
        H[1:, 1:] = f.pp * g.qq + f.qq * g.pp + f.pq * g.pq.mT + f.pq.mT * g.pq
        H[0, 1:] = (f.p0 * g.q0 + g.p0 * f.q0).sum(1)
        H[1:, 0] = H[0, 1:]
        H[0, 0] = (P[:n, :n] * X[:n, :n]).sum()
        return H

    def adjoint(self, S: Matrix) -> Vector:
        r"""$\langle A_i, S \rangle$ of a matrix that may be unsymmetric."""
        inner = ((self.p @ S) * self.q).sum(1) + ((self.q @ S) * self.p).sum(1)
        return torch.cat([S.diagonal()[: self.inputs].sum()[None], inner])

    def times(self, dy: Vector, S: Matrix) -> Matrix:
        r"""$(\sum_i dy_i A_i) S$."""
        out = self.p.mT @ (dy[1:, None] * (self.q @ S)) + self.q.mT @ (dy[1:, None] * (self.p @ S))
        out[: self.inputs] += dy[0] * S[: self.inputs]
        return out

    def near_product(self, P: Matrix, G: Matrix) -> Matrix:
        return P @ G

    def objective(self, X: Matrix) -> float:
        return float((self.C * X).sum())
