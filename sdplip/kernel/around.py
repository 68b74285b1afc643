r"""Larger radii from constants of a ball around each image, instead of constants of all inputs.

Statement. On the ball of radius R around x let $|(f_y - f_j)(x') - (f_y - f_j)(x)| \le L_j \lVert x' - x \rVert$. If the margins
$m_j$ at x, less what a pass in floating point may take, $c_j + e_j R$, stay above $L_j R$, then y is predicted on the whole ball.
$L_j$ is the least of these: the constant of all inputs, the one of increments from x (`kernel.centred`), how far the margin falls by its
gradient and its curvature (smooth networks, `kernel.centred.curvature`: of a margin it is enough how far it falls), and that of a
proof of its own: on the network with the slopes of secants from x, or of how far the margin falls (`kernel.spread`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sdplip.arithmetic.rounding import TINY, up
from sdplip.errors import NotProvable
from sdplip.kernel import spread
from sdplip.kernel.centred import Around, Bends, Front, smooth
from sdplip.kernel.centred.pairs import without_pairs
from sdplip.kernel.data import array, wholes
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.network import Dense, Network, followed
from sdplip.shapes import Float

MOST = 1 << 20
"""Images of one proof, at most."""


@dataclass(frozen=True, eq=False)
class Ball:
    """A radius that is claimed around an image, and proofs of margins by the class that they are against."""

    radius: float
    pairs: Mapping[int, Proof] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Margins:
    """What is known at one image of every class.

    Attributes:
        label: the class of the largest logit.
        least: its margin to the next, rounded down: where that is positive the class wins.
        left: its margins, less what rounding takes at the image; rounded down.
        constants: of the margins, of all inputs.
        slopes: what rounding takes more, per unit of distance.
    """

    label: int
    least: float
    left: Float[np.ndarray, " classes"]
    constants: Float[np.ndarray, " classes"]
    slopes: Float[np.ndarray, " classes"]


def image_key(x: Float[np.ndarray, " n"]) -> str:
    """SHA-256 of the doubles of an image, little-endian: what a ball belongs to."""
    return hashlib.sha256(np.ascontiguousarray(x, "<f8").tobytes()).hexdigest()


def balls_of(proof: Proof, classes: int) -> tuple[Proof, dict[str, Ball]]:
    """The proof of the constants of all inputs, and the balls by the keys of their images.

    Data of a proof by `around`: `images`, the keys; `radius` of each; `pairs`, as `[image, class]` with the number of the image
    in that list, one part each behind the first.

    Raises:
        NotProvable: malformed data.
    """
    keys = proof.data.get("images")
    if (
        not isinstance(keys, list | tuple)
        or not all(isinstance(key, str) for key in keys)
        or len(keys) > MOST
    ):
        raise NotProvable("`images` of the proof by `around` must be the SHA-256 of images.")
    radius = array(proof, "radius", (len(keys),), least=0.0)
    given = proof.data.get("pairs", [])
    if not proof.parts or not isinstance(given, list | tuple) or len(given) != len(proof.parts) - 1:
        raise NotProvable("A proof by `around` needs the proof of all inputs, and one part for each pair.")
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in given):
        raise NotProvable("`pairs` of the proof by `around` must be pairs of an image and a class.")
    flat = Proof("around", {"pairs": [v for pair in given for v in pair]})
    ends = np.array(wholes(flat, "pairs", 2 * len(given), 0, MOST), int).reshape(-1, 2)
    if len(given) and (ends[:, 0].max() >= len(keys) or ends[:, 1].max() >= classes):
        raise NotProvable("A pair of a proof by `around` names an image or a class that there is not.")
    pairs: list[dict[int, Proof]] = [{} for _ in keys]
    for (image, j), part in zip(ends.tolist(), proof.parts[1:], strict=True):
        pairs[image][j] = part
    found = [Ball(float(r), mine) for r, mine in zip(radius, pairs, strict=True)]
    return proof.parts[0], dict(zip(keys, found, strict=True))


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What proofs around images need of a network, each made when it is first asked for.

    Attributes:
        network: with logits of classes.
        constants: of its values, proven; see `kernel.accuracy.value_constants`.
    """

    network: Network
    constants: Mapping[int, float]

    @cached_property
    def front(self) -> Front:
        """For increments."""
        return Front.of(self.network)

    @cached_property
    def spread(self) -> spread.Front:
        """For how far margins fall."""
        plain = without_pairs(self.network)
        return spread.Front.of(plain, _carried(self.network, plain, self.constants))


