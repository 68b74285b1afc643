r"""The inequality of `blocks.py` with all entries of the dual matrix, for chains of few blocks.

The products of `Blocks` cost a few dozen times $\sum n_k^3$, those here a few times $(\sum n_k)^3$. Measured on one core with
blocks of 100 to 500: all entries take 0.7 of the time with two equal blocks, 0.85 with 500, 500, 200, 50, 0.95 with three, 1.2
with five and 1.8 with eight. So `quicker` compares the two sums.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.blocks import Blocks, Factor
from sdplip.bounds.numerics.full import Full
from sdplip.bounds.numerics.markov import Band

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
FEW = 10
"""Above this ratio of the cube of the order to the sum of the cubes of the blocks, three block diagonals are quicker."""


def quicker(blocks: Blocks) -> "Blocks | Whole":
    """The form in which the method takes less time."""
    few = blocks.order**3 <= FEW * sum(n**3 for n in blocks.sizes)
    return Whole(blocks) if few else blocks


class Forms(NamedTuple):
    r"""Of a symmetric matrix S: $p_i^T S p_j$, $p_i^T S q_j$, $q_i^T S q_j$, and $p_i^T S$, $q_i^T S$ on the input block."""

    pp: Matrix
    pq: Matrix
    qq: Matrix
    p0: Matrix
    q0: Matrix


@dataclass(frozen=True, eq=False)
class Whole:
    """What `Dense` is for systems, with the products of a chain."""

    blocks: Blocks

    @cached_property
    def rows(self) -> list[slice]:
        return [slice(a, b) for a, b in pairwise(accumulate(self.blocks.sizes, initial=0))]

    @property
    def order(self) -> int:
        return self.blocks.order

    def factor(self, y: Vector) -> Factor | None:
        """Block Cholesky factor of Z; None where Z is not positive definite."""
        return self.blocks.factor(y)

    def inverse(self, y: Vector, factor: Factor) -> Full:  # noqa: ARG002
        """All of $P = Z^{-1}$: each block row from those below it."""
        (*factors, last), sides = factor
        P, r = last.new_empty(self.order, self.order), self.rows
        P[r[-1], r[-1]] = torch.cholesky_inverse(last)
        for k in reversed(range(len(sides))):
            here, after = r[k], slice(r[k].stop, None)
            up = -torch.linalg.solve_triangular(factors[k].mT, sides[k], upper=True)
            P[here, after] = up @ P[r[k + 1], after]
            P[after, here] = P[here, after].mT
            D = torch.cholesky_inverse(factors[k]) + P[here, r[k + 1]] @ up.mT
            P[here, here] = (D + D.mT) / 2
        return Full(P)

    def band(self, S: Matrix) -> Band:
        """The three block diagonals of S."""
        pairs = list(pairwise(self.rows))
        return Band([S[k, k] for k in self.rows], [S[b, a] for a, b in pairs], [S[a, b] for a, b in pairs])

    def adjoint(self, S: Matrix) -> Vector:
        r"""$\langle A_i, S \rangle$ for all variables, of a matrix that may be unsymmetric."""
        return self.blocks.adjoint(self.band(S))

    def objective(self, S: Matrix) -> float:
        r"""$\langle C, S \rangle$."""
        return float((self.blocks.C * S[self.rows[-1], self.rows[-1]]).sum())

    def product(self, P: Full, dy: Vector, X: Full) -> Matrix:
        r"""$P (\sum_i dy_i A_i) X$."""
        D, S, out = self.blocks.operator(dy), X.matrix, torch.empty_like(X.matrix)
        for k, here in enumerate(self.rows):
            d = D.diagonal[k]
            out[here] = d * S[here] if d.shape[1] == 1 else d @ S[here]
            if k:
                out[here].addmm_(D.lower[k - 1], S[self.rows[k - 1]])
                out[self.rows[k - 1]].addmm_(D.upper[k - 1], S[here])
        return P.matrix @ out

    def bend(self, P: Full, dy: Vector, X: Full, dX: Matrix, c: float, first: Matrix) -> Matrix:  # noqa: ARG002
        r"""$P (\sum_i dy_i A_i) dX$."""
        return self.product(P, dy, Full(dX))

    def schur(self, P: Full, X: Full) -> Matrix:
        r"""$\mathrm{tr}(A_i P A_j X)$ for all variables, lower triangle: Hadamard products of the forms of P and X."""
        f, g, n = self.forms(P.matrix), self.forms(X.matrix), self.blocks.inputs
        H = f.pp.new_zeros(len(f.pp) + 1, len(f.pp) + 1)
        inner = torch.mul(f.pp, g.qq, out=H[1:, 1:])
        inner.addcmul_(f.qq, g.pp).addcmul_(f.pq, g.pq.mT).addcmul_(f.pq.mT, g.pq)
        H[1:, 0] = (f.p0 * g.q0 + g.p0 * f.q0).sum(1)
        H[0, 0] = (P.matrix[:n, :n] * X.matrix[:n, :n]).sum()
        return H

    def forms(self, S: Matrix) -> Forms:
        """From the products of S with the rows $w_i$ of the weights, layer by layer."""
        n, a, b = self.blocks.inputs, self.blocks.alpha, self.blocks.beta
        inner = list(zip(self.blocks.weights, self.rows, strict=True))[:-1]
        Sw = torch.cat([S[:, k] @ W.mT for W, k in inner], 1)
        wSw = torch.cat([W @ Sw[k] for W, k in inner])
        corner, side, first, cross = S[n:, n:], Sw[n:], S[n:, :n], Sw[:n].mT

        def form(left: Vector, right: Vector) -> Matrix:
            return corner - side * right - left[:, None] * (side.mT - wSw * right)

        if self.blocks.relu:
            pq = corner - side * b
            return Forms(corner, pq, pq - b[:, None] * (side.mT - wSw * b), first, first - b[:, None] * cross)
        return Forms(
            form(a, a), form(a, b), form(b, b), first - a[:, None] * cross, first - b[:, None] * cross
        )
