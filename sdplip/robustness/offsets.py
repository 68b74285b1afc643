r"""Proofs that margins stay positive on a ball around an image, by offsets with searched slopes and scalars.

What `offset_search` finds is rounded to short numbers and handed to the kernel (`sdplip.kernel.spread`); only what that proves counts.
`offset_splits` goes on where a margin stays open.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from sdplip.errors import NotProvable
from sdplip.kernel.around import Ball, Margins, Surroundings, fall, lasts, rows
from sdplip.kernel.passes import REACH
from sdplip.kernel.proof import Proof
from sdplip.kernel.spread import Spread, spread_of
from sdplip.robustness.attacks import own_margin
from sdplip.robustness.descent import minimise
from sdplip.robustness.offset_search import STEPS, Found, Row, Search
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]

ATTACK = 20
"""Steps of gradient descent on the inputs, before anything is searched."""
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
        return self.prove_on([Tried(one, self._spread(one)) for one in asked])

    def prove_on(self, tried: "Sequence[Tried]") -> "list[Tried]":
        """The same on values that are known; each takes its proofs."""
        places = [(t, j) for t in tried if t.spread is not None for j in t.asked.open]
        if not places:
            return list(tried)
        wanted = []
        for t, j in places:
            assert t.spread is not None
            wanted.append(Row(t.spread, t.row(j)))
        until = min(t.enough(j) for t, j in places)
        for (t, j), row, found in zip(places, wanted, self.searched(wanted, self.steps, until), strict=True):
            t.keep(j, row.spread, found)
        return list(tried)

    def refuted(self, asked: Sequence[Asked]) -> list[bool]:
        """Where gradient descent on the inputs finds another class within the radius (in single precision, so about)."""
        if not asked:
            return []
        dtype = self.search.dtype
        x = torch.from_numpy(np.stack([one.x for one in asked])).to(dtype)
        reach = torch.tensor([one.radius for one in asked], dtype=dtype)
        labels = torch.tensor([one.known.label for one in asked])
        module = self.search.module
        found = minimise(lambda z: own_margin(module(z), labels), x, reach, steps=ATTACK, restarts=1)
        return (found.margin < 0).tolist()

    def searched(self, wanted: Sequence[Row], steps: int, until: float) -> list[Found]:
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

    def enough(self, j: int) -> float:
        """The least value of the margin against class j that surely lasts."""
        margin = float(self.asked.known.left[j])
        return ABOVE * margin if np.isfinite(margin) else 0.0

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
