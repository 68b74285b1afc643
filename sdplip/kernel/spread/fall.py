r"""How far a margin falls on a ball, by rows carried backward with offsets (`offset`).

A row c on the outputs of an activation becomes $g = c \cdot s$ on its arguments, s the slopes of the proof; the offset is added to
the constants. At the input $\max g^\top x'$ over the ball is known. What is given, slopes and scalars, is never trusted: every choice gives a
bound. Data of a proof by `offset`: `slopes`, a vector for each activation in order, and `scale`, its scalar. A proof by `split` has
`activation` (its place in that order), `entry` and two parts, for the arguments that are not positive and those that are not negative;
one of both holds at every input, so the larger of the two falls counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import TINY, UNIT, up
from sdplip.errors import NotProvable
from sdplip.kernel.data import array, vectors, whole
from sdplip.kernel.evaluate import evaluate
from sdplip.kernel.proof import Proof
from sdplip.kernel.reach.backward import Backward, _Rows
from sdplip.kernel.regions import Ball
from sdplip.kernel.spread.crop import Chain, Part
from sdplip.kernel.spread.offset import Cap, offset
from sdplip.kernel.spread.walk import Front, Spread
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "rows n"]
Vector = Float[np.ndarray, " n"]

RULES = frozenset({"offset", "split"})
"""The proofs of how far a margin falls."""
DEEPEST = 64
"""Splits in one another, at most."""
TILE = 2
"""Pixels on an axis whose rows come back together."""
BACKWARD = 1 << 33
"""Products that rows on their way back take for the ends of values of one ball, about."""


@dataclass(eq=False)
class Lines:
    """The lines of a proof: slopes and scalar of each activation."""

    slopes: Mapping[int, Vector]
    scale: Mapping[int, float]


@dataclass(eq=False)
class Downward(Backward):
    """The way back with offsets; without `lines` it takes those of CROWN, and searches for scalars."""

    caps: Mapping[int, Cap] = field(default_factory=dict)
    lines: Lines | None = None
    choices: int = 1

    def _above(self, value: int, L: Matrix) -> Vector:
        choices = 1 if self.lines else self.choices
        return np.min([_Lined(self, value, L, choice).at_the_input() for choice in range(choices)], 0)


class _Lined(_Rows):
    """Rows on their way, through activations with offsets."""

    way: Downward

    def _through(self, k: int, L: Matrix) -> None:
        if k not in self.way.caps:
            super()._through(k, L)
            return
        cap, size = self.way.caps[k], self.way.size[self.way.network.made(k).inputs[0]]
        slopes, scale = self._lines(k, cap, L)
        G = L * slopes
        at = cap.free
        found = offset(cap, L[:, at], G[:, at], scale)
        straight = np.ones(G.shape[1])
        straight[at] = 0.0
        lost = 2 * UNIT * (abs(G) @ (straight * size)) + 4 * TINY * (len(size) + float(size.sum()))
        lost = lost + 4 * TINY * len(size) * (1 + abs(L).max(1, initial=0.0))
        self.lost = np.where(np.isfinite(found), self.lost, np.inf)
        self._add(np.where(np.isfinite(found), found, 0.0), lost)
        self._put(self.way.network.made(k).inputs[0], G)

    def _lines(self, k: int, cap: Cap, L: Matrix) -> tuple[Matrix | Vector, Vector | None]:
        """The slopes of each entry, and the scalars of the rows."""
        lines = self.way.lines
        if lines is not None:
            slopes = cap.sides
            slopes[cap.free] = lines.slopes[k][cap.free]
            return slopes, np.full(len(L), lines.scale[k])
        known = self.way.relaxed[k].lines
        line = known[min(self.choice, len(known) - 1)]
        slopes = np.where(L > 0, line.upper[:, 0], line.lower[:, 0])
        return np.where(np.isin(np.arange(len(cap.low)), cap.free), slopes, cap.sides), None


class Narrowed:
    """Narrows the ends of arguments by rows on their way back: those first that are nearest to one side of 0, as far as work goes."""

    def __init__(self) -> None:
        self.spent = 0

    def __call__(self, spread: Spread, i: int, wanted: np.ndarray) -> tuple[Vector, Vector]:
        low, high = spread.low[i].copy(), spread.high[i].copy()
        if not spread.caps:  # nothing but linear maps in front: the rows' lengths are exact
            return low, high
        chain = Chain.of(spread.front.network, i)
        if chain is not None:
            self._by_tiles(spread, chain, low, high, wanted)
        else:
            way = downward(spread)
            chosen = self._chosen(low, high, wanted, 2 * way.cost(i), BACKWARD - self.spent)
            _narrow(way, i, low, high, chosen, chosen)
        return np.minimum(low, high), np.maximum(low, high)

    def _by_tiles(self, spread: Spread, chain: Chain, low: Vector, high: Vector, wanted: np.ndarray) -> None:
        """Rows on neighbouring pixels at once, with half of the work that is left: later values need some, too."""
        tiles = chain.tiles(TILE)
        part = chain.part(spread, tiles[len(tiles) // 2])
        each = 2 * _inside(part).cost(part.network.output)
        chosen = np.zeros(len(low), bool)
        chosen[self._chosen(low, high, wanted, each, (BACKWARD - self.spent) // 2)] = True
        for tile in tiles:
            at = chain.entries(tile)
            if chosen[at].any():
                part, place = chain.part(spread, tile), np.flatnonzero(chosen[at])
                _narrow(_inside(part), part.network.output, low, high, place, at[place])

    def _chosen(self, low: Vector, high: Vector, wanted: np.ndarray, each: int, left: int) -> np.ndarray:
        """The entries for which the work that is left suffices, `each` products a row on both sides."""
        chosen, can = np.flatnonzero(wanted), max(0, left // each)
        if can < len(chosen):
            away = np.minimum(abs(low), abs(high))[chosen] / np.maximum(high - low, TINY)[chosen]
            chosen = chosen[np.argsort(away, kind="stable")[:can]]
        self.spent += len(chosen) * each
        return chosen


def _narrow(way: Downward, i: int, low: Vector, high: Vector, place: np.ndarray, at: np.ndarray) -> None:
    """Narrows the entries `at` by the way back from entries `place` of value i."""
    n = way.network.length(i)
    pieces = max(1, len(place) * n >> 22)
    for here, there in zip(np.array_split(place, pieces), np.array_split(at, pieces), strict=True):
        one = np.zeros((len(here), n))
        one[np.arange(len(here)), here] = 1.0
        high[there] = np.fmin(high[there], way.above(i, one))
        low[there] = np.fmax(low[there], -way.above(i, -one))


def _inside(part: Part) -> Downward:
    """The way back through a window."""
    return Downward(part.network, part.region, part.linear, part.relaxed, part.size, part.caps)


def downward(spread: Spread, lines: Lines | None = None, choices: int = 1) -> Downward:
    """The way back on a ball."""
    front = spread.front
    return Downward(
        front.network, spread.region, front.linear, spread.relaxed, spread.size, spread.caps, lines, choices
    )


@np.errstate(all="ignore")  # what is not finite proves nothing
def spread_of(front: Front, x: Vector, radius: float) -> Spread:
    """The values on the ball, their ends narrowed.

    Raises:
        NotProvable: values beyond doubles, a radius that is none.
    """
    if not (np.isfinite(radius) and radius > 0) or np.shape(x) != (front.network.inputs,):
        raise NotProvable(
            f"A ball needs {front.network.inputs} coordinates and a positive radius, not {radius}."
        )
    x = np.asarray(x, np.float64)
    spread = Spread(front, Ball(x, radius), evaluate(front.network, x[None]))
    spread.walk(Narrowed())
    return spread


@np.errstate(all="ignore")
def falls(spread: Spread, row: Vector, proof: Proof | None, *, depth: int = 0) -> float:
    r"""At least $c^\top f(x) - c^\top f(x')$ for all x' of the ball, c being `row`.

    Args:
        proof: by `offset` or `split`; None takes the lines of CROWN.

    Raises:
        NotProvable: malformed data.
    """
    if proof is None:
        return _fall(spread, row, downward(spread, choices=2))
    if depth > DEEPEST or proof.rule not in RULES:
        raise NotProvable(
            f"How far a margin falls is proven by {', '.join(sorted(RULES))}, not by `{proof.rule}`."
        )
    order = list(spread.caps)
    if proof.rule == "split":
        if len(proof.parts) != 2:
            raise NotProvable("`split` needs two parts.")
        k = order[whole(proof, "activation", 0, len(order) - 1)]
        at = whole(proof, "entry", 0, len(spread.caps[k].low) - 1)
        sides = (spread.cut(k, at, on) for on in (False, True))
        return max(
            falls(side, row, part, depth=depth + 1) for side, part in zip(sides, proof.parts, strict=True)
        )
    slopes = vectors(proof, "slopes", [len(spread.caps[k].low) for k in order])
    scale = array(proof, "scale", (len(order),), least=0.0)
    lines = Lines(dict(zip(order, slopes, strict=True)), dict(zip(order, scale.tolist(), strict=True)))
    return _fall(spread, row, downward(spread, lines))


def _fall(spread: Spread, row: Vector, way: Downward) -> float:
    above = float(way.above(spread.front.network.output, -row[None])[0])
    here = float((Enclosure.exact(row[None]) @ spread.values[-1].T).ends()[1][0, 0])
    found = up(above + here)
    return max(found, 0.0) if np.isfinite(found) else np.inf
