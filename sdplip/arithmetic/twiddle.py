r"""Cosine and sine of the grid angles, correctly rounded up to a proven $2^{-52}$, without trusting a mathematical library."""

from functools import lru_cache

import numpy as np

from sdplip.errors import NotProvable
from sdplip.shapes import Float

BITS = 128
ONE = 1 << BITS
ERROR = 2.0**-52
"""Bound of the absolute error of every table entry: half a unit in the last place, and the series below it."""
LONGEST = 1 << 17
"""Angles of one table: a second or two."""


def _arctan_inverse(x: int) -> int:
    """arctan(1 / x) in fixed point, error below 2^-110 (each of fewer than 128 terms is cut once or twice)."""
    total, power, k = 0, ONE // x, 0
    while power:
        total += (power // (2 * k + 1)) * (-1) ** k
        power //= x * x
        k += 1
    return total


PI = 4 * (4 * _arctan_inverse(5) - _arctan_inverse(239))
"""pi in fixed point, by Machin's formula; error below 2^-100."""


def _cos_sin(numerator: int, denominator: int) -> tuple[float, float]:
    r"""Cosine and sine of $2 \pi$ numerator / denominator by their Taylor series in integers; `|angle| <= pi`, error < 2^-90."""
    angle = 2 * PI * numerator // denominator
    sums, term, k = [0, 0, 0, 0], ONE, 0
    while term:
        sums[k % 4] += term
        k += 1
        term = term * angle // (k * ONE)
        if term == -1:  # floor division of a negative term never reaches 0
            break
    return (sums[0] - sums[2]) / ONE, (sums[1] - sums[3]) / ONE


@lru_cache(maxsize=16)
def table(size: int) -> tuple[Float[np.ndarray, " size"], Float[np.ndarray, " size"]]:
    r"""Cosines and sines of $2 \pi k / $`size` for `k = 0 .. size - 1`, each within `ERROR` of the truth.

    Raises:
        NotProvable: more than `LONGEST` angles.
    """
    if size > LONGEST:
        raise NotProvable(
            f"A grid of {size} frequencies is finer than the {LONGEST} that are tabulated. Choose a smaller one."
        )
    cos, sin = np.ones(size), np.zeros(size)
    eighth = size // 8 if size % 8 == 0 else size // 4 if size % 4 == 0 else size // 2
    first = min(eighth + 1, size)
    cos[:first], sin[:first] = np.array([_cos_sin(k, size) for k in range(first)]).T
    if size % 8 == 0:  # the other angles by symmetry, without rounding
        k = np.arange(eighth + 1, 2 * eighth + 1)
        cos[k], sin[k] = sin[2 * eighth - k], cos[2 * eighth - k]
    if size % 4 == 0:
        k = np.arange(size // 4 + 1, size // 2 + 1)
        cos[k], sin[k] = -cos[size // 2 - k], sin[size // 2 - k]
    k = np.arange(size // 2 + 1, size)
    cos[k], sin[k] = cos[size - k], -sin[size - k]
    return cos, sin
