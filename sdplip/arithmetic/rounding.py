r"""Constants of the rounding analysis.

Double precision, rounding to nearest, any order of summation, with or without fused multiply-add. A result that underflows may be
flushed to zero, and a subnormal operand may count as zero: either loses at most `TINY`, times the other factor of a product. What
overflows becomes infinite and proves nothing. Quantities that bound an *error* are themselves computed in floating point;
`GENEROUS` covers their own rounding, so no directed rounding mode is needed.
"""

import numpy as np

UNIT = 2.0**-53
"""Unit roundoff $u$: $fl(a \\circ b) = (a \\circ b)(1 + \\delta)$ with $|\\delta| \\le u$."""

TINY = 2.0**-1022
"""Bound of one underflow error: the smallest normal number, so that flush-to-zero arithmetic is covered too."""

GENEROUS = 1 + 2.0**-20
"""Exceeds $(1 + u)^k$ for every $k \\le 2^{31}$: the rounding of an error bound computed with nonnegative terms."""


def gamma(k: int) -> float:
    r"""Upper bound of $\gamma_k = k u / (1 - k u)$, the relative error of $k$ successive roundings (Higham 2002, Lemma 3.1)."""
    return k * UNIT / (1 - k * UNIT) * GENEROUS


def up(x: float) -> float:
    """One correctly rounded operation, made an upper bound: the next larger double, and `TINY` where it may have underflowed."""
    return TINY if abs(x) < TINY else float(np.nextafter(x, np.inf))


def down(x: float) -> float:
    """One correctly rounded operation, made a lower bound: the next smaller double, and -`TINY` where it may have underflowed."""
    return -TINY if abs(x) < TINY else float(np.nextafter(x, -np.inf))
