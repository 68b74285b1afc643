r"""Certified radii of labelled images: margins in exact arithmetic, constants of margins, rounding of the forward pass.

Statement. Let $s = f(x)$, y the class of its largest logit, $m_j = s_y - s_j$, and $|(f_y - f_j)(x') - (f_y - f_j)(x)| \le L_{yj}
\lVert x' - x \rVert$. If a pass in floating point is off by at most $c_{yj} + e_{yj} r$ in the margin of y and j at every x'
within r of x, then y is predicted at every x' nearer than $\min_j (m_j - c_{yj}) / (L_{yj} + e_{yj})$.

A network of one output f decides by its sign: it is read as the two logits 0, f, so class 1 wins where f > 0.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma, up
from sdplip.errors import NotProvable
from sdplip.kernel.around import Ball, Margins, Surroundings, balls_of, image_key, stays
from sdplip.kernel.check import conclude
from sdplip.kernel.data import whole
from sdplip.kernel.evaluate import evaluate
from sdplip.kernel.passes import FORMATS, REACH, Affine, Pass, Span, check_numbers, pass_error, sizes
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.layers import constants as layer_constants
from sdplip.kernel.rules.layers import spans_of
from sdplip.kernel.subnormal import refuse_lost_numbers
from sdplip.kernel.surgery import between
from sdplip.network import Dense, Network, followed
from sdplip.shapes import Float, Int

Arithmetic = Literal["exact", "float32", "float64"]
"""Whose prediction is certified: that of exact arithmetic, or of any pass in a format, rounding included."""


@dataclass(frozen=True, eq=False)
class Radii:
    """What is proven of a batch of inputs.

    Attributes:
        prediction: the class that wins, -1 where that is not proven.
        margin: its logit minus the next, rounded down; 0 where nothing is proven.
        radius: at every input strictly nearer than this the same class wins.
    """

    prediction: Int[np.ndarray, " batch"]
    margin: Float[np.ndarray, " batch"]
    radius: Float[np.ndarray, " batch"]


@np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")
def radii(
    network: Network, x: Float[np.ndarray, "batch n"], proof: Proof, arithmetic: Arithmetic, prove: Prove
) -> Radii:
    """The radii that `proof` proves at the inputs `x`, exact doubles.

    `proof` is of rule "margins": `data["cut"]` is a value that everything passes through and that makes the logits by one matrix
    (or the output itself); `parts[0]` bounds the network up to there. For a pass in a format its parts are spans, see `flow`.
    Or it is of rule "around", with such a proof as its first part and larger radii of some images, see `kernel.around`.

    Raises:
        NotProvable: the proof proves nothing of this network.
    """
    refuse_lost_numbers(network)
    network = with_classes(network)
    balls: dict[str, Ball] = {}
    if proof.rule == "around":
        proof, balls = balls_of(proof, network.outputs)
    margins = known_margins(network, x, proof, arithmetic, prove)
    radius = np.array([_radius(one) for one in margins])
    if balls:
        of = Surroundings(network, value_constants(network, proof, prove))
        radius = larger(of, x, balls, margins, radius, prove)
    wins = np.array([one.least > 0 for one in margins])
    labels, least = np.array([one.label for one in margins]), np.array([one.least for one in margins])
    return Radii(np.where(wins, labels, -1), np.maximum(least, 0.0), np.where(wins, radius, 0.0))


def with_classes(network: Network) -> Network:
    """The network whose outputs are logits of classes: of one output f the two 0, f."""
    return network if network.outputs > 1 else followed(network, Dense(np.array([[0.0], [1.0]])))


def known_margins(
    network: Network,
    x: Float[np.ndarray, "batch n"],
    proof: Proof,
    arithmetic: Arithmetic,
    prove: Prove,
) -> list[Margins]:
    """What is known of the margins at each input, from a proof by `margins`, `pairs` or `least`.

    Raises:
        NotProvable: the proof proves nothing of this network.
    """
    network = with_classes(network)
    constants = margin_constants(network, proof, prove)  # proves that implicit layers have one solution, too
    values = evaluate(network, x, unique=True)
    logits = values[-1]
    y = logits.mid.argmax(-1)
    rows = np.arange(len(y))
    low, high = logits.ends()
    margin = low[rows, y][:, None] - high
    margin = np.where(np.isfinite(margin), np.nextafter(margin, -np.inf), -np.inf)
    if arithmetic == "exact":
        lost = np.zeros_like(margin), np.zeros_like(margin)
    else:
        lost = margin_errors(network, proof, prove, values, y, arithmetic)
    with np.errstate(invalid="ignore", over="ignore"):
        left = np.nextafter(margin - lost[0], -np.inf)
    left[rows, y] = margin[rows, y] = np.inf
    return [
        Margins(int(k), float(least), *each)
        for k, least, *each in zip(y, margin.min(-1), left, constants[y], lost[1], strict=True)
    ]


def _radius(margins: Margins) -> float:
    """The radius by constants of all inputs."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        steep = np.nextafter(margins.constants + margins.slopes, np.inf)
        each = np.where(margins.left > 0, np.nextafter(margins.left / steep, -np.inf), 0.0)
    each[margins.label] = np.inf
    return float(np.clip(np.nan_to_num(each.min(), nan=0.0), 0.0, REACH))


