r"""A linear map on intervals, on points with errors, and on rows that come back, rounding included.

One underflow rule: a product $a x$ loses at most `TINY` itself, and `TINY` times the other factor where a factor is subnormal and
counts as zero; a sum at most `TINY`. So an entry $\sum_k a_k x_k + b$ of t terms loses at most
$4 (t + 2) (1 + \max |x|) + 4 \sum_k |a_k|$ times `TINY`, and every bound here adds that.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.network import AbstractLinear, Dense, Diagonal, Gather
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear map with what is computed of it once."""

    op: AbstractLinear

    @cached_property
    def absolute(self) -> AbstractLinear:
        return self.op.absolute()

    @cached_property
    def b(self) -> Vector:
        return self.op.shift()

    @cached_property
    def sums(self) -> Vector:
        """Of the absolute values of each row."""
        return self.absolute.apply(np.ones(self.op.inputs)) * GENEROUS

    @cached_property
    def shift_error(self) -> Vector:
        """How far the shift that is meant may be from `b`."""
        error = self.op.shift_error if isinstance(self.op, Diagonal) else None
        return np.zeros(self.op.outputs) if error is None else np.asarray(error, np.float64)

    @property
    def cost(self) -> int:
        """About how many products of dense matrices an application takes as long as."""
        slow = 1 if isinstance(self.op, Dense) else 6
        return slow * self.op.terms * self.op.outputs + 16 * (self.op.inputs + self.op.outputs)

    def relative(self, terms: int) -> float:
        """The relative error of sums of so many products, that of the entries included."""
        return gamma(terms + 6) + self.op.error * (1 + gamma(terms + 6))

    def values(self, x: Vector, size: Vector, count: int = 0) -> tuple[Vector, Vector]:
        """$A x + b$ in floating point, and what rounding takes of it and of `count` further images of rows, in all.

        `size` is at least |x| plus the absolute values of those rows, but for rounding.
        """
        lost = (count + 1) * self._lost(size) + self.shift_error
        relative = self.relative(self.op.terms)
        error = relative * (self.absolute.apply(size) * GENEROUS + abs(self.b)) + lost
        return self.op.apply(x) + self.b, error * GENEROUS

    def interval(self, low: Vector, high: Vector) -> tuple[Vector, Vector]:
        """Ends of the outputs for inputs between `low` and `high`; infinite where nothing is known."""
        if isinstance(self.op, Gather):
            return self.op.apply(low), self.op.apply(high)
        known = np.isfinite(low) & np.isfinite(high)
        if not known.all():
            if not isinstance(self.op, Diagonal):
                return np.full(self.op.outputs, -np.inf), np.full(self.op.outputs, np.inf)
            low, high = np.where(known, low, 0.0), np.where(known, high, 0.0)
        middle = low / 2 + high / 2
        half = np.maximum(high - middle, middle - low) * (1 + 4 * UNIT) + 4 * TINY
        size = abs(middle) + half
        around, error = self.values(middle, size)
        far = (self.absolute.apply(half) * (1 + self.op.error) * GENEROUS + error) * GENEROUS
        far = far + 4 * UNIT * (abs(around) + far) + 8 * TINY
        low, high = around - far, around + far
        if isinstance(self.op, Diagonal):
            low, high = np.where(known, low, -np.inf), np.where(known, high, np.inf)
        return np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)

    def _lost(self, size: Vector) -> Vector:
        most = 1 + float(size.max(initial=0.0))
        return 4 * TINY * ((self.op.terms + 2) * most + self.sums)
