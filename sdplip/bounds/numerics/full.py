"""Positive definite matrices with all their entries, as the interior-point method moves them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

Matrix = Float[Tensor, "m n"]


@dataclass(frozen=True, eq=False)
class Full:
    """What `Markov` is for deep chains."""

    matrix: Matrix

    @cached_property
    def factor(self) -> Matrix | None:
        """Lower Cholesky factor; None where the matrix is not positive definite."""
        L, failed = torch.linalg.cholesky_ex(self.matrix)
        return None if int(failed) else L

    def scaled(self, c: float) -> "Full":
        return Full(c * self.matrix)

    def moved(self, step: Matrix, c: float) -> "Full | None":
        """The matrix after `c` times `step`, less where rounding demands it."""
        tries = (Full(self.matrix + c * 0.8**k * step) for k in range(20))
        return next((there for there in tries if there.factor is not None), None)

    def reach(self, step: Matrix, most: float, digits: int = 4) -> float:  # noqa: ARG002
        """How far, at most `most`, one may go along `step`: least eigenvalue of $L^{-1} step L^{-T}$ by Lanczos."""
        L = self.factor
        if L is None:
            return 0.0
        n = len(L)
        v = torch.cos(torch.arange(n, dtype=L.dtype, device=L.device) * 2.399963 + 0.5)
        basis = L.new_zeros(n, min(n, 40) + 1)
        basis[:, 0] = v / v.norm()
        diagonal, side, least = [], [], 0.0
        for k in range(min(n, 40)):
            u = torch.linalg.solve_triangular(L.mT, basis[:, k : k + 1], upper=True)
            w = torch.linalg.solve_triangular(L, step @ u, upper=False)[:, 0]
            diagonal.append(w @ basis[:, k])
            for _ in range(2):  # twice is enough (Kahan, Parlett)
                w = w - basis[:, : k + 1] @ (basis[:, : k + 1].mT @ w)
            size = w.norm()
            done = float(size) < 1e-14 or k == min(n, 40) - 1
            if k % 5 == 4 or done:
                T = torch.diag(torch.stack(diagonal)).cpu()
                if side:
                    T = T + torch.diag(torch.stack(side).cpu(), 1) + torch.diag(torch.stack(side).cpu(), -1)
                theta, vectors = torch.linalg.eigh(T)
                residual = float(size) * abs(float(vectors[-1, 0]))
                least = float(theta[0]) - residual
                if done or residual <= 0.03 * abs(float(theta[0])):
                    break
            side.append(size)
            basis[:, k + 1] = w / size
        return most if least * most >= -1 else -1 / least