def larger(
    of: Surroundings,
    x: Float[np.ndarray, "batch n"],
    balls: Mapping[str, Ball],
    margins: list[Margins],
    radius: Float[np.ndarray, " batch"],
    prove: Prove,
) -> Float[np.ndarray, " batch"]:
    """The radii, or those of the balls around their images where they are larger and proven."""
    found = radius.copy()
    for i, image in enumerate(x):
        ball = balls.get(image_key(image))
        if ball is not None and ball.radius > radius[i] and stays(of, image, ball, margins[i], prove):
            found[i] = min(ball.radius, REACH)
    return found


def value_constants(network: Network, proof: Proof, prove: Prove) -> dict[int, float]:
    """Constants of values in front of the head, from the part of rule `layers` inside a proof of margins; none where there is none."""
    try:
        cut, part = flow(proof, network)
        if cut == 0:
            return {}
        front = network if cut == network.output else between(network, 0, cut)
        return layer_constants(front, part, prove)
    except NotProvable:
        return {}


def margin_constants(network: Network, proof: Proof, prove: Prove) -> Float[np.ndarray, "classes classes"]:
    r"""$L_{yj}$ of all pairs of logits: $\lVert u_y - u_j \rVert L$ behind a cut, $\sqrt 2 L$ of the whole; least of several.

    Raises:
        NotProvable: the proof proves nothing of this network.
    """
    classes = network.outputs
    if proof.rule == "least":
        if not 1 <= len(proof.parts) <= 8:
            raise NotProvable("`least` takes one to eight proofs.")
        return np.min([margin_constants(network, part, prove) for part in proof.parts], 0)
    if proof.rule == "pairs":
        return _pairs(network, proof, prove)
    if proof.rule != "margins" or len(proof.parts) != 1:
        raise NotProvable(
            f"Constants of margins are proven by `margins`, `pairs` or `least`, not by `{proof.rule}`."
        )
    cut = whole(proof, "cut", 0, network.output)
    if cut == network.output:
        L = prove(Goal(network), proof.parts[0])
        return np.full((classes, classes), up(up(2**0.5) * L))
    U = _head(network, cut)
    L = 1.0 if cut == 0 else prove(Goal(network.between(0, cut)), proof.parts[0])
    return np.nextafter(distances(U) * L, np.inf)


def distances(U: Float[np.ndarray, "classes n"]) -> Float[np.ndarray, "classes classes"]:
    """Lengths of the differences of all rows, rounded up."""
    return np.array([lengths(u - U) for u in U]) * (1 + gamma(4)) + U.shape[1] * TINY


def _pairs(network: Network, proof: Proof, prove: Prove) -> Float[np.ndarray, "classes classes"]:
    """One proof for each pair i < j, in order."""
    classes = network.outputs
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    if len(proof.parts) != len(pairs):
        raise NotProvable(f"`pairs` needs {len(pairs)} proofs, one for each pair of {classes} outputs.")
    found = np.zeros((classes, classes))
    for (i, j), part in zip(pairs, proof.parts, strict=True):
        row = np.zeros((1, classes))
        row[0, i], row[0, j] = 1.0, -1.0
        found[i, j] = found[j, i] = prove(Goal(followed(network, Dense(row))), part)
    return found


