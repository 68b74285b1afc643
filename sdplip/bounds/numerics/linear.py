"""The linear system of a step of the interior-point method, solved beyond what the rounding of its matrix allows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
DIRECTIONS = 8
EXACT = 1e-10
"""A step is improved along at most so many directions, until what is left would cost less than this part of rho."""


@dataclass(frozen=True, eq=False)
class Group:
    """Variables that share a value: `expand` copies, `collect` adds up."""

    index: Int[Tensor, " variables"]
    count: int

    def expand(self, v: Vector) -> Vector:
        return v[self.index]

    def collect(self, v: Vector) -> Vector:
        return v.new_zeros(self.count).index_add_(0, self.index, v)

    def square(self, H: Matrix) -> Matrix:
        """Of the lower triangle of a symmetric matrix."""
        H = H.tril() + H.tril(-1).mT
        rows = H.new_zeros(self.count, len(H)).index_add_(0, self.index, H)
        return rows.new_zeros(self.count, self.count).index_add_(1, self.index, rows)


def factored(H: Matrix) -> Callable[[Vector], Vector] | None:
    """The solution operator of H, which it equilibrates in place; None where H is not positive definite."""
    d = H.diagonal().clamp_min(torch.finfo(H.dtype).tiny).rsqrt()
    L, failed = torch.linalg.cholesky_ex(H.mul_(d[:, None]).mul_(d))
    if int(failed):
        return None

    def solve(r: Vector) -> Vector:
        half = torch.linalg.solve_triangular(L, (d * r)[:, None], upper=False)
        return d * torch.linalg.solve_triangular(L.mT, half, upper=True)[:, 0]

    return solve


def improved(
    product: Callable[[Vector], Any],
    adjoint: Callable[[Any], Vector],
    solve: Callable[[Vector], Vector],
    weight: Vector,
    right: Vector,
) -> tuple[Vector, Any]:
    """dy with `adjoint(product(dy))` = `right`, and `product(dy)`; `solve` knows both only up to rounding.

    Near the optimum the rounding of the matrix exceeds its least eigenvalues, and solving again for what is left does not
    converge. Conjugate residuals do (Eisenstat, Elman, Schultz 1983): the least remainder, weighed, over all that `solve` gave.
    """
    dy, left, past = torch.zeros_like(right), right, list[tuple[Vector, Any, Vector]]()
    total = None
    for _ in range(DIRECTIONS):
        z = solve(left)
        S = product(z)
        q = adjoint(S)
        for earlier, its, image in past:
            c = float((q * weight) @ (image * weight))
            z, S, q = z - c * earlier, S - c * its, q - c * image
        size = float((q * weight).norm())
        if not 0 < size < math.inf:
            break
        z, S, q = z / size, S / size, q / size
        past.append((z, S, q))
        c = float((left * weight) @ (q * weight))
        dy, left = dy + c * z, left - c * q
        total = c * S if total is None else total + c * S
        if float(abs(left) @ weight) < EXACT:
            break
    return dy, product(dy) if total is None else total
