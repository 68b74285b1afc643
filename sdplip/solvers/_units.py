"""The nonzero columns of a weight, measured in powers of two, so that the change of units is exact."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Inexact, Int

from sdplip.errors import InvalidScaling

CACHED = 2**20
"""Entries of the weights of a batch that are looked at together."""


def lengths_squared(S: Inexact[np.ndarray, "batch m n"]) -> Float[np.ndarray, "batch n"]:
    """Of the columns."""
    square = np.square(np.real(S)).sum(-2)
    return square + np.square(np.imag(S)).sum(-2) if np.iscomplexobj(S) else square


def _batches(S: Inexact[np.ndarray, "batch m n"]) -> Iterator[Inexact[np.ndarray, "some m n"]]:
    width = max(1, CACHED // S[0].size)
    for a in range(0, len(S), width):
        yield S[a : a + width]


@dataclass(frozen=True, eq=False)
class Units:
    """Inside, every column has a norm near 1, and `t = 4**exponent * t_inside`."""

    keep: Bool[np.ndarray, " n"]
    exponent: Int[np.ndarray, " kept"]

    @classmethod
    def of(cls, S: Inexact[np.ndarray, "batch m n"]) -> "Units":
        """Units for a batch of weights; the largest of a batch decides."""
        peak = np.max([np.maximum(abs(np.real(a)), abs(np.imag(a))).max((0, 1)) for a in _batches(S)], 0)
        keep = peak > 0
        coarse = np.clip(np.frexp(peak)[1], -1000, 1000)
        square, scale = np.zeros(keep.sum()), np.ldexp(1.0, -coarse)
        for a in _batches(S):
            square = np.maximum(square, lengths_squared(a * scale).max(0)[keep])
        exponent = coarse[keep]
        return cls(keep, exponent + np.rint(np.log2(square) / 2).astype(exponent.dtype))

    @property
    def top(self) -> int:
        """The unit of the objective is `2**top`, that of the largest column."""
        return 2 * int(self.exponent.max(initial=-(2**9)))

    def columns(self, S: Inexact[np.ndarray, "batch m n"]) -> Inexact[np.ndarray, "batch m kept"]:
        """The columns that are kept, inside."""
        return S[..., self.keep] * np.ldexp(1.0, -self.exponent)

    def cost(self, cost: Float[np.ndarray, " n"]) -> Float[np.ndarray, " kept"]:
        """The cost of `t` inside, in units of `2**top`; columns too small to matter cost a little all the same."""
        inside = np.ldexp(cost[self.keep], 2 * self.exponent - self.top)
        return np.maximum(inside, 1e-100 * inside.max(initial=0))

    def outside(self, t: Float[np.ndarray, " kept"]) -> Float[np.ndarray, " n"]:
        """The scaling of all columns, 0 on zero columns."""
        result = np.zeros(len(self.keep))
        result[self.keep] = np.ldexp(t, 2 * self.exponent)
        return result

    def inside(self, t: Any) -> Float[np.ndarray, " kept"]:
        """A scaling that the user gives, inside.

        Raises:
            InvalidScaling: it is not a finite vector of this length, positive on nonzero columns.
        """
        t = np.array(t, dtype=np.float64)
        if t.shape != self.keep.shape:
            raise InvalidScaling(
                f"`start` must have the shape {self.keep.shape}, but has the shape {t.shape}."
            )
        wrong = ~(np.isfinite(t) & (t > 0)) & self.keep
        if wrong.any():
            i = int(np.argmax(wrong))
            raise InvalidScaling(
                f"`start` must be positive and finite on every nonzero column, but entry {i} is {t[i]}."
                " Use a scaling such as `sdplip.scalings.aol(W)`, or None."
            )
        return np.ldexp(t[self.keep], -2 * self.exponent)
