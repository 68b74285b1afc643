r"""The LipSDP inequality of `blocks.py` on the hidden neurons alone, for slopes in $[0, \beta]$: what a barrier method needs of it.

The first block of Z is $\rho I$, so that Z is positive definite where its Schur complement S on the neurons is,

    S_11 = 2 L_1 - B G B / rho,   S_kk = 2 L_k,   S_k,k-1 = -diag(beta_k) L_k W_k,   and - C in the last block,

with $B = \mathrm{diag}(\beta_1) L_1$ and $G = W_1 W_1^\top$. All entries of $Q = S^{-1}$ give those of $P = Z^{-1}$ that gradient and
Hessian of $-\log\det Z$ consist of; no matrix has a row for an input.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.blocks import Blocks, Factor

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Shallow:
    """A barrier of chains of few wide layers: a step costs a few times the cube of the number of neurons."""

    blocks: Blocks

    @property
    def order(self) -> int:
        return self.blocks.order

    @cached_property
    def rows(self) -> list[slice]:
        """Of each layer, among all neurons."""
        return [slice(a, b) for a, b in pairwise(accumulate(self.blocks.sizes[1:], initial=0))]

    def factor(self, y: Vector) -> Factor | None:
        """Block Cholesky factor of S; None where rho is not positive or S not positive definite."""
        if not float(y[0]) > 0:
            return None
        factors, sides = list[Matrix](), list[Matrix]()
        lams = self.blocks.layers(y[1:])
        bent = self.blocks.layers(self.blocks.beta * y[1:])
        for k, lam in enumerate(lams):
            if k:
                right = -(bent[k][:, None] * self.blocks.weights[k]).mT
                sides.append(torch.linalg.solve_triangular(factors[-1], right, upper=False))
                S = -(sides[-1].mT @ sides[-1])
            else:
                S = self.blocks.gram * (bent[0] / -y[0])
                S.mul_(bent[0][:, None])
            S.diagonal().add_(2 * lam)
            if k + 1 == len(lams):
                S.sub_(self.blocks.C)
            L, failed = torch.linalg.cholesky_ex(S)
            if int(failed) or not bool(torch.isfinite(L.diagonal()).all()):
                return None
            factors.append(L)
        return factors, sides

    def logdet(self, y: Vector, factor: Factor) -> float:
        r"""$\log\det Z$."""
        roots = sum(float(L.diagonal().log().sum()) for L in factor[0])
        return 2 * roots + self.blocks.inputs * float(y[0].log())

    def derivatives(self, y: Vector, factor: Factor) -> tuple[Vector, Matrix]:
        r"""$\mathrm{tr}(A_i P)$ and $\mathrm{tr}(A_i P A_j P)$ for all variables: minus the gradient of $-\log\det Z$, and its Hessian,
        lower triangle."""
        rho, first, beta = y[0], self.rows[0], self.blocks.beta
        Q = self._inverse(factor)
        B = (beta * y[1:])[first]
        GB = self.blocks.gram * (B / rho)
        R = torch.empty_like(Q)  # w_i' P e_j
        torch.mm(GB, Q[first], out=R[first])
        for k, W in enumerate(self.blocks.weights[1:-1]):
            torch.mm(W, Q[self.rows[k]], out=R[self.rows[k + 1]])
        RB = (
            R[:, first] * B
        )  # times G / rho: w_i' P w_j for j of the first layer, and the same with E_0 between
        AP = torch.cat([torch.empty_like(y[:1]), 2 * (Q.diagonal() - beta * R.diagonal())])
        trace = RB[first].diagonal().sum()
        AP[0] = (self.blocks.inputs + trace) / rho
        H = torch.empty(len(y), len(y), dtype=Q.dtype, device=Q.device)
        H[0, 0] = (self.blocks.inputs + 2 * trace + (RB[first] * RB[first].mT).sum()) / rho**2
        along = (R[first] * (B[:, None] * Q[first])).sum(0)
        across = (RB * R[first].mT).sum(1)
        across[first] += R[first, first].diagonal()
        H[1:, 0] = 2 / rho * (along - beta * across)
        V = self._seen(R, RB, rho).mul_(beta[:, None]).sub_(R.mT).mul_(beta)
        R.mul_(beta[:, None])
        V.sub_(R).add_(Q)  # q_i' P q_j
        R.neg_().add_(Q)  # q_i' P p_j
        torch.mul(Q, V, out=H[1:, 1:]).addcmul_(R, R.mT).mul_(2)
        return AP, H

    def _seen(self, R: Matrix, RB: Matrix, rho: Tensor) -> Matrix:
        """$w_i^T P w_j$."""
        V, first, G = torch.empty_like(R), self.rows[0], self.blocks.gram / rho
        V[:, first] = RB @ G
        V[first, first] += G
        for k, W in enumerate(self.blocks.weights[1:-1]):
            V[:, self.rows[k + 1]] = R[:, self.rows[k]] @ W.mT
        return V

    def _inverse(self, factor: Factor) -> Matrix:
        """All of Q: each block row from those below it."""
        (*factors, last), sides = factor
        n = self.rows[-1].stop
        Q = last.new_empty(n, n)
        Q[self.rows[-1], self.rows[-1]] = torch.cholesky_inverse(last)
        for k in reversed(range(len(sides))):
            here, after = self.rows[k], slice(self.rows[k].stop, None)
            up = -torch.linalg.solve_triangular(factors[k].mT, sides[k], upper=True)
            Q[here, after] = up @ Q[self.rows[k + 1], after]
            Q[after, here] = Q[here, after].mT
            D = torch.cholesky_inverse(factors[k]) + Q[here, self.rows[k + 1]] @ up.mT
            Q[here, here] = (D + D.mT) / 2
        return Q
