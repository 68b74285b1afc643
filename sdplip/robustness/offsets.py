r"""Proofs that margins stay positive on a ball around an image, by offsets with searched slopes and scalars, and by splits.

What `offset_search` finds is rounded to short numbers and handed to the kernel (`sdplip.kernel.spread`); only what that proves counts. Where
a margin stays open, the argument of the activation that loses most is cut at 0 and both sides are searched anew, the worst ones first.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from sdplip.errors import NotProvable
from sdplip.kernel.around import Ball, Margins, Surroundings, fall, lasts, rows
from sdplip.kernel.passes import REACH
from sdplip.kernel.proof import Proof
from sdplip.kernel.spread import Spread, spread_of
from sdplip.robustness.offset_search import STEPS, Found, Row, Search
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]

TOGETHER = 16
"""Parts that are searched at once where a margin is split."""
BALLS, GROW, CLOSE = 8, 1.2, 0.02
"""Of the search for a radius: balls at most, by how much they grow, and the share below which a bracket is narrow enough."""
GRID = 2.0**-12
"""Slopes of proofs are multiples of this: files stay small, and what is lost is less than what a step of the search gains."""
ABOVE = 1e-4
"""Share of the margin at the image by which the search leaves it above 0, for single precision and for the grid."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One image: its margins, the radius of the ball, and the classes that are open there."""

    x: Vector
    known: Margins
    radius: float
    open: tuple[int, ...]


@dataclass(eq=False)
class Offsets:
    """Proofs by offsets around images of one network.

    Attributes:
        of: the network, with its proven constants.
        steps: of the search.
        scalars: False leaves out the coupling of the entries by the ball: the lines of alpha-CROWN.
    """

    of: Surroundings
    steps: int = STEPS
    scalars: bool = True

    @cached_property
    def search(self) -> Search:
        return Search(self.of.spread)

    @property
    def unfit(self) -> str:
        """Why the network is not followed; "" where it is."""
        try:
            self.of.spread  # noqa: B018
        except NotProvable as error:
            return str(error)
        return ""

    def prove(self, asked: Sequence[Asked]) -> "list[Tried]":
        """The proofs that are found without splits, of several images at once."""
        tried = [Tried(one, self._spread(one)) for one in asked]
        places = [(t, j) for t in tried if t.spread is not None for j in t.asked.open]
        if not places:
            return tried
        wanted = []
        for t, j in places:
            assert t.spread is not None
            wanted.append(Row(t.spread, t.row(j)))
        until = min(_enough(t.asked.known, j) for t, j in places)
        for (t, j), row, found in zip(places, wanted, self._searched(wanted, self.steps, until), strict=True):
            t.keep(j, row.spread, found)
        return tried

    def split(self, tried: "Tried", end: float) -> None:
        """Tries the classes that are still open by splits, until `end` (of `time.process_time`)."""
        for j in sorted(tried.open, key=lambda j: -tried.found[j].least if j in tried.found else 0.0):
            assert tried.spread is not None
            proof = _Tree(self, tried, j).grown(end)
            if proof is None:
                return
            tried.proofs[j] = proof

    def _searched(self, wanted: Sequence[Row], steps: int, until: float) -> list[Found]:
        return self.search(wanted, steps=steps, until=until, scalars=self.scalars)

    def _spread(self, one: Asked) -> Spread | None:
        try:
            return spread_of(self.of.spread, one.x, one.radius)
        except NotProvable:
            return None


def offset_ball(offsets: Offsets, x: Vector, known: Margins, start: Ball) -> tuple[Ball, int]:
    """The largest ball that offsets are found to prove, at least `start`, and how many were tried.

    The radius grows by `GROW` until a ball is open, then the bracket is halved; nothing depends on provable radii being an interval.
    """
    best, high, tried = start, np.inf, 0
    while 0 < best.radius < REACH and tried < BALLS and high > best.radius * (1 + CLOSE):
        radius = min(best.radius * GROW if high == np.inf else (best.radius * high) ** 0.5, REACH)
        open_ = tuple(
            j
            for j in range(len(known.left))
            if j != known.label and not lasts(known, j, float(known.constants[j]), radius)
        )
        (found,) = offsets.prove([Asked(x, known, radius, open_)])
        tried += 1
        if found.open:
            high = radius
        else:
            best = Ball(radius, found.proofs)
    return best, tried


