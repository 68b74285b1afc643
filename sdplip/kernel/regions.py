r"""Regions of inputs: boxes, balls and what both have in common; how far linear functions go on them, proven."""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import InvalidProblem
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Box:
    r"""All x with `lower` $\le x \le$ `upper`."""

    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        if np.shape(self.lower) != np.shape(self.upper) or np.ndim(self.lower) != 1:
            raise InvalidProblem("A box needs as many lower as upper ends, one for each input.")
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()) or np.any(
            self.lower > self.upper
        ):
            raise InvalidProblem("The ends of a box must be finite, the lower ones not above the upper ones.")

    @property
    def inputs(self) -> int:
        return len(self.lower)

    def ends(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each coordinate, rounded outward."""
        return np.asarray(self.lower, np.float64), np.asarray(self.upper, np.float64)

    def above(self, L: Matrix) -> Vector:
        r"""At least $\max_x L_i x$ of each row."""
        low, high = self.ends()
        found = np.maximum(L, 0.0) @ high + np.minimum(L, 0.0) @ low
        return found + _lost(L, np.maximum(abs(low), abs(high)))


@dataclass(frozen=True, eq=False)
class Ball:
    r"""All x with $\lVert x -$ `center` $\rVert_2 \le$ `radius`."""

    center: Vector
    radius: float

    def __post_init__(self) -> None:
        if np.ndim(self.center) != 1 or not np.isfinite(self.center).all():
            raise InvalidProblem("The center of a ball must be finite numbers, one for each input.")
        if not (np.isfinite(self.radius) and self.radius >= 0):
            raise InvalidProblem(
                f"The radius of a ball must be finite and not negative, but is {self.radius}."
            )

    @property
    def inputs(self) -> int:
        return len(self.center)

    def ends(self) -> tuple[Vector, Vector]:
        """The smallest and largest value of each coordinate, rounded outward."""
        center, far = np.asarray(self.center, np.float64), float(self.radius)
        pad = 4 * UNIT * (abs(center) + far) + TINY
        return center - far - pad, center + far + pad

    def above(self, L: Matrix) -> Vector:
        r"""At least $\max_x L_i x$ of each row."""
        center, n = np.asarray(self.center, np.float64), self.inputs
        length = np.sqrt((L * L).sum(1)) * (1 + gamma(n + 4)) + n * 2.0**-500
        return L @ center + self.radius * length + _lost(L, abs(center) + self.radius)


@dataclass(frozen=True, eq=False)
class Cut:
    r"""All x of a ball that lie in a box too: pixels in [0, 1], for example.

    Raises:
        InvalidProblem: another number of coordinates, or no point in common, which is then proven.
    """

    ball: Ball
    box: Box

    def __post_init__(self) -> None:
        if self.ball.inputs != self.box.inputs:
            raise InvalidProblem(
                f"A ball of {self.ball.inputs} and a box of {self.box.inputs} coordinates have nothing in common."
            )
        nearest = np.clip(self.ball.center, self.box.lower, self.box.upper) - self.ball.center
        if np.sqrt(np.square(nearest).sum()) * (1 - gamma(self.inputs + 8)) > self.ball.radius:  # for sure
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
        r"""At least $\max_x L_i x$ of each row.

        For every v, $\max L_i x \le \max_{\text{ball}} v x + \max_{\text{box}} (L_i - v) x$. With v = 0 and v = L both alone are
        bounds; between, $v = d / \mu$ where $d = \mathrm{clip}(\mu L_i)$ leads to the furthest point along $L_i$.
        """
        low, high = self.ends()
        center = np.asarray(self.ball.center, np.float64)
        d, price = _furthest(L, low - center, high - center, self.ball.radius)
        v = price * d
        v = np.where(np.isfinite(v), v, 0.0)
        rest = L - v
        pad = UNIT * abs(rest) @ np.maximum(abs(low), abs(high)) * GENEROUS
        parts = self.ball.above(v), Box(low, high).above(rest)
        both = parts[0] + parts[1] + pad
        both = both + 4 * UNIT * (abs(parts[0]) + abs(parts[1]) + pad)
        found = np.minimum(self.ball.above(L), Box(low, high).above(L))
        return np.where(both < found, both, found)


Region = Box | Ball | Cut


def hull(region: Region) -> Box:
    """A box that contains the region."""
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
    below, above = np.array(box.upper, np.float64), np.array(box.lower, np.float64)
    below[axis] = above[axis] = at
    return Box(np.asarray(box.lower, np.float64), below), Box(above, np.asarray(box.upper, np.float64))


def _lost(L: Matrix, size: Vector) -> Vector:
    """Rounding of sums of `L` times numbers up to `size`, and of a few more operations on them."""
    n = L.shape[1]
    return (gamma(2 * n + 12) * (abs(L) @ size) + 4 * n * TINY * (1 + float(size.sum()))) * GENEROUS


def _furthest(L: Matrix, low: Vector, high: Vector, radius: float) -> tuple[Matrix, Matrix]:
    r"""The d in [low, high] no longer than `radius` that is about furthest along a row, $\mathrm{clip}(\mu L_i)$; $1 / \mu$."""
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.maximum(abs(L).max(1, initial=0.0), 1e-300)[:, None]
        least, most = np.full((len(L), 1), -300.0), np.full((len(L), 1), 300.0)
        for _ in range(60):
            middle = (least + most) / 2
            d = np.clip(2.0**middle * (L / size), low, high)
            far = (d * d).sum(1, keepdims=True) > radius**2
            least, most = np.where(far, least, middle), np.where(far, middle, most)
        return np.clip(2.0**least * (L / size), low, high), size * 2.0**-least
