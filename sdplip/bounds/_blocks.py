r"""The LipSDP inequality in blocks, one a layer, and the linear algebra of an interior-point method on it.

    minimise rho   subject to   Z = rho E_0 + sum_i lambda_i (p_i q_i' + q_i p_i') - C >= 0

Neuron $i$ of layer $k$ has $p_i = e_i - \alpha_i w_i$ and $q_i = e_i - \beta_i w_i$ with $w_i$ row $i$ of $W_k$ in the
block before;
$E_0$ is the identity of the input block and $C = W_l^\top W_l$ stands in the last block. $Z$ is block tridiagonal: its Cholesky
factor costs $\sum n_k^3$, and each block of the inverse follows from its neighbour by a product of the size of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
Factor = tuple[list[Matrix], list[Matrix]]
DEEP = 7
"""From this number of blocks on, substitution is quicker than a product with the dense inverse."""


@dataclass(frozen=True, eq=False)
class Forms:
    """Of a symmetric matrix S: $p_i^T S p_j$, $p_i^T S q_j$, $q_i^T S q_j$, and $p_i^T S$, $q_i^T S$ on the input block."""

    pp: Matrix
    pq: Matrix
    qq: Matrix
    p0: Matrix
    q0: Matrix


@dataclass(frozen=True, eq=False)
class Blocks:
    """The data of the inequality: weights and slopes, on one device, in double precision."""

    weights: Sequence[Matrix]
    alpha: Vector
    beta: Vector

    @cached_property
    def sizes(self) -> list[int]:
        return [self.weights[0].shape[1], *(len(W) for W in self.weights[:-1])]

    @cached_property
    def start(self) -> list[int]:
        return list(accumulate(self.sizes, initial=0))

    @cached_property
    def relu(self) -> bool:
        """Whether every lower slope is 0, which saves half of the work."""
        return not bool(self.alpha.any())

    @property
    def inputs(self) -> int:
        return self.sizes[0]

    @property
    def order(self) -> int:
        return self.start[-1]

    @cached_property
    def C(self) -> Matrix:
        return self.weights[-1].mT @ self.weights[-1]

    def layers(self, v: Vector) -> tuple[Vector, ...]:
        """A vector over all neurons, layer by layer."""
        return torch.split(v, self.sizes[1:])

    def assemble(self, y: Vector) -> tuple[list[Matrix], list[Matrix]]:
        r"""Diagonal and lower blocks of $Z(y)$ with $y = (\rho, \lambda)$."""
        n, options = self.inputs, {"dtype": y.dtype, "device": y.device}
        diagonal = [y[0] * torch.eye(n, **options)]
        lower = []
        for W, lam, a, b in zip(
            self.weights, *map(self.layers, (y[1:], self.alpha, self.beta)), strict=False
        ):
            if not self.relu:
                diagonal[-1] = diagonal[-1] + W.mT @ ((2 * a * b * lam)[:, None] * W)
            diagonal.append(torch.diag(2 * lam))
            lower.append(-((a + b) * lam)[:, None] * W)
        diagonal[-1] = diagonal[-1] - self.C
        return diagonal, lower

    def factor(self, y: Vector) -> Factor | None:
        """Block Cholesky factor of Z: diagonal factors and upper side blocks; None where Z is not positive definite."""
        diagonal, lower = self.assemble(y)
        factors, sides = list[Matrix](), list[Matrix]()
        for k, S in enumerate(diagonal):
            if k:
                sides.append(torch.linalg.solve_triangular(factors[-1], lower[k - 1].mT, upper=False))
                S = S - sides[-1].mT @ sides[-1]
            L, failed = torch.linalg.cholesky_ex(S)
            if int(failed) or not bool(torch.isfinite(L).all()):
                return None
            factors.append(L)
        return factors, sides

    def inverse(self, factor: Factor) -> Matrix:
        """All of $P = Z^{-1}$."""
        factors, sides = factor
        at = self.start
        P = factors[0].new_empty(self.order, self.order)
        P[at[-2] :, at[-2] :] = torch.cholesky_inverse(factors[-1])
        for k in reversed(range(len(sides))):
            a, b, c = at[k : k + 3]
            F = torch.linalg.solve_triangular(factors[k].mT, sides[k], upper=True)
            P[a:b, b:] = -F @ P[b:c, b:]
            P[b:, a:b] = P[a:b, b:].mT
            P[a:b, a:b] = symmetric(torch.cholesky_inverse(factors[k]) - P[a:b, b:c] @ F.mT)
        return P

    def apply_inverse(self, factor: Factor, P: Matrix, G: Matrix) -> Matrix:
        """$Z^{-1} G$: by substitution in deep networks, by a product with the inverse P in shallow ones."""
        factors, sides = factor
        if len(factors) < DEEP:
            return P @ G
        rows = [G[a:b] for a, b in pairwise(self.start)]
        for k, L in enumerate(factors):
            right = rows[k] - sides[k - 1].mT @ rows[k - 1] if k else rows[k]
            rows[k] = torch.linalg.solve_triangular(L, right, upper=False)
        for k in reversed(range(len(factors))):
            right = rows[k] - sides[k] @ rows[k + 1] if k < len(sides) else rows[k]
            rows[k] = torch.linalg.solve_triangular(factors[k].mT, right, upper=True)
        return torch.cat(rows)

    def forms(self, S: Matrix) -> Forms:
        """Products of S with all $p_i$ and $q_i$, block by block."""
        n, at = self.inputs, self.start
        SW = S.new_empty(self.order, self.order - n)  # S w_j
        WSW = S.new_empty(self.order - n, self.order - n)
        for k, W in enumerate(self.weights[:-1]):
            SW[:, at[k + 1] - n : at[k + 2] - n] = S[:, at[k] : at[k + 1]] @ W.mT
        for k, W in enumerate(self.weights[:-1]):
            WSW[at[k + 1] - n : at[k + 2] - n] = W @ SW[at[k] : at[k + 1]]
        corner, side, first, cross = S[n:, n:], SW[n:], S[n:, :n], SW[:n].mT
        a, b = self.alpha, self.beta
        pq = corner - side * b
        q0 = first - b[:, None] * cross
        if self.relu:
            qq = WSW.mul_(b).sub_(side.mT).mul_(b[:, None]).add_(pq)
            return Forms(corner, pq, qq, first, q0)
        pq = pq - a[:, None] * (side.mT - WSW * b)
        pp = corner - side * a - a[:, None] * (side.mT - WSW * a)
        qq = corner - side * b - b[:, None] * (side.mT - WSW * b)
        return Forms(pp, pq, qq, first - a[:, None] * cross, q0)

    def schur(self, f: Forms, g: Forms, P: Matrix, X: Matrix) -> Matrix:
        r"""$\mathrm{tr}(A_i P A_j X)$ for all variables: Hadamard products of the forms `f` of P and `g` of X."""
        n = self.inputs
        H = P.new_empty(len(f.pp) + 1, len(f.pp) + 1)
        inner = H[1:, 1:]
        torch.mul(f.pp, g.qq, out=inner)
        inner.addcmul_(f.qq, g.pp).addcmul_(f.pq, g.pq.mT).addcmul_(f.pq.mT, g.pq)
        H[0, 1:] = (f.p0 * g.q0 + g.p0 * f.q0).sum(1)
        H[1:, 0] = H[0, 1:]
        H[0, 0] = (P[:n, :n] * X[:n, :n]).sum()
        return H

    def adjoint(self, S: Matrix) -> Vector:
        r"""$\langle A_i, S \rangle$ for all variables, of a matrix that may be unsymmetric."""
        at = self.start
        parts = [S[: self.inputs, : self.inputs].diagonal().sum()[None]]
        for k, (W, a, b) in enumerate(
            zip(self.weights, *map(self.layers, (self.alpha, self.beta)), strict=False)
        ):
            before, here = slice(at[k], at[k + 1]), slice(at[k + 1], at[k + 2])
            side = ((S[here, before] + S[before, here].mT) * W).sum(1)
            part = 2 * S[here, here].diagonal() - (a + b) * side
            parts.append(part if self.relu else part + 2 * a * b * ((W @ S[before, before]) * W).sum(1))
        return torch.cat(parts)

    def times(self, dy: Vector, S: Matrix) -> Matrix:
        r"""$(\sum_i dy_i A_i) S$."""
        at, out = self.start, torch.empty_like(S)
        out[: self.inputs] = dy[0] * S[: self.inputs]
        slopes = map(self.layers, (dy[1:], self.alpha, self.beta))
        for k, (W, lam, a, b) in enumerate(zip(self.weights, *slopes, strict=False)):
            before, here = slice(at[k], at[k + 1]), slice(at[k + 1], at[k + 2])
            WS = W @ S[before]
            total = ((a + b) * lam)[:, None]
            out[here] = 2 * lam[:, None] * S[here] - total * WS
            out[before] -= W.mT @ (
                total * S[here] if self.relu else total * S[here] - (2 * a * b * lam)[:, None] * WS
            )
        return out

    def near_product(self, P: Matrix, G: Matrix) -> Matrix:
        """The blocks of `P @ G` that `adjoint` reads, zeros elsewhere."""
        at, out = self.start, torch.zeros_like(P)
        for k in range(len(self.sizes)):
            columns = slice(at[max(k - 1, 0)], at[min(k + 2, len(self.sizes))])
            out[at[k] : at[k + 1], columns] = P[at[k] : at[k + 1]] @ G[:, columns]
        return out

    def objective(self, X: Matrix) -> float:
        r"""$\langle C, X \rangle$."""
        n = len(self.C)
        return float((self.C * X[-n:, -n:]).sum())


def symmetric(M: Matrix) -> Matrix:
    return (M + M.mT) / 2
