"""One matrix, a batch of small ones and a row of numbers as one block diagonal matrix, for the method of `interior.py`."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.full import Full

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
Batch = Float[Tensor, "count k k"]


@dataclass(frozen=True, eq=False)
class Direct:
    """The direct sum of a matrix, small matrices, and numbers."""

    main: Matrix
    small: Batch
    line: Vector

    def __add__(self, other: "Direct") -> "Direct":
        return Direct(self.main + other.main, self.small + other.small, self.line + other.line)

    def __sub__(self, other: "Direct") -> "Direct":
        return self + -1.0 * other

    def __rmul__(self, c: float) -> "Direct":
        return Direct(c * self.main, c * self.small, c * self.line)

    def __truediv__(self, c: float) -> "Direct":
        return (1 / c) * self

    @property
    def mT(self) -> "Direct":
        return Direct(self.main.mT, self.small.mT, self.line)


@dataclass(frozen=True, eq=False)
class DirectPositive:
    """A positive definite direct sum."""

    matrix: Direct

    @cached_property
    def full(self) -> Full:
        return Full(self.matrix.main)

    @cached_property
    def factors(self) -> Batch | None:
        """Of the small matrices; None where one is not positive definite."""
        L, failed = torch.linalg.cholesky_ex(self.matrix.small)
        return None if failed.any() else L

    @property
    def positive(self) -> bool:
        return (
            bool((self.matrix.line > 0).all()) and self.factors is not None and self.full.factor is not None
        )

    def scaled(self, c: float) -> "DirectPositive":
        return DirectPositive(c * self.matrix)

    def moved(self, step: Direct, c: float) -> "DirectPositive | None":
        """The matrix after `c` times `step`, less where rounding demands it."""
        tries = (DirectPositive(self.matrix + c * 0.8**k * step) for k in range(20))
        return next((there for there in tries if there.positive), None)

    def reach(self, step: Direct, most: float, digits: int = 4) -> float:
        """How far, at most `most`, one may go along `step`."""
        found, L = self.full.reach(step.main, most, digits), self.factors
        if L is None:
            return 0.0
        least = [(step.line / self.matrix.line).min()] if len(step.line) else []
        if len(L):
            inner = torch.linalg.solve_triangular(L, step.small, upper=False)
            inner = torch.linalg.solve_triangular(L, inner.mT, upper=False)
            least.append(torch.linalg.eigvalsh((inner + inner.mT) / 2).min())
        most = min(map(float, least), default=0.0)
        return found if found * most >= -1 else -1 / most
