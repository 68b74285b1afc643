r"""Images certified at given radii by whatever proves it first: constants, offsets, increments, splits, multipliers of their own.

The ladder goes from cheap to dear, and an image leaves it where the kernel has proven its ball. `certify_balls` asks at radii that are given,
`offset_radius` for the largest ball that offsets prove around one image.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Shaped

from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.accuracy import known_margins, remembering, value_constants, with_classes
from sdplip.kernel.around import (
    Ball,
    Margins,
    Surroundings,
    balls_of,
    image_key,
    lasts,
    pair_network,
    rows,
)
from sdplip.kernel.centred import Around
from sdplip.kernel.passes import REACH
from sdplip.kernel.proof import Proof
from sdplip.kernel.system import variables
from sdplip.network import Network
from sdplip.robustness.around import NEURONS, around_proof, own_proof
from sdplip.robustness.certification import beyond
from sdplip.robustness.graph_accuracy import Certified
from sdplip.robustness.offset_splits import Tree, split
from sdplip.robustness.offsets import Asked, Offsets, Tried
from sdplip.verifier.images import Images

BENT = 320
"""Up to this number of neurons that bend on a ball, pairs of classes get multipliers: a second or two each."""
TOGETHER = 8
"""Images whose slopes are searched at once."""
SECONDS = 10.0
"""Of the process, an image and radius."""
Progress = Callable[[int, int], None]
PROOFS = ("constants", "offsets", "increments", "splits", "multipliers")
"""What an image is certified by, from cheap to dear; one image may need several, the dearest counts."""


@dataclass(frozen=True, eq=False)
class Balls:
    """Images certified at given radii, each by what proved it.

    Attributes:
        before: by constants of all inputs.
        after: with the larger radii, and the proof of them.
        by: at each radius the proof that certified each image, from `PROOFS`; "" where none did, or the prediction is wrong.
        seconds: of the process, an image that constants did not decide at some radius.
        unfit: why offsets were not tried; "" where they were.
    """

    before: Certified
    after: Certified
    by: Mapping[str, tuple[str, ...]]
    seconds: float
    unfit: str = ""

    def to_json(self) -> dict[str, object]:
        """What `sdplip certify --local --json` prints under `local`."""
        counts = {eps: Counter(name for name in names if name) for eps, names in self.by.items()}
        return {
            "before": {eps: self.before.certification.certified(eps) for eps in self.by},
            "by": {eps: {name: count[name] for name in PROOFS} for eps, count in counts.items()},
            "seconds_an_image": self.seconds,
            "unfit": self.unfit,
        }


def certify_balls(
    network: Network,
    images: Shaped[np.ndarray, "n *pixels"],
    certified: Certified,
    radii: Sequence[str],
    *,
    seconds: float = SECONDS,
    progress: Progress | None = None,
) -> Balls:
    """Tries the images that are right and not certified yet at each of the radii, the smaller ones first.

    Args:
        images: those that were certified.
        certified: from `certify_graph`.
        radii: numbers or fractions such as "36/255".
        seconds: of the process, an image and radius; a step that has begun ends.
        progress: called with the images done, over all radii, and their number.

    Raises:
        InvalidProblem: other images, a radius that is no number.
    """
    found = _Certifying(network, images, certified, seconds)
    order = sorted(dict.fromkeys(radii), key=Fraction)
    total, by = len(order) * len(found.radius), {}
    for place, eps in enumerate(order):
        watch = (
            None
            if progress is None
            else (lambda done, at=place: progress(at * len(found.radius) + done, total))
        )
        by[eps] = found.at(eps, watch)
    return Balls(
        certified, found.proven(), {eps: by[eps] for eps in radii}, found.mean_seconds, found.offsets.unfit
    )


class _Certifying:
    """The images and the balls that are proven around them so far."""

    def __init__(self, network: Network, images: np.ndarray, certified: Certified, seconds: float):
        self.network, self.certified, self.claim = with_classes(network), certified, certified.claim
        if len(images) != len(self.claim.index):
            raise InvalidProblem(
                f"{len(images)} images are not the {len(self.claim.index)} that were certified."
            )
        self.base, self.balls = certified.proof, dict[str, Ball]()
        if self.base.rule == "around":
            self.base, self.balls = balls_of(self.base, self.network.outputs)
        self.prove = remembering(self.base)
        of = Surroundings(self.network, value_constants(self.network, self.base, self.prove))
        self.offsets, self.seconds = Offsets(of), seconds
        self.store, self.radius = Images(images, self.claim.label), certified.certification.radius.copy()
        self.by, self.keys = ["constants"] * len(self.radius), dict[int, str]()
        self.spent, self.tried = 0.0, set[int]()

    @property
    def mean_seconds(self) -> float:
        return self.spent / len(self.tried) if self.tried else 0.0

    def at(self, eps: str, progress: Callable[[int], None] | None) -> tuple[str, ...]:
        right, goal = self.certified.certification.correct, _just_above(eps)
        names = [
            name if sure else "" for name, sure in zip(self.by, right & beyond(self.radius, eps), strict=True)
        ]
        todo = [
            i
            for i in np.flatnonzero(right & ~beyond(self.radius, eps)).tolist()
            if self.radius[i] > 0 and goal <= REACH
        ]
        done = len(names) - len(todo)
        for start in range(0, len(todo), TOGETHER):
            some = todo[start : start + TOGETHER]
            for i, (ball, name) in zip(some, self._tried(some, goal), strict=True):
                if ball is not None:
                    self.balls[self.keys[i]] = ball
                    self.radius[i], self.by[i], names[i] = ball.radius, name, name
            done += len(some)
            if progress is not None:
                progress(done)
        return tuple(names)

    def _tried(self, some: Sequence[int], goal: float) -> "list[tuple[Ball | None, str]]":
        begin = time.process_time()
        x = self.store.entering(np.array(some), self.claim.arithmetic)
        margins = known_margins(self.network, x, self.base, self.claim.arithmetic, self.prove)
        self.keys |= {i: image_key(row) for i, row in zip(some, x, strict=True)}
        ladders = [Ladder(self.offsets, row, known, goal) for row, known in zip(x, margins, strict=True)]
        if not self.offsets.unfit:
            lost = self.offsets.refuted([ladder.asked for ladder in ladders])
            for ladder, refuted in zip(ladders, lost, strict=True):
                ladder.refuted = refuted
            left = [ladder for ladder in ladders if not ladder.refuted]
            for ladder, tried in zip(
                left, self.offsets.prove([ladder.asked for ladder in left]), strict=True
            ):
                ladder.tried = tried
        shared = (time.process_time() - begin) / len(some)
        found = [ladder.climbed(time.process_time() + self.seconds - shared) for ladder in ladders]
        self.spent += time.process_time() - begin
        self.tried |= set(some)
        return found

    def proven(self) -> Certified:
        if not self.balls:
            return self.certified
        proof = around_proof(self.base, self.balls)
        found = replace(self.certified.certification, radius=self.radius)
        return Certified(found, replace(self.claim, radius=self.radius), proof)


@dataclass(eq=False)
class Ladder:
    """One image on its way from cheap proofs to dear ones.

    Attributes:
        refuted: an attack has found another class in the ball, so nothing is tried.
        by: the dearest of the proofs so far.
        pairs, trees: by class, proofs and splits so far.
    """

    offsets: Offsets
    x: Float[np.ndarray, " n"]
    known: Margins
    radius: float
    refuted: bool = False
    by: str = "constants"
    tried: Tried | None = None
    pairs: dict[int, Proof] = field(default_factory=dict)
    trees: dict[int, Tree] = field(default_factory=dict)

    @property
    def asked(self) -> Asked:
        others = (j for j in range(len(self.known.left)) if j != self.known.label)
        open_ = (j for j in others if not lasts(self.known, j, float(self.known.constants[j]), self.radius))
        return Asked(self.x, self.known, self.radius, tuple(open_))

    def climbed(self, end: float) -> "tuple[Ball | None, str]":
        """The ball and what proved it, each class by the kernel on its way here; None where nothing did until `end`.

        Splits come before multipliers, with half of the time, and once more behind them.
        """
        if self.refuted:
            return None, ""
        open_ = set(self.asked.open)
        if self.tried is not None:
            open_ = self._proven(open_, self.tried.proofs, "offsets")
        if open_ and variables(self.offsets.of.network) <= NEURONS and (around := self._around()):
            gains = around.gains(rows(len(self.known.left), self.known.label))
            lasting = [j for j in open_ if lasts(self.known, j, float(gains[j]), self.radius)]
            open_ = self._proven(open_, dict.fromkeys(lasting), "increments")
            if open_ and variables(around.network()) <= BENT:
                now = time.process_time()
                open_ = self._split(open_, now + (end - now) / 2)
                open_ = self._proven(open_, self._multipliers(around, gains, open_, end), "multipliers")
        open_ = self._split(open_, end)
        return (None, "") if open_ else (Ball(self.radius, self.pairs), self.by)

    def _proven(self, open_: set[int], proofs: Mapping[int, Proof | None], by: str) -> set[int]:
        """The classes that are open without these, whose proofs are kept; None needs none of its own."""
        found = {j: proof for j, proof in proofs.items() if j in open_}
        self.pairs |= {j: proof for j, proof in found.items() if proof is not None}
        self.by = max(self.by, by, key=PROOFS.index) if found else self.by
        return open_ - set(found)

    def _around(self) -> Around | None:
        with suppress(NotProvable):
            return Around.of(self.offsets.of.front.at(self.x), self.radius)
        return None

    def _multipliers(
        self, around: Around, gains: Float[np.ndarray, " classes"], open_: set[int], end: float
    ) -> dict[int, Proof]:
        """Proofs by multipliers for the slopes of secants."""
        found = dict[int, Proof]()
        with np.errstate(divide="ignore", invalid="ignore"):
            hard = self.known.left / gains
        # the hardest first: where it stays open, the others are in vain
        for j in sorted(open_, key=lambda j: hard[j]):
            if time.process_time() > end:
                break
            proven = own_proof(pair_network(around, self.known.label, j))
            if proven is None or not lasts(self.known, j, proven.bound, self.radius):
                break
            found[j] = proven.proof
        return found

    def _split(self, open_: set[int], end: float) -> set[int]:
        """The classes that splits leave open."""
        if not open_ or self.tried is None or self.tried.spread is None:
            return open_
        self.tried.asked = replace(self.tried.asked, open=tuple(sorted(open_)))
        self.tried.proofs = {}
        split(self.offsets, self.tried, self.trees, end)
        return self._proven(open_, self.tried.proofs, "splits")


def _just_above(eps: str) -> float:
    """The least radius that is surely beyond `eps`."""
    near = float(Fraction(eps))
    return float(np.nextafter(np.nextafter(near, np.inf), np.inf))
