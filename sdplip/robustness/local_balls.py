r"""Images certified at given radii by whatever proves it first: constants, offsets, increments, multipliers of their own, splits.

The ladder goes from cheap to dear, and an image leaves it where the kernel has proven its ball. `certify_balls` asks at radii that are given,
`offset_radius` for the largest ball that offsets prove around one image.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
from sdplip.robustness.offsets import Asked, Offsets, Tried
from sdplip.verifier.images import Images

BENT = 320
"""Up to this number of neurons that bend on a ball, pairs of classes get multipliers: a second or two each."""
TOGETHER = 8
"""Images whose slopes are searched at once."""
SECONDS = 10.0
"""Of the process, an image and radius."""
Progress = Callable[[int, int], None]
PROOFS = ("constants", "offsets", "increments", "multipliers", "splits")
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
            asked = [ladder.asked for ladder in ladders]
            for ladder, tried in zip(ladders, self.offsets.prove(asked), strict=True):
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
    """One image on its way from cheap proofs to dear ones."""

    offsets: Offsets
    x: Float[np.ndarray, " n"]
    known: Margins
    radius: float
    tried: Tried | None = None
    pairs: dict[int, Proof] = field(default_factory=dict)

    @property
    def asked(self) -> Asked:
        others = (j for j in range(len(self.known.left)) if j != self.known.label)
        open_ = (j for j in others if not lasts(self.known, j, float(self.known.constants[j]), self.radius))
        return Asked(self.x, self.known, self.radius, tuple(open_))

    def climbed(self, end: float) -> "tuple[Ball | None, str]":
        """The ball and what proved it, each class by the kernel on its way here; None where nothing did until `end`."""
        open_, name = set(self.asked.open), "constants"
        if open_ and self.tried is not None:
            self.pairs |= self.tried.proofs
            open_, name = set(self.tried.open), "offsets"
        if open_ and variables(self.offsets.of.network) <= NEURONS:
            open_, name = self._increments(open_, end, name)
        if open_ and self.tried is not None and self.tried.spread is not None:
            self.tried.proofs |= self.pairs  # those are not asked again
            others = set(self.tried.asked.open) - open_ - set(self.tried.proofs)
            self.tried.asked = replace(self.tried.asked, open=tuple(set(self.tried.asked.open) - others))
            self.offsets.split(self.tried, end)
            self.pairs |= self.tried.proofs
            open_, name = set(self.tried.open), "splits"
        ball = Ball(self.radius, {j: proof for j, proof in self.pairs.items() if j in self.asked.open})
        return (None, "") if open_ else (ball, name)

    def _increments(self, open_: set[int], end: float, name: str) -> tuple[set[int], str]:
        """Without what increments from the centre prove, and multipliers for the slopes of their secants."""
        try:
            around = Around.of(self.offsets.of.front.at(self.x), self.radius)
        except NotProvable:
            return open_, name
        gains = around.gains(rows(len(self.known.left), self.known.label))
        left = {j for j in open_ if not lasts(self.known, j, float(gains[j]), self.radius)}
        if left != open_:
            name = "increments"
        if variables(around.network()) > BENT:
            return left, name
        with np.errstate(divide="ignore", invalid="ignore"):
            hard = self.known.left / gains
        for j in sorted(
            left, key=lambda j: hard[j]
        ):  # the hardest first: where it stays open, the others are in vain
            if time.process_time() > end:
                break
            proven = own_proof(pair_network(around, self.known.label, j))
            if proven is None or not lasts(self.known, j, proven.bound, self.radius):
                break
            self.pairs[j], name = proven.proof, "multipliers"
            left = left - {j}
        return left, name


def _just_above(eps: str) -> float:
    """The least radius that is surely beyond `eps`."""
    near = float(Fraction(eps))
    return float(np.nextafter(np.nextafter(near, np.inf), np.inf))
