r"""Sine and cosine: enclosed values, and the range on an interval from the multiples of pi in it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sdplip.arithmetic.elementwise import Array, Function, intervals, outward, within

LARGEST = 2.0**20
"""Arguments beyond have the range [-1, 1]: nothing is reduced with care there."""

ERROR = 2.0**-46
"""Absolute error of `wave` up to `LARGEST`."""

_HALF_PI = (1.5707963109016418, 1.5893254712295857e-08, 6.123233995736766e-17)
"""Pi / 2 in three parts; the first two have 26 and 27 bits, so that their products with whole numbers below 2^20 are exact."""


@np.errstate(all="ignore")
def wave(x: Array, quarter: int) -> Array:
    r"""$\sin(x + \mathrm{quarter}\,\pi / 2)$ for $|x| \le$ `LARGEST`, within `ERROR`.

    With $k = \mathrm{rint}(2 x / \pi)$, $r = ((x - k h_1) - k h_2) - k h_3$ has $|r| < 0.8$; the products with $h_1$, $h_2$
    and the first difference are exact, the others round by $2^{-53}$ each, and $h_1 + h_2 + h_3$ is off by less than
    $2^{-106}$, times k. The Taylor polynomials of degree 19 and 18 leave out less than $0.8^{20} / 20! < 2^{-67}$, and
    Horner's rule rounds by less than $40 u$.
    """
    k = np.rint(np.where(np.isfinite(x), x, 0.0) * 0.6366197723675814)
    h1, h2, h3 = _HALF_PI
    r = ((x - k * h1) - k * h2) - k * h3
    t, sine, cosine = r * r, np.ones_like(r), np.ones_like(r)
    for i in range(9, 0, -1):
        sine = 1 - sine * t / ((2 * i) * (2 * i + 1))
        cosine = 1 - cosine * t / ((2 * i - 1) * (2 * i))
    turn = (k.astype(np.int64) + quarter) % 4
    return np.where(turn % 2 == 0, r * sine, cosine) * np.where(turn < 2, 1.0, -1.0)


def _range(quarter: int) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Of that wave on intervals: its values at the ends, and -1 or 1 where the argument may pass an odd multiple of pi / 2."""

    @np.errstate(all="ignore")
    def ends(low: Array, high: Array) -> tuple[Array, Array]:
        low, high = intervals(low, high)
        a, b = wave(low, quarter), wave(high, quarter)
        least, most = outward(np.minimum(a, b), np.maximum(a, b), ERROR)
        pad = 2.0**-20
        first = np.ceil(low / np.pi + quarter / 2 - 0.5 - pad)  # tops and bottoms stand at whole numbers
        last = np.floor(high / np.pi + quarter / 2 - 0.5 + pad)
        even, odd = np.mod(first, 2) == 0, np.mod(first, 2) == 1
        several, one = last > first, last == first
        most = np.where(several | (one & even), 1.0, most)
        least = np.where(several | (one & odd), -1.0, least)
        far = ~((low >= -LARGEST) & (high <= LARGEST))
        return within((np.where(far, -1.0, least), np.where(far, 1.0, most)), -1.0, 1.0)

    return ends


def _wave(value: Callable[[Array], Array], quarter: int) -> Function:
    def derivatives(low: Array, high: Array, /, **_: Any) -> tuple[Array, Array]:
        return _range(quarter + 1)(low, high)

    return Function({}, np.errstate(all="ignore")(value), lambda: (-1.0, 1.0), _range(quarter), derivatives)


WAVES: Mapping[str, Function] = {"sin": _wave(np.sin, 0), "cos": _wave(np.cos, 1)}
"""By name."""
