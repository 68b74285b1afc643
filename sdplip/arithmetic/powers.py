r"""Powers of two: weights and scalings are brought near 1 by them, which is exact, and conclusions are carried back.

Everything here reads numbers by their bits, so it is right where the processor takes subnormal numbers for zero, too.
"""

import numpy as np

from sdplip.arithmetic.rounding import TINY, down, up
from sdplip.errors import NotProvable
from sdplip.shapes import Bool, Float, Int

Array = Float[np.ndarray, "..."]

MAGNITUDE, FRACTION = 0x7FFFFFFFFFFFFFFF, 0x000FFFFFFFFFFFFF


def nonzero(x: Array) -> Bool[np.ndarray, "..."]:
    """Where x is not 0."""
    return _bits(x) & MAGNITUDE != 0


def subnormal(x: Array) -> Bool[np.ndarray, "..."]:
    """Where x is subnormal: a processor may read it as zero."""
    bits = _bits(x) & MAGNITUDE
    return (bits != 0) & (bits <= FRACTION)


def split(x: Array) -> tuple[Array, Int[np.ndarray, "..."]]:
    r"""m and e with $x = m 2^e$ and $1/2 \le |m| < 1$, exactly; (0, 0) of 0."""
    bits, small = _bits(x) & MAGNITUDE, subnormal(x)
    if not small.any():
        return np.frexp(x)
    whole = np.where(small, bits & FRACTION, 0).astype(np.float64)  # times 2^-1074
    m, e = np.frexp(np.where(small, np.copysign(whole, x), np.where(bits == 0, 0.0, x)))
    return m, np.where(small, e - 1074, e)


def near_one(W: Array, e: Int[np.ndarray, "..."], axes: int | tuple[int, ...]) -> tuple[Array, int]:
    r"""$B = 2^{-(e + g)} W$ with the least g for which $|B| < 1$, and g. Each entry is exact, or lost by less than `TINY`.

    e has length 1 on `axes`, and elsewhere the shape of W.
    """
    size = np.abs(W, dtype=np.float64)
    small = size < TINY  # subnormal or 0, also where the processor takes one for the other
    if small.any() and nonzero(W[small]).any():
        m, own = split(W)
        g = int((own - e).max(initial=-5000, where=m != 0))
        return np.ldexp(m, own - e - g), g
    m, own = np.frexp(size.max(axes, keepdims=True, initial=0.0))
    g = int((own - e).max(initial=-5000, where=m != 0))
    return np.ldexp(W, -(e + g), out=size), g  # memory that is used again costs less than new


def some_nonzero(W: Array, axes: int | tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    """Whether W has an entry other than 0 along the axes."""
    sure = np.maximum(W.max(axes), -W.min(axes)) >= TINY
    return sure if sure.all() else np.asarray(nonzero(W).any(axes))


def root_above(kappa: float, exponent: int) -> float:
    r"""$2^{\mathrm{exponent}} \sqrt{\kappa}$ rounded up.

    Raises:
        NotProvable: it is not a finite double.
    """
    with np.errstate(over="ignore", under="ignore"):
        root = up(float(np.sqrt(kappa)))
        c = up(float(np.ldexp(root, exponent)))
    if not np.isfinite(c):
        raise NotProvable(
            "No finite `c` could be proven for this `W` and `t`: the bound leaves the range of double precision."
            " Rescale `W` or `t` by a power of two."
        )
    return c


@np.errstate(over="ignore", under="ignore")
def times_below(found: float, exponent: int) -> float:
    r"""$2^{\mathrm{exponent}}$ times a number that is not negative, rounded down: the largest double where that is exceeded."""
    return max(0.0, down(float(np.ldexp(found, exponent)))) if found else 0.0


def square_below(c: float, exponent: int) -> float:
    r"""$(2^{-\mathrm{exponent}} c)^2$ rounded down, or 0 where c is not positive or it leaves the range of double precision."""
    with np.errstate(over="ignore", under="ignore"):
        root = float(np.ldexp(c, -exponent))
        kappa = down(root * root)
    return kappa if c > 0 and np.isfinite(kappa) and kappa > 0 else 0.0


def _bits(x: Array) -> Int[np.ndarray, "..."]:
    return np.ascontiguousarray(x, np.float64).view(np.int64).reshape(np.shape(x))
