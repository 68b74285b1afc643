r"""Larger certified radii of a network graph from balls around images, with a proof that `sdplip verify` proves again.

A margin $f_y - f_j$ that moves by at most $L_j |x' - x|$ for $|x' - x| \le R$ leaves class y the winner up to
$\min(R, \min_j (f_y - f_j)(x) / L_j)$. A smaller ball has smaller constants, so the best R lies where both are equal; a few balls
find it. For networks of smooth functions the gradient and the curvature of the margins that limit the radius count too (`bent_less`).
Where few neurons bend, pairs of classes get multipliers of their own (`own_proof`). Lines with offsets then try larger balls
(`offsets.offset_ball`).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Shaped

from sdplip.bounds.methods.multipliers import by_system
from sdplip.bounds.task import Proven, Task
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.accuracy import known_margins, remembering, value_constants, with_classes
from sdplip.kernel.around import Ball, Margins, Surroundings, image_key, lasts, pair_network, rows
from sdplip.kernel.centred import Around, Bends, Centre, Front, smooth
from sdplip.kernel.check import conclude
from sdplip.kernel.passes import REACH
from sdplip.kernel.proof import Proof
from sdplip.kernel.system import variables
from sdplip.network import Network
from sdplip.robustness.graph_accuracy import Certified
from sdplip.robustness.offsets import Offsets, offset_ball
from sdplip.verifier.images import Images
from sdplip.verifier.verify import BATCH

NEURONS = 3000
"""Networks of more nonlinear variables are followed by offsets alone: the matrices of increments are dense."""
BALLS = 8
"""At most so many balls are tried around an image."""
CLOSE = 0.005
"""The search ends when no other ball can make the radius larger by more than this share."""
BENT = 128
"""Up to this number of neurons that bend on a ball, pairs of classes get multipliers of their own there."""
STEP = 1.12
"""How much larger the first ball for such multipliers is than the radius so far."""
PAIR_GAP = 1e-5
"""Relative gap of the squared constant at which such a solve stops."""
Progress = Callable[[int, int], None]


def enlarge(
    network: Network,
    images: Shaped[np.ndarray, "n *pixels"],
    certified: Certified,
    *,
    bent: int = BENT,
    curvature: bool = True,
    lines: bool = True,
    progress: Progress | None = None,
) -> Certified:
    """Larger radii for images that `certify_graph` has certified, each from balls of its own.

    Images of wrong predictions and of radius 0 keep their radius.

    Args:
        images: those that were certified.
        certified: from `certify_graph`.
        bent: where at most so many neurons bend, solve for multipliers of the pairs of classes that limit the radius; 0 is
            nowhere.
        curvature: use gradient and curvature of margins where functions are smooth.
        lines: then try larger balls by lines with offsets.
        progress: called with the images done and their number.

    Raises:
        NotProvable: matrices of the network that are too large to be followed around an image, and functions without offsets.
    """
    network, claim, base = with_classes(network), certified.claim, certified.proof
    offsets = Offsets(Surroundings(network, value_constants(network, base, remembering(base))))
    if len(images) != len(claim.index):
        raise InvalidProblem(f"{len(images)} images are not the {len(claim.index)} that were certified.")
    front, store = _front(network, offsets), Images(images, claim.label)
    radius, balls = certified.certification.radius.copy(), dict[str, Ball]()
    todo = np.flatnonzero(certified.certification.correct & (radius > 0))
    curved = front is not None and curvature and smooth(front.network)
    done = 0
    for start in range(0, len(todo), BATCH):
        some = todo[start : start + BATCH]
        x = store.entering(some, claim.arithmetic)
        margins = known_margins(network, x, base, claim.arithmetic, conclude)
        for i, image, known in zip(some, x, margins, strict=True):
            ball = Ball(float(radius[i]))
            if front is not None:
                ball = _largest(front.at(image), known, ball.radius, bent, curved)
            if lines and not offsets.unfit:
                ball, _ = offset_ball(offsets, image, known, ball)
            if ball.radius > radius[i]:
                balls[image_key(image)] = ball
                radius[i] = ball.radius
            done += 1
            if progress is not None:
                progress(done, len(todo))
    if not balls:
        return certified
    proof = around_proof(base, balls)
    return Certified(replace(certified.certification, radius=radius), replace(claim, radius=radius), proof)


def check_followed(network: Network) -> None:
    """Refuses, before anything long begins, a network that neither increments nor offsets follow around an image.

    Raises:
        InvalidProblem: it is of that kind.
    """
    network = with_classes(network)
    count, offsets = variables(network), Offsets(Surroundings(network, {}))
    if count > NEURONS and offsets.unfit:
        raise InvalidProblem(
            f"{count} nonlinear neurons are more than the {NEURONS} whose increments are followed around an image, because their"
            f" matrices are dense. {offsets.unfit} Use constants of all inputs."
        )
    try:
        _front(network, offsets)
    except NotProvable as error:
        raise InvalidProblem(
            f"This network cannot be followed around an image. {error} Use constants of all inputs."
        ) from None


def _front(network: Network, offsets: Offsets) -> Front | None:
    """The network as increments follow it; None where it is too large for that, but offsets are not.

    Raises:
        NotProvable: neither follows it.
    """
    try:
        if variables(network) <= NEURONS or offsets.unfit:
            return Front.of(network)
    except NotProvable:
        if offsets.unfit:
            raise
    return None


def around_proof(base: Proof, balls: dict[str, Ball]) -> Proof:
    """The proof of all inputs with the balls by the keys of their images."""
    pairs = [(k, j, part) for k, ball in enumerate(balls.values()) for j, part in ball.pairs.items()]
    data = {
        "images": list(balls),
        "radius": np.array([ball.radius for ball in balls.values()]),
        "pairs": [[k, j] for k, j, _ in pairs],
    }
    return Proof("around", data, (base, *(part for _, _, part in pairs)))


def _largest(centre: Centre, known: Margins, start: float, bent: int, curved: bool) -> Ball:
    """The largest ball that is found and whose proof holds."""

    def by_gains(radius: float) -> float:
        return _proven(known, _gains(Around.of(centre, radius), known, curved))

    best, _ = largest_radius(by_gains, start)
    found = Ball(_lasting(centre, known, best, start, curved))
    if bent and start > 0:
        search = _ByPairs(centre, known, bent, curved)
        radius, _ = refined_radius(search, found.radius)
        if radius > found.radius:
            ball = search.ball(radius)
            found = ball if ball.radius > found.radius else found
    return found


def _lasting(centre: Centre, known: Margins, radius: float, start: float, curved: bool) -> float:
    """The radius, a little smaller until its proof holds; at least `start`."""
    for _ in range(4):
        gains = _gains(Around.of(centre, radius), known, curved)
        if all(lasts(known, j, float(gains[j]), radius) for j in range(len(gains)) if j != known.label):
            return max(radius, start)
        radius *= 1 - 2.0**-40
    return start


class _ByPairs:
    """The radius that multipliers of the pairs that limit it prove, on a ball."""

    def __init__(self, centre: Centre, known: Margins, bent: int, curved: bool):
        self.centre, self.known, self.bent, self.curved = centre, known, bent, curved
        self.found: dict[float, dict[int, Proven]] = {}

    def __call__(self, radius: float) -> float:
        around = Around.of(self.centre, radius)
        if variables(around.network()) > self.bent:
            return 0.0
        gains, solved = _gains(around, self.known, self.curved), self.found.setdefault(radius, {})
        while (value := _proven(self.known, gains)) < radius:
            worst = _limiting(self.known, gains)
            if worst in solved:
                break
            proven = own_proof(pair_network(around, self.known.label, worst))
            if proven is None:
                break
            solved[worst] = proven
            gains[worst] = min(gains[worst], proven.bound)
        return value

    def ball(self, radius: float) -> Ball:
        """The ball of that radius, with the proofs that it needs; of radius 0 where they do not suffice."""
        for _ in range(4):
            self(radius)
            gains, solved = (
                _gains(Around.of(self.centre, radius), self.known, self.curved),
                self.found[radius],
            )
            needed = {j: solved[j].proof for j in solved if not lasts(self.known, j, float(gains[j]), radius)}
            constants = {
                j: min(float(gains[j]), solved[j].bound if j in solved else np.inf) for j in range(len(gains))
            }
            if all(lasts(self.known, j, c, radius) for j, c in constants.items() if j != self.known.label):
                return Ball(radius, needed)
            radius *= 1 - 1e-4
        return Ball(0.0)


def own_proof(network: Network) -> Proven | None:
    """The best proof of one margin by multipliers of its own; None where there is none."""
    from sdplip.bounds.numerics.joint_lipsdp import lipsdp  # loads torch

    with suppress(NotProvable, np.linalg.LinAlgError):
        task = Task(network)
        found = list(by_system(task, "lipsdp-neuron", lambda system: lipsdp(system, gap=PAIR_GAP)))
        return min(found, key=lambda proven: proven.bound, default=None)
    return None


def _gains(around: Around, known: Margins, curved: bool) -> Float[np.ndarray, " classes"]:
    gains = np.fmin(known.constants, around.gains(rows(len(known.left), known.label)))
    return bent_less(around, known.label, gains, partial(_limiting, known)) if curved else gains


def bent_less(
    around: Around,
    label: int,
    gains: Float[np.ndarray, " classes"],
    limiting: Callable[[Float[np.ndarray, " classes"]], int],
) -> Float[np.ndarray, " classes"]:
    """The constants of a ball with how far margins fall by gradient and curvature, where that is less: of the class that limits the
    radius, as long as one does that was not tried."""
    bends, every, tried = Bends.of(around), rows(len(gains), label), set[int]()
    while (j := limiting(gains)) not in tried:
        tried.add(j)
        gains[j] = min(gains[j], bends.fall(every[j]))
    return gains


def _limiting(known: Margins, gains: Float[np.ndarray, " classes"]) -> int:
    with np.errstate(divide="ignore", invalid="ignore"):
        each = known.left / (gains + known.slopes)
    each[known.label] = np.inf
    return int(np.argmin(np.where(gains > 0, each, np.inf)))


def _proven(known: Margins, gains: Float[np.ndarray, " classes"]) -> float:
    """The radius up to which these constants leave the margins positive, about; a proof of a ball decides."""
    others = np.arange(len(gains)) != known.label
    with np.errstate(divide="ignore", invalid="ignore"):
        each = known.left[others] / (gains[others] + known.slopes[others])
    found = float(np.min(np.where(known.left[others] > 0, each, 0.0)))
    return found * (1 - 2.0**-50) if found > 0 else 0.0


def _counted(ball: float, value: float) -> float:
    """The smaller of both; 0 where `value` is no number."""
    return ball if value >= ball else value if value > 0 else 0.0


def refined_radius(radius_on: Callable[[float], float], start: float) -> tuple[float, int]:
    """As `largest_radius` for a `radius_on` that costs a solve: from `start` up, in few steps."""
    best, low, high, tried = start, start, np.inf, 0
    while tried < BALLS // 2 and high > low * (1 + 2 * CLOSE):
        ball = min(low * STEP, REACH) if high == np.inf else (low * high) ** 0.5
        value = radius_on(ball)
        tried += 1
        best = max(best, _counted(ball, value))
        if value >= ball:
            low = ball
        else:
            low, high = max(low, _counted(ball, value)), ball
            if low <= start:
                break
    return min(best, REACH), tried


def largest_radius(radius_on: Callable[[float], float], start: float) -> tuple[float, int]:
    """The largest of `start` and min(R, radius_on(R)) over the balls R that are tried, and their number.

    `radius_on` falls with R, so the best R is where both are equal: bracketed and interpolated. Nothing depends on that being so.
    """
    low, low_value = start, radius_on(start)
    best, high, high_value, tried = max(start, _counted(low, low_value)), np.inf, 0.0, 1
    while tried < BALLS and min(low_value, high) > best * (1 + CLOSE):
        if high == np.inf:
            ball = min(low + 0.75 * (low_value - low), 4 * low)
        else:
            rise, fall = low_value - low, high - high_value
            ball = low + (high - low) * np.clip(rise / (rise + fall), 0.05, 0.95)
        ball = min(float(ball), REACH)
        value = radius_on(ball)
        tried += 1
        best = max(best, _counted(ball, value))
        if value >= ball:
            low, low_value = ball, value
        else:
            high, high_value = ball, value
    return min(best, REACH), tried
