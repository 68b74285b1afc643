r"""Splits of a ball where a margin stays open: the argument of the activation that loses most is cut at 0, both sides are searched anew.

The worst parts come first. A tree may go on later where it stopped, and gives up where its pace says that time ends before: what is won grows
with the logarithm of the number of parts, and faster the more there are.
"""

import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from sdplip.kernel.proof import Proof
from sdplip.kernel.spread import Spread
from sdplip.robustness.offset_search import STEPS, Found, Row
from sdplip.robustness.offsets import Offsets, Tried, proof_of

TOGETHER = 64
"""Parts that are cut and searched at once."""
SURE = 64
"""Parts behind which the pace is believed."""
FASTER = 2.0
"""How much faster than at the last doubling of parts it may become."""


def split(offsets: Offsets, tried: Tried, trees: "MutableMapping[int, Tree]", end: float) -> None:
    """Tries the classes that are still open, the worst first, until `end` (of `time.process_time`) or until one is given up.

    Args:
        tried: takes the proofs.
        trees: by class, as far as they have grown; they go on from there.
    """
    assert tried.spread is not None
    for j in sorted(tried.open, key=lambda j: tried.found[j].least):
        if j not in trees:
            trees[j] = Tree(offsets, tried, j)
        proof = trees[j].grown(end)
        if proof is None:
            return
        tried.proofs[j] = proof


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

    def cut(self) -> bool:
        """Cuts it at the argument that loses most; False where none is on both sides of 0."""
        best, where = 0.0, None
        for place, ((k, cap), loss) in enumerate(zip(self.spread.caps.items(), self.found.loss, strict=True)):
            both = (cap.low < 0) & (cap.high > 0)
            if both.any():
                entry = int(np.argmax(np.where(both, loss, -np.inf)))
                if loss[entry] > best:
                    best, where = float(loss[entry]), (place, k, entry)
        if where is None:
            return False
        place, k, entry = where
        first, second = (
            replace(self, spread=self.spread.cut(k, entry, on), proof=None, sides=None)
            for on in (False, True)
        )
        self.at, self.sides = (place, entry), (first, second)
        return True


@dataclass(eq=False)
class Tree:
    """The margin against class j, split.

    Attributes:
        open: leaves without a proof.
        parts: leaves in all.
        spent: seconds of the process.
        mark: parts, and the least margin of one, when parts had last doubled.
        pace: what that doubling won.
    """

    offsets: Offsets
    tried: Tried
    j: int
    parts: int = 1
    spent: float = 0.0
    pace: float = np.inf
    mark: tuple[int, float] = field(init=False)
    root: _Part = field(init=False)
    open: list[_Part] = field(init=False)

    def __post_init__(self) -> None:
        assert self.tried.spread is not None
        self.root = _Part(self.tried.spread, self.tried.found[self.j])
        self.open, self.mark = [self.root], (1, self.root.found.least)

    def grown(self, end: float) -> Proof | None:
        """The proof; None where time ends before, or would, or nothing is left to be cut."""
        while self.open:
            begin = time.process_time()
            if begin > end or self._slow(end - begin):
                return None
            self.open.sort(key=lambda part: part.found.least)
            some, self.open = self.open[:TOGETHER], self.open[TOGETHER:]
            for n, part in enumerate(some):
                if not part.cut():
                    self.open += some[n:]
                    return None
                self.parts += 1
            self._search([side for part in some if part.sides is not None for side in part.sides])
            self.spent += time.process_time() - begin
        return self.root.whole()

    def _search(self, children: list[_Part]) -> None:
        wanted = [Row(part.spread, self.tried.row(self.j), part.found) for part in children]
        until = self.tried.enough(self.j)
        for part, found in zip(children, self.offsets.searched(wanted, STEPS // 2, until), strict=True):
            part.found = found
            proof = proof_of(found)
            if found.least > 0 and self.tried.holds(self.j, part.spread, proof):
                part.proof = proof
            else:
                self.open.append(part)

    def _slow(self, left: float) -> bool:
        """Whether it would take longer than `left` seconds at the pace so far."""
        worst, (parts, before) = min(part.found.least for part in self.open), self.mark
        if self.parts >= 2 * parts:
            self.pace = max(worst - before, 0.0) / np.log2(self.parts / parts)
            self.mark = self.parts, worst
        return self.parts >= SURE and seconds_more(worst, self.pace, self.spent) > left


def seconds_more(worst: float, pace: float, spent: float) -> float:
    """About how long it takes until the worst part is above 0, at `FASTER` times the pace: each doubling takes as long as all before."""
    doublings = -worst / (FASTER * pace) if pace > 0 else np.inf
    return spent * (2.0 ** min(doublings, 60.0) - 1)