@dataclass(eq=False)
class Tried:
    """One image and what is proven of it; `spread` is None where its values cannot be followed."""

    asked: Asked
    spread: Spread | None
    found: dict[int, Found] = field(default_factory=dict)
    proofs: dict[int, Proof] = field(default_factory=dict)

    @property
    def open(self) -> tuple[int, ...]:
        """The classes without a proof."""
        return tuple(j for j in self.asked.open if j not in self.proofs)

    def row(self, j: int) -> Vector:
        """The margin against class j."""
        return rows(len(self.asked.known.left), self.asked.known.label)[j]

    def keep(self, j: int, spread: Spread, found: Found) -> None:
        """The proof of what was found, where the kernel agrees."""
        self.found[j] = found
        if found.least > 0 and self.holds(j, spread, proof := proof_of(found)):
            self.proofs[j] = proof

    def holds(self, j: int, spread: Spread, proof: Proof) -> bool:
        """Whether the kernel proves that the margin stays positive."""
        return lasts(self.asked.known, j, fall(spread, self.row(j), proof), self.asked.radius)


def proof_of(found: Found) -> Proof:
    """The proof of slopes and scalars."""
    slopes = [np.round(slope / GRID) * GRID for slope in found.slopes]
    return Proof("offset", {"slopes": slopes, "scale": np.array(found.scale)})


def _enough(known: Margins, j: int) -> float:
    """The least value of a margin that surely lasts."""
    margin = float(known.left[j])
    return ABOVE * margin if np.isfinite(margin) else 0.0


@dataclass(eq=False)
class _Part:
    """One part of a ball: a leaf, proven or open, or cut in two."""

    spread: Spread
    found: Found
    proof: Proof | None = None
    at: tuple[int, int] = (0, 0)
    sides: "tuple[_Part, _Part] | None" = None

    def whole(self) -> Proof:
        """The proof of a tree whose leaves are proven."""
        if self.sides is None:
            assert self.proof is not None
            return self.proof
        place, entry = self.at
        parts = tuple(side.whole() for side in self.sides)
        return Proof("split", {"activation": place, "entry": entry}, parts)


class _Tree:
    """The margin against one class, split."""

    def __init__(self, offsets: Offsets, tried: Tried, j: int):
        assert tried.spread is not None
        self.offsets, self.tried, self.j = offsets, tried, j
        self.root = _Part(tried.spread, tried.found[j])
        self.open = [self.root]

    def grown(self, end: float) -> Proof | None:
        """The proof; None where time ends before, or nothing is left to be cut."""
        until = _enough(self.tried.asked.known, self.j)
        while self.open:
            if time.process_time() > end:
                return None
            self.open.sort(key=lambda part: part.found.least)
            some, self.open = self.open[:TOGETHER], self.open[TOGETHER:]
            children = []
            for part in some:
                if not self._cut(part):
                    return None
                assert part.sides is not None
                children += part.sides
            wanted = [Row(part.spread, self.tried.row(self.j), part.found) for part in children]
            for part, found in zip(children, self.offsets._searched(wanted, STEPS // 2, until), strict=True):
                part.found = found
                proof = proof_of(found)
                if found.least > 0 and self.tried.holds(self.j, part.spread, proof):
                    part.proof = proof
                else:
                    self.open.append(part)
        return self.root.whole()

    @staticmethod
    def _cut(part: _Part) -> bool:
        """Cuts a part at the argument that loses most; False where none is on both sides of 0."""
        best, where = 0.0, None
        for place, ((k, cap), loss) in enumerate(zip(part.spread.caps.items(), part.found.loss, strict=True)):
            both = (cap.low < 0) & (cap.high > 0)
            if both.any():
                entry = int(np.argmax(np.where(both, loss, -np.inf)))
                if loss[entry] > best:
                    best, where = float(loss[entry]), (place, k, entry)
        if where is None:
            return False
        place, k, entry = where
        sides = [
            replace(part, spread=part.spread.cut(k, entry, on), proof=None, sides=None)
            for on in (False, True)
        ]
        part.at, part.sides = (place, entry), (sides[0], sides[1])
        return True
