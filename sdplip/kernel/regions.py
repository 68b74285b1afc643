r"""Regions of inputs: boxes, balls and what both have in common; how far linear functions go on them, proven.

Lengths are taken of rows scaled by powers of two, so that no square leaves the range of doubles. A sum of n products is
off by at most $\gamma_n$ times the sum of absolute values, and by `TINY` times the other factor for each that underflows.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.elementwise import normal
from sdplip.arithmetic.matrix import lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import InvalidProblem, InvalidWeight
from sdplip.network.operators.linear import finite
from sdplip.shapes import Float, short

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Box:
    r"""All x with `lower` $\le x \le$ `upper`.

    Raises:
        InvalidProblem: ends that are no numbers, not finite, out of order, or not as many below as above.
    """

    lower: Vector
    upper: Vector

    __repr__ = short

    def __post_init__(self) -> None:
        _set(self, "lower", "The ends of a box")
        _set(self, "upper", "The ends of a box")
        if self.lower.shape != self.upper.shape or not self.lower.size:
            raise InvalidProblem("A box needs as many lower as upper ends, one for each input.")
        if (self.lower > self.upper).any():
            raise InvalidProblem("The ends of a box must be finite, the lower ones not above the upper ones.")

    @property
    def inputs(self) -> int:
        return len(self.lower)

    def ends(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each coordinate, rounded outward: subnormal ends go out to normal ones."""
        return normal(self.lower, self.upper)

    def above(self, L: Matrix) -> Vector:
        r"""At least $\max_x L_i x$ of each row; infinite where doubles do not reach."""
        low, high = self.ends()
        found = np.maximum(L, 0.0) @ high + np.minimum(L, 0.0) @ low
        return _known(found + _lost(L, np.maximum(abs(low), abs(high))))