def _carried(old: Network, new: Network, constants: Mapping[int, float]) -> dict[int, float]:
    """The constants by the numbers of the same nodes in a rewritten network; none of operators that stand in several places."""
    places = [{}, {}]
    for place, network in zip(places, (old, new), strict=True):
        for k, node in enumerate(network.nodes, 1):
            place.setdefault(id(node.op), []).append(k)
    found = {}
    for op, (k, *more) in places[0].items():
        there = places[1].get(op, [])
        if k in constants and not more and len(there) == 1:
            found[there[0]] = constants[k]
    return found


def stays(of: Surroundings, x: Float[np.ndarray, " n"], ball: Ball, margins: Margins, prove: Prove) -> bool:
    """Whether the class is proven to stay on the whole ball."""
    found = np.flatnonzero(np.arange(len(margins.left)) != margins.label)
    if not (margins.left[found] > 0).all() or not np.isfinite(ball.radius):
        return False
    constants = margins.constants.tolist()
    found = np.array([j for j in found.tolist() if not lasts(margins, j, constants[j], ball.radius)], int)
    fallen = [j for j in found.tolist() if j in ball.pairs and ball.pairs[j].rule in spread.RULES]
    if fallen:
        here = spread.spread_of(of.spread, x, ball.radius)
        every = rows(len(margins.left), margins.label)
        if not all(lasts(margins, j, fall(here, every[j], ball.pairs[j]), ball.radius) for j in fallen):
            return False
        found = np.setdiff1d(found, fallen)
    return not len(found) or _increments(of.front, x, ball, margins, found, prove)


def fall(here: spread.Spread, row: Float[np.ndarray, " classes"], proof: Proof | None) -> float:
    """How far a margin falls on a ball, per unit of its radius; infinite where that is not proven."""
    try:
        return up(spread.falls(here, row, proof) / here.region.radius)
    except NotProvable:
        return np.inf


def _increments(
    front: Front,
    x: Float[np.ndarray, " n"],
    ball: Ball,
    margins: Margins,
    found: np.ndarray,
    prove: Prove,
) -> bool:
    """Whether the class stays against the classes `found`, by increments, curvature and proofs on slopes of secants."""
    around = Around.of(front.at(x), ball.radius)
    gains = np.fmin(margins.constants, around.gains(rows(len(margins.left), margins.label)))
    bends = Bends.of(around) if smooth(front.network) else None
    every = rows(len(margins.left), margins.label)
    for j in found.tolist():
        if lasts(margins, j, float(gains[j]), ball.radius):
            continue
        if bends is not None and lasts(margins, j, bends.fall(every[j]), ball.radius):
            continue
        if j not in ball.pairs:
            return False
        try:
            own = prove(Goal(pair_network(around, margins.label, j)), ball.pairs[j])
        except NotProvable:
            return False
        if not lasts(margins, j, own, ball.radius):
            return False
    return True


def lasts(margins: Margins, j: int, constant: float, radius: float) -> bool:
    """Whether the margin against class j stays positive within `radius`."""
    steep = up(constant + float(margins.slopes[j]))
    return constant >= 0 and up(up(steep * radius) + TINY) < float(margins.left[j])


def pair_network(around: Around, label: int, j: int) -> Network:
    """The margin against class j with the slopes of secants."""
    network = around.network()
    return followed(network, Dense(rows(network.outputs, label)[j : j + 1]))


def rows(classes: int, label: int) -> Float[np.ndarray, "classes classes"]:
    """The margins of a class as rows."""
    one = np.eye(classes)
    return one[label] - one
