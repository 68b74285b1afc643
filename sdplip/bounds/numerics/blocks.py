r"""The LipSDP inequality in blocks, one a layer, and the linear algebra of an interior-point method on it.

    minimise rho   subject to   Z = rho E_0 + sum_i lambda_i (p_i q_i' + q_i p_i') - C >= 0

Neuron $i$ of layer $k$ has $p_i = e_i - \alpha_i w_i$ and $q_i = e_i - \beta_i w_i$ with $w_i$ row $i$ of $W_k$ in the block
before; $E_0$ is the identity of the input block and $C = W_l^\top W_l$ stands in the last block. Z is block tridiagonal, so the
method needs the dual matrix on the same three diagonals only, and a step costs $\sum n_k^3$ (`markov.py`), but for the matrix of
the linear system, one entry for each pair of neurons, and its Cholesky factorization.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.markov import Band, Markov, completion, inverse, product, square

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
Factor = tuple[list[Matrix], list[Matrix]]


class Forms(NamedTuple):
    """Of a symmetric matrix S and the neurons i of one layer: $p_i^T S$ on the input block, $p_i^T S p_j$, $p_i^T S q_j$.

    Then the same with $q_i$. j runs over all neurons up to that layer.
    """

    p0: Matrix
    pp: Matrix
    pq: Matrix
    q0: Matrix
    qp: Matrix
    qq: Matrix


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
    def relu(self) -> bool:
        """Whether every lower slope is 0, which saves half of the work."""
        return not bool(self.alpha.any())

    @property
    def inputs(self) -> int:
        return self.sizes[0]

    @property
    def order(self) -> int:
        return sum(self.sizes)

    @cached_property
    def C(self) -> Matrix:
        return self.weights[-1].mT @ self.weights[-1]

    @cached_property
    def gram(self) -> Matrix:
        return self.weights[0] @ self.weights[0].mT

    def layers(self, v: Vector) -> tuple[Vector, ...]:
        """A vector over all neurons, layer by layer."""
        return torch.split(v, self.sizes[1:])

    def operator(self, y: Vector) -> Band:
        r"""$Z + C$ of $y = (\rho, \lambda)$: linear in y. Diagonal blocks that are diagonal are columns."""
        diagonal = [y[0].expand(self.inputs, 1)]
        lower = []
        for W, lam, a, b in zip(
            self.weights, *map(self.layers, (y[1:], self.alpha, self.beta)), strict=False
        ):
            if not self.relu:
                diagonal[-1] = square(diagonal[-1]) + W.mT @ ((2 * a * b * lam)[:, None] * W)
            diagonal.append(2 * lam[:, None])
            lower.append(-((a + b) * lam)[:, None] * W)
        return Band(diagonal, lower, [side.mT for side in lower])

    def assemble(self, y: Vector) -> Band:
        """The three block diagonals of Z."""
        Z = self.operator(y)
        *diagonal, last = map(square, Z.diagonal)
        return Band([*diagonal, last - self.C], Z.lower, Z.upper)

    def factor(self, y: Vector) -> Factor | None:
        """Block Cholesky factor of Z: diagonal factors and upper side blocks; None where Z is not positive definite."""
        Z = self.assemble(y)
        factors, sides = list[Matrix](), list[Matrix]()
        for k, S in enumerate(Z.diagonal):
            if k == 1 and self.relu:  # the first block is rho times the identity
                sides.append(Z.upper[0] / factors[0][0, 0])
                lam = self.layers(self.beta * y[1:])[0]
                S = S - (lam[:, None] * self.gram * lam) / y[0]
            elif k:
                sides.append(torch.linalg.solve_triangular(factors[-1], Z.upper[k - 1], upper=False))
                S = S - sides[-1].mT @ sides[-1]
            L, failed = torch.linalg.cholesky_ex(S)
            if int(failed) or not bool(torch.isfinite(L.diagonal()).all()):
                return None
            factors.append(L)
        return factors, sides

    def inverse(self, y: Vector, factor: Factor) -> Markov | None:
        """$P = Z^{-1}$."""
        return inverse(self.assemble(y), *factor)

    def adjoint(self, S: Band) -> Vector:
        r"""$\langle A_i, S \rangle$ for all variables, of a matrix that may be unsymmetric."""
        parts = [S.diagonal[0].diagonal().sum()[None]]
        slopes = map(self.layers, (self.alpha, self.beta))
        for k, (W, a, b) in enumerate(zip(self.weights, *slopes, strict=False)):
            side = ((S.lower[k] + S.upper[k].mT) * W).sum(1)
            part = 2 * S.diagonal[k + 1].diagonal() - (a + b) * side
            parts.append(part if self.relu else part + 2 * a * b * ((W @ S.diagonal[k]) * W).sum(1))
        return torch.cat(parts)

    def objective(self, S: Band) -> float:
        r"""$\langle C, S \rangle$."""
        return float((self.C * S.diagonal[-1]).sum())

    def product(self, P: Markov, dy: Vector, X: Markov) -> Band:
        r"""The three diagonals of $P (\sum_i dy_i A_i) X$."""
        return product(P, self.operator(dy), X)

    def bend(self, P: Markov, dy: Vector, X: Markov, dX: Band, c: float, first: Band) -> Band:
        r"""$P (\sum_i dy_i A_i) dX$ with the change of the completion from X to $X + 0.95\,c\,dX$ in place of dX."""
        c = 0.95 * c
        ahead = completion(X.matrix + c * dX)
        return 0.0 * first if ahead is None or c == 0 else 1 / c * (self.product(P, dy, ahead) - first)

    def schur(self, P: Markov, X: Markov) -> Matrix:
        r"""$\mathrm{tr}(A_i P A_j X)$ for all variables, lower triangle: Hadamard products of the forms of P and X."""
        n = 1 + len(self.alpha)
        H = self.C.new_zeros(n, n)
        H[0, 0] = (P.matrix.diagonal[0] * X.matrix.diagonal[0]).sum()
        for f, g in zip(self.forms(P), self.forms(X), strict=True):
            m, end = len(f.pp), 1 + f.pp.shape[1]
            H[end - m : end, 0] = (f.p0 * g.q0 + f.q0 * g.p0).sum(1)
            block = torch.mul(f.pp, g.qq, out=H[end - m : end, 1:end])
            block.addcmul_(f.qq, g.pp).addcmul_(f.pq, g.qp).addcmul_(f.qp, g.pq)
        return H

    def forms(self, S: Markov) -> Iterator[Forms]:
        """The forms of S, layer by layer: rows are a matrix times those of the layer before, but in their own columns."""
        e0, ep = S.matrix.diagonal[0], S.matrix.diagonal[0][:, :0]
        eq = ep
        for k, (W, a, b) in enumerate(
            zip(self.weights, *map(self.layers, (self.alpha, self.beta)), strict=False)
        ):
            p, q = (None if self.relu else a[:, None] * W), b[:, None] * W
            kinds = (p, q) if self.relu else (p, q, None)  # None is a slope of 0: rows of S itself
            turn = torch.cat([_minus(S.down[k], V) for V in kinds])
            p0, q0, e0 = _named((turn @ e0).split(len(W)))
            pp, qp, ep = _rows(S, k, kinds, turn, ep, p)
            pq, qq, eq = _rows(S, k, kinds, turn, eq, q)
            yield Forms(p0, pp, pq, q0, qp, qq)


def _rows(
    S: Markov, k: int, kinds: Sequence[Matrix | None], turn: Matrix, before: Matrix, columns: Matrix | None
) -> tuple[Matrix, Matrix, Matrix]:
    """Rows $p_i$, $q_i$, $e_i$ of S for layer k: by `turn` those in the columns before it, and those in its own."""
    M = S.matrix
    here, above = M.diagonal[k + 1], M.upper[k]
    if columns is not None:
        here, above = here - M.lower[k] @ columns.mT, above - M.diagonal[k] @ columns.mT
    n, m = len(here), before.shape[1]
    rows = turn.new_empty(len(turn), m + n)
    torch.mm(turn, before, out=rows[:, :m])
    for part, V in zip(rows[:, m:].split(n), kinds, strict=True):
        part.copy_(here) if V is None else torch.addmm(here, V, above, alpha=-1, out=part)
    return _named(rows.split(n))


def _named(rows: Sequence[Matrix]) -> tuple[Matrix, Matrix, Matrix]:
    """Of $p_i$, $q_i$ and $e_i$; where $p_i = e_i$ there are only two kinds."""
    return rows[0], rows[1], rows[2] if len(rows) > 2 else rows[0]


def _minus(A: Matrix, B: Matrix | None) -> Matrix:
    return A if B is None else A - B