def _head(network: Network, cut: int) -> Float[np.ndarray, "classes n"]:
    last = network.nodes[-1]
    if cut not in network.cuts or last.inputs != (cut,) or not isinstance(last.op, Dense):
        raise NotProvable("Behind the `cut` of a proof by `margins` one matrix must make the logits.")
    return last.op.W


def margin_errors(
    network: Network,
    proof: Proof,
    prove: Prove,
    values: list[Enclosure],
    y: Int[np.ndarray, " batch"],
    arithmetic: str,
) -> tuple[Float[np.ndarray, "batch classes"], Float[np.ndarray, "batch classes"]]:
    """Constant and slope of what a pass in a format may take from the margins of class y.

    The spans come from the part of rule `layers` inside the proof: `flow` finds them.

    Raises:
        NotProvable: no such part, or a layer whose rounding is not known.
    """
    if arithmetic not in FORMATS:
        raise NotProvable(f"`{str(arithmetic)[:20]}` is no arithmetic. Use exact, {', '.join(FORMATS)}.")
    format = FORMATS[arithmetic]
    cut, layers = flow(proof, network)
    if cut == 0:  # the head alone: its input is exact
        nothing = np.zeros(len(y))
        passed = Pass(Affine(nothing, 0.0), Affine(nothing, 1.0))
    else:
        part = network if cut == network.output else network.between(0, cut)
        passed = pass_error(part, proven_spans(part, layers, prove), values[: part.output + 1], format)[-1]
    classes = network.outputs
    if cut == network.output:
        error = up(2**0.5) * passed.error
        return np.tile(error.constant[:, None], classes), np.full((len(y), classes), error.slope)
    check_numbers(network.nodes[-1].op, format, network.nodes[-1].title)
    return _head_errors(
        network, passed, values[cut], y, format.gamma(_head(network, cut).shape[1] + 3), format.tiny
    )


def _head_errors(
    network: Network,
    passed: Pass,
    z: Enclosure,
    y: Int[np.ndarray, " batch"],
    relative: float,
    tiny: float,
) -> tuple[Float[np.ndarray, "batch classes"], Float[np.ndarray, "batch classes"]]:
    last = network.nodes[-1].op
    assert isinstance(last, Dense)
    U, b, n = last.W, abs(last.shift()), last.W.shape[1]
    length, apart = lengths(U), distances(U)[y]
    size = Affine(sizes(z), 0.0) + passed.apart
    sums = relative * (size.constant[:, None] * length + b) + 8 * n * tiny
    steep = relative * size.slope * length
    constant = apart * passed.error.constant[:, None] + sums + np.take_along_axis(sums, y[:, None], 1)
    slope = apart * passed.error.slope + steep + steep[y][:, None]
    return constant * GENEROUS, slope * GENEROUS


def flow(proof: Proof, network: Network) -> tuple[int, Proof]:
    """The cut and the part of rule `layers` whose spans carry the errors.

    Raises:
        NotProvable: there is none.
    """
    options = proof.parts if proof.rule == "least" else (proof,)
    for option in options:
        if option.rule == "margins" and option.parts and option.parts[0].rule == "layers":
            return whole(option, "cut", 0, network.output), option.parts[0]
    raise NotProvable("A certificate of a computed pass needs a proof by `margins` over `layers`.")


def proven_spans(network: Network, layers: Proof, prove: Prove) -> dict[int, Span]:
    """The spans of a proof by `layers`, each with its proven constant."""
    found = spans_of(network, layers)
    return {b: Span(a, b, prove(Goal(between(network, a, b)), part)) for b, (a, part) in found.items()}


def remembering(proof: Proof) -> Prove:
    """`conclude` that finds the bound of a part of `proof` once, for accuracy asks for them again with every batch of images.

    Only of parts that stand at one place each, and of goals on every input: a part proves another bound of another goal.
    """
    places, left = Counter[int](), [proof]
    while left:
        part = left.pop()
        places[id(part)] += 1
        if places[id(part)] == 1:
            left.extend(part.parts)
    kept: dict[int, float] = {}

    def prove(goal: Goal, part: Proof) -> float:
        if places[id(part)] != 1 or goal.region is not None or goal.centred:
            return conclude(goal, part)
        if id(part) not in kept:
            kept[id(part)] = conclude(goal, part)
        return kept[id(part)]

    return prove