@dataclass(frozen=True, eq=False)
class Ball:
    r"""All x with $\lVert x -$ `center` $\rVert_2 \le$ `radius`.

    Raises:
        InvalidProblem: a centre or radius that is no number, not finite, or a negative radius.
    """

    center: Vector
    radius: float

    __repr__ = short

    def __post_init__(self) -> None:
        _set(self, "center", "The center of a ball")
        try:
            radius = float(self.radius)
            exact = bool(np.isfinite(radius) and radius >= 0 and radius == self.radius)
        except (TypeError, ValueError, OverflowError):
            exact, radius = False, np.nan
        if not exact or not self.center.size:
            raise InvalidProblem(
                f"The radius of a ball must be finite and not negative, but is {self.radius}."
            )
        object.__setattr__(self, "radius", radius)

    @property
    def inputs(self) -> int:
        return len(self.center)

    def ends(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each coordinate, rounded outward."""
        pad = 4 * UNIT * (abs(self.center) + self.radius) + 8 * TINY
        return self.center - self.radius - pad, self.center + self.radius + pad

    def above(self, L: Matrix) -> Vector:
        r"""At least $\max_x L_i x$ of each row; infinite where doubles do not reach."""
        length = lengths(L)
        return _known(L @ self.center + self.radius * length + _lost(L, abs(self.center) + self.radius))


@dataclass(frozen=True, eq=False)
class Cut:
    r"""All x of a ball that lie in a box too: pixels in [0, 1], for example.

    Raises:
        InvalidProblem: another number of coordinates, or no point in common, which is then proven.
    """

    ball: Ball
    box: Box

    __repr__ = short

    def __post_init__(self) -> None:
        if not (isinstance(self.ball, Ball) and isinstance(self.box, Box)):
            raise InvalidProblem("A cut has a ball and a box.")
        if self.ball.inputs != self.box.inputs:
            raise InvalidProblem(
                f"A ball of {self.ball.inputs} and a box of {self.box.inputs} coordinates have nothing in common."
            )
        if apart(self.ball, self.box):
            raise InvalidProblem(
                "The ball and the box have no point in common. Choose a larger radius, or another box or center."
            )

    @property
    def inputs(self) -> int:
        return self.ball.inputs

    def ends(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each coordinate, rounded outward."""
        (a, b), (c, d) = self.ball.ends(), self.box.ends()
        low, high = np.maximum(a, c), np.minimum(b, d)
        return np.minimum(low, high), np.maximum(low, high)  # a point that both only touch

    def above(self, L: Matrix) -> Vector:
        r"""At least $\max_x L_i x$ of each row; infinite where doubles do not reach.

        For every v, $\max L_i x \le \max_{\text{ball}} v x + \max_{\text{box}} (L_i - v) x$. With v = 0 and v = L both alone are
        bounds; between, $v = d / \mu$ where $d = \mathrm{clip}(\mu L_i)$ leads to the furthest point along $L_i$.
        """
        low, high = self.ends()
        box, size = Box(low, high), np.maximum(abs(low), abs(high))
        d, price = furthest(L, low - self.ball.center, high - self.ball.center, self.ball.radius)
        v = price * d
        v = np.where(np.isfinite(v), v, 0.0)
        rest = L - v
        pad = (UNIT * (abs(rest) @ size) + 8 * self.inputs * TINY * (1 + float(size.sum()))) * GENEROUS
        parts = self.ball.above(v), box.above(rest)
        both = parts[0] + parts[1] + pad
        both = _known(both + 4 * UNIT * (abs(parts[0]) + abs(parts[1]) + pad) + TINY)
        return np.minimum(both, np.minimum(self.ball.above(L), box.above(L)))


Region = Box | Ball | Cut


def apart(ball: Ball, box: Box) -> bool:
    """Whether a ball and a box have no point in common, for sure: the nearest point of the box is farther than the radius.

    The computed differences are within u and `TINY` of the exact ones, and their length is rounded up by less than `GENEROUS`
    squared; a difference beyond doubles proves nothing.
    """
    low, high = box.ends()
    with np.errstate(all="ignore"):
        away = np.clip(ball.center, low, high) - ball.center
        far = float(lengths(away[None])[0]) / GENEROUS**3 - 8 * ball.inputs * TINY
    return bool(np.isfinite(far) and far > ball.radius)


def hull(region: Region) -> Box:
    """A box that contains the region.

    Raises:
        InvalidProblem: the region reaches beyond doubles.
    """
    return Box(*region.ends())


def part(region: Region, box: Box) -> Region:
    """What of `region` lies in `box`, which stands in its hull.

    Raises:
        InvalidProblem: nothing does, for sure.
    """
    if isinstance(region, Box):
        return box
    return Cut(region if isinstance(region, Ball) else region.ball, box)


def halves(box: Box, axis: int, at: float) -> tuple[Box, Box]:
    """The box cut where coordinate `axis` is `at`; both contain the cut.

    Raises:
        InvalidProblem: `at` is not within the box.
    """
    below, above = box.upper.copy(), box.lower.copy()
    below[axis] = above[axis] = at
    return Box(box.lower, below), Box(above, box.upper)


def furthest(L: Matrix, low: Vector, high: Vector, radius: float) -> tuple[Matrix, Matrix]:
    r"""The d in [low, high] no longer than `radius` that is about furthest along a row, $\mathrm{clip}(\mu L_i)$; $1 / \mu$.

    Nothing is proven of them, and nothing needs to be.
    """
    with np.errstate(all="ignore"):
        size = np.maximum(abs(L).max(1, initial=0.0), 1e-300)[:, None]
        least, most, unit, square = (
            np.full((len(L), 1), -300.0),
            np.full((len(L), 1), 300.0),
            L / size,
            radius * radius,
        )
        for _ in range(32):
            middle = (least + most) / 2
            d = unit * 2.0**middle
            np.clip(d, low, high, out=d)
            far = ~(np.einsum("ij,ij->i", d, d)[:, None] <= square)
            least, most = np.where(far, least, middle), np.where(far, middle, most)
        return np.clip(2.0**least * unit, low, high), size * 2.0**-least


def _set(region: "Box | Ball", name: str, what: str) -> None:
    """The field as a vector of doubles.

    Raises:
        InvalidProblem: no vector of finite numbers.
    """
    try:
        found = finite(what, getattr(region, name))
    except (InvalidWeight, ValueError, TypeError) as error:
        raise InvalidProblem(f"{what} must be finite numbers, one for each input. {error}") from None
    if found.ndim != 1:
        raise InvalidProblem(f"{what} must be finite numbers, one for each input.")
    found = found.copy()
    found.setflags(write=False)
    object.__setattr__(region, name, found)


def _known(found: Vector) -> Vector:
    """What is not finite proves nothing."""
    return np.where(np.isfinite(found), found, np.inf)


def _lost(L: Matrix, size: Vector) -> Vector:
    """Rounding of sums of `L` times numbers up to `size`, and of a few more operations on them."""
    n = L.shape[1]
    small = TINY * (n + float(size.sum()) + abs(L).sum(1))
    return (gamma(2 * n + 12) * (abs(L) @ size) + 8 * small) * GENEROUS
