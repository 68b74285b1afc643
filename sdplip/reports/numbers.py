"""Sums of `t`, and what JSON can say of them."""

import math

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up


def trace(t: Float[np.ndarray, " n"]) -> float:
    """The sum of `t`, correctly rounded; infinite if it leaves the range of double precision."""
    try:
        return math.fsum(t.tolist())
    except OverflowError:
        return math.inf


def trace_above(t: Float[np.ndarray, " n"]) -> float:
    """The sum of `t`, rounded up."""
    return up(trace(t))


def log_det(t: Float[np.ndarray, " n"]) -> float:
    """Sum of the logarithms over the nonzero entries of `t`."""
    return math.fsum(np.log(t[t > 0]).tolist())


def finite(x: float) -> float | None:
    """`x`, or None (JSON's null) where the number left the range of double precision."""
    return x if math.isfinite(x) else None
