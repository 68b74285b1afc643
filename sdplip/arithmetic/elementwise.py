r"""What is known about an elementwise function, and how its range on an interval follows from points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.powers import subnormal
from sdplip.arithmetic.rounding import TINY, UNIT
from sdplip.errors import InvalidWeight
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Array = Float[np.ndarray, "..."]
Ends = tuple[Vector, Vector]

LOST = 2.0**-1000
"""What underflow may cost a value or a derivative, by far."""


@dataclass(frozen=True)
class Function:
    r"""What is known about an elementwise function; every callable takes the parameters by keyword, numbers or one an entry.

    Attributes:
        parameters: names and defaults.
        value: the function in floating point, over any leading axes.
        slopes: the least and largest difference quotient $(\varphi(x) - \varphi(y)) / (x - y)$ on the whole line, rounded
            outward. Checks the parameters (`InvalidWeight`).
        values: `(low, high)` to proven lower and upper ends of $\varphi$ on those intervals.
        derivatives: `(low, high)` to proven ends of all difference quotients on those intervals, within the slopes.
        pieces: of a piecewise linear function its knots (k of them, ascending), the slopes (k + 1) and the value at the first
            knot, all exact; the entries follow where a parameter is one an entry. None of others.
        roundings: how many roundings a usual implementation makes in a value, relative to it, by comparisons, sums and products
            alone; None where it calls library functions, whose error nobody states.
    """

    parameters: Mapping[str, float]
    value: Callable[..., Vector]
    slopes: Callable[..., tuple["float | Vector", "float | Vector"]]
    values: Callable[..., Ends]
    derivatives: Callable[..., Ends]
    pieces: Callable[..., tuple[Array, Array, "float | Vector"]] | None = None
    roundings: int | None = None


@dataclass(frozen=True)
class Turn:
    """Where a function stops rising or falling: somewhere within `width` of `near`; there it is within `error` of `value`."""

    near: float
    value: float
    width: float = 2.0**-40
    error: float = 2.0**-48


LARGEST = float(np.finfo(np.float64).max)
Point = Callable[[Array], tuple[Array, Array]]


def ranged(point: Point, turns: Sequence[Turn] = ()) -> Callable[[Array, Array], tuple[Array, Array]]:
    """The range on intervals of a function that is monotone between its turns, from enclosures `point(x)` of its values."""

    @np.errstate(all="ignore")
    def ends(low: Array, high: Array) -> tuple[Array, Array]:
        (a, b), (c, d) = point(low), point(high)
        least, most = np.minimum(a, c), np.maximum(b, d)
        for turn in turns:
            inside = (low <= turn.near + turn.width) & (high >= turn.near - turn.width)
            least = np.where(inside, np.minimum(least, turn.value - turn.error), least)
            most = np.where(inside, np.maximum(most, turn.value + turn.error), most)
        return least, most

    return ends


@np.errstate(all="ignore")
def outward(least: Array, most: Array, pad: "Array | float" = 0.0) -> tuple[Array, Array]:
    """Ends moved outward by `pad`, and by the rounding of one computed operation that made them; a lower end that has overflowed
    is the largest double."""
    low = least - (pad + 2 * UNIT * abs(least) + TINY)
    high = most + (pad + 2 * UNIT * abs(most) + TINY)
    low, high = np.where(np.isinf(least), least, low), np.where(np.isinf(most), most, high)
    return np.minimum(low, LARGEST), np.maximum(high, -LARGEST)


@np.errstate(all="ignore")
def intervals(low: "Array | float", high: "Array | float") -> tuple[Array, Array]:
    """Ends as doubles, none subnormal; what is no interval (NaN, ends exchanged) becomes the whole line."""
    low, high = np.broadcast_arrays(np.asarray(low, np.float64), np.asarray(high, np.float64))
    good = low <= high
    return normal(np.where(good, low, -np.inf), np.where(good, high, np.inf))


@np.errstate(all="ignore")
def within(ends: tuple[Array, Array], least: "float | Array", most: "float | Array") -> tuple[Array, Array]:
    """Ends cut to what is known of all of them; what is not a number becomes that. None is subnormal."""
    low, high = ends
    low = np.where(low >= least, np.minimum(low, most), least)
    return normal(low, np.where(high <= most, np.maximum(high, least), most))


def normal(low: Array, high: Array) -> tuple[Array, Array]:
    """Subnormal ends moved outward to 0 or to `TINY`: it does not matter whether the processor reads them as 0."""
    a, b = subnormal(low), subnormal(high)
    if a.any():
        low = np.where(a, np.where(np.signbit(low), -TINY, 0.0), low)
    if b.any():
        high = np.where(b, np.where(np.signbit(high), 0.0, TINY), high)
    return low, high


def need(condition: "bool | np.bool_", message: str) -> None:
    """Raises `InvalidWeight` unless the condition holds."""
    if not condition:
        raise InvalidWeight(message)


def need_finite(name: str, **parameters: "float | Vector") -> None:
    """Raises `InvalidWeight` unless all parameters are finite numbers."""
    for key, value in parameters.items():
        need(np.isfinite(value).all(), f"`{key}` of `{name}` must be finite, but is {value}.")
