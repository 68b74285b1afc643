r"""The LipSDP inequality of `blocks.py` as one matrix of the order of the outputs, for slopes in $[0, \beta]$.

With the multipliers $\lambda$ of $\rho = 1$ let S be $Z + C$ without the inputs, which are eliminated,

    S_11 = 2 L_1 - B G B,   S_kk = 2 L_k,   S_k,k-1 = -diag(beta_k) L_k W_k

($B = \mathrm{diag}(\beta_1) L_1$, $G = W_1 W_1^\top$). Where $S \succ 0$, the inequality says that $T = \rho I - F S^{-1} F^\top \succeq 0$,
F the last matrix: $F S^{-1} F^\top$ is matrix convex in $\lambda$. At the optimum T is singular, while S is usually well inside, so
$-\log\det T$ is a barrier whose parameter is the number m of outputs, not the order of Z: its path has few steps.

With $U = S^{-1} F^\top T^{-1/2}$, continued to the inputs, and $p_i, q_i$ of `blocks.py`, the derivative for $\lambda_i$ is $-2 (U^\top p_i) \cdot
(U^\top q_i)$, and the second ones are Hadamard products of the Gram matrices of these rows and of all $p_i^\top S^{-1} q_j$.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.blocks import Blocks

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
WEIGHT = 1.0
"""Of log det S in the barrier, in parts of outputs over order: it keeps S away from its own boundary."""


class Factor(NamedTuple):
    """Cholesky factors: of S block by block with the blocks beside them, and of T."""

    diagonal: list[Matrix]
    sides: list[Matrix]
    corner: Matrix


@dataclass(frozen=True, eq=False)
class Shallow:
    r"""$T(y) \succ 0$ for $y = (\rho, \lambda)$; the multipliers of `blocks` are $\rho \lambda$."""

    blocks: Blocks

    @cached_property
    def rows(self) -> list[slice]:
        """Of each layer, among all neurons."""
        return [slice(a, b) for a, b in pairwise(accumulate(self.blocks.sizes[1:], initial=0))]

    @property
    def weight(self) -> float:
        """Of log det S in the barrier."""
        return WEIGHT * len(self.blocks.weights[-1]) / self.blocks.order

    @property
    def order(self) -> float:
        """The parameter of the barrier."""
        return len(self.blocks.weights[-1]) + self.weight * self.blocks.order

    def point(self, y: Vector) -> Vector:
        """As `blocks` wants it."""
        return torch.cat([y[:1], y[0] * y[1:]])

    def own(self, y: Vector) -> Vector:
        """The inverse of `point`."""
        return torch.cat([y[:1], y[1:] / y[0]])

    def factor(self, y: Vector) -> Factor | None:
        """None where S or T is not positive definite."""
        factors, sides = list[Matrix](), list[Matrix]()
        bent = self.blocks.layers(self.blocks.beta * y[1:])
        for k, lam in enumerate(self.blocks.layers(y[1:])):
            if k:
                right = -(bent[k][:, None] * self.blocks.weights[k]).mT
                sides.append(torch.linalg.solve_triangular(factors[-1], right, upper=False))
                S = -(sides[-1].mT @ sides[-1])
            else:
                S = (self.blocks.gram * -bent[0]).mul_(bent[0][:, None])
            S.diagonal().add_(2 * lam)
            L = _cholesky(S)
            if L is None:
                return None
            factors.append(L)
        X = torch.linalg.solve_triangular(factors[-1], self.blocks.weights[-1].mT, upper=False)
        T = -(X.mT @ X)
        T.diagonal().add_(y[0])
        corner = _cholesky(T)
        return None if corner is None else Factor(factors, sides, corner)

    def logdet(self, factor: Factor) -> float:
        r"""$\log\det T + w \log\det S$."""
        roots = sum(float(L.diagonal().log().sum()) for L in factor.diagonal)
        return 2 * (float(factor.corner.diagonal().log().sum()) + self.weight * roots)

    def columns(self, factor: Factor) -> Matrix:
        """U of all neurons."""
        part = torch.linalg.solve_triangular(factor.diagonal[-1], self.blocks.weights[-1].mT, upper=False)
        part = torch.linalg.solve_triangular(factor.corner, part.mT, upper=False).mT
        found = [torch.linalg.solve_triangular(factor.diagonal[-1].mT, part, upper=True)]
        for L, side in zip(reversed(factor.diagonal[:-1]), reversed(factor.sides), strict=True):
            found.append(-torch.linalg.solve_triangular(L.mT, side @ found[-1], upper=True))
        return torch.cat(found[::-1])

    def lower(self, y: Vector, factor: Factor) -> float:
        r"""A value that the optimum is not below, from the rows of U: any rows with $u_i \cdot u_i \le \beta_i u_i \cdot w_i^\top U$ give
        $\lVert F U \rVert^2 / \lVert U_0 \rVert^2$, $U_0$ those of the inputs. Layer by layer they are made so short."""
        U, first = self.columns(factor), self.rows[0]
        bent = (self.blocks.beta * y[1:])[first, None] * U[first]
        seen = self.blocks.gram @ bent
        size = float((bent * seen).sum())
        for k, here in enumerate(self.rows):
            if k:
                seen = self.blocks.weights[k] @ U[self.rows[k - 1]]
            u = U[here]
            most = self.blocks.beta[here] * (u * seen).sum(1) / u.square().sum(1).clamp_min(1e-300)
            u.mul_(most.clamp(0, 1)[:, None])
        return float((self.blocks.weights[-1] @ U[self.rows[-1]]).square().sum()) / size

    def derivatives(self, y: Vector, factor: Factor) -> tuple[Vector, Matrix]:
        r"""Minus the gradient of $-\log\det T - w \log\det S$, and its Hessian, lower triangle."""
        beta, root = self.blocks.beta[:, None], factor.corner
        B = (self.blocks.beta * y[1:])[self.rows[0], None]
        P = self.columns(factor)
        Q = P - beta * self._seen(P, B)
        both = torch.cat([P, Q]) @ torch.linalg.solve_triangular(
            root, torch.eye(len(root)).to(root), upper=False
        )
        inverse = torch.cholesky_inverse(root)
        AP = torch.cat([inverse.diagonal().sum()[None], 2 * (P * Q).sum(1)])
        H = torch.empty(len(y), len(y), dtype=P.dtype, device=P.device)
        H[0, 0] = inverse.square().sum()
        H[1:, 0] = 2 * (both[: len(P)] * both[len(P) :]).sum(1)
        inner = self._inverse(factor)  # p_i' S^-1 p_j
        cross = self._seen(inner, B)
        w = self.weight
        AP[1:] += 2 * w * (inner.diagonal() - beta[:, 0] * cross.diagonal())
        outer = self._seen_twice(cross, B).mul_(beta).sub_(cross.mT).mul_(beta.mT)
        cross.mul_(beta)
        outer.sub_(cross).add_(inner)  # q_i' S^-1 q_j
        cross.neg_().add_(inner)  # q_i' S^-1 p_j
        pp, mixed = P @ P.mT, Q @ P.mT
        qq = (Q @ Q.mT).add_(outer, alpha=w)
        outer.mul_(pp).mul_(1 - w).addcmul_(inner.add_(pp), qq)
        outer.addcmul_(mixed, mixed.mT).addcmul_(mixed, cross.mT).addcmul_(mixed.mT, cross)
        outer.addcmul_(cross, cross.mT, value=w)
        torch.mul(outer, 2, out=H[1:, 1:])
        return AP, H

    def _seen(self, M: Matrix, B: Matrix) -> Matrix:
        """$w_i^T M$ of columns that are continued to the inputs."""
        found, first = torch.empty_like(M), self.rows[0]
        torch.mm(self.blocks.gram, B * M[first], out=found[first])
        for k, W in enumerate(self.blocks.weights[1:-1]):
            torch.mm(W, M[self.rows[k]], out=found[self.rows[k + 1]])
        return found

    def _seen_twice(self, R: Matrix, B: Matrix) -> Matrix:
        """$w_i^T S^{-1} w_j$ with the inputs eliminated, from $w_i^T S^{-1}$."""
        found, first = torch.empty_like(R), self.rows[0]
        found[:, first] = (R[:, first] * B.mT) @ self.blocks.gram
        found[first, first] += self.blocks.gram
        for k, W in enumerate(self.blocks.weights[1:-1]):
            found[:, self.rows[k + 1]] = R[:, self.rows[k]] @ W.mT
        return found

    def _inverse(self, factor: Factor) -> Matrix:
        """All of $S^{-1}$: each block row from those below it."""
        *factors, last = factor.diagonal
        n = self.rows[-1].stop
        found = last.new_empty(n, n)
        found[self.rows[-1], self.rows[-1]] = torch.cholesky_inverse(last)
        for k in reversed(range(len(factors))):
            here, after = self.rows[k], slice(self.rows[k].stop, None)
            up = -torch.linalg.solve_triangular(factors[k].mT, factor.sides[k], upper=True)
            found[here, after] = up @ found[self.rows[k + 1], after]
            found[after, here] = found[here, after].mT
            D = torch.cholesky_inverse(factors[k]) + found[here, self.rows[k + 1]] @ up.mT
            found[here, here] = (D + D.mT) / 2
        return found


def _cholesky(A: Matrix) -> Matrix | None:
    L, failed = torch.linalg.cholesky_ex(A)
    return None if int(failed) or not bool(torch.isfinite(L.diagonal()).all()) else L
