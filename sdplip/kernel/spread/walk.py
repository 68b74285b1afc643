r"""All values of a network on a ball around an input: near its exact image at the centre, and how far from there, layer by layer.

Statement. With $\lVert x' - x \rVert \le r$ each value z obeys $|z'_i - z_i| \le$ `far[i]` and $\lVert z' - z \rVert \le$ `radius`. At the
input both are r. Behind a linear map A: $\lVert A_i \rVert \rho$, or $|A|$ times what the entries move; the radius is $\lVert A \rVert \rho$ or,
where the value in front comes from an activation, $\lVert A_J \rVert \rho$ with J the entries that move at all. Behind an activation
each entry moves at most by its largest difference quotient on the interval times what its argument does. A proven constant L of a
value gives $\rho \le L r$, the length of `far` is a bound too; the least counts. `narrow` then carries rows backward, with offsets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.matrix import Enclosure, lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import NotProvable
from sdplip.kernel.centred.ball import norm_above
from sdplip.kernel.reach import activations
from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.reach.relaxed import Relaxed
from sdplip.kernel.regions import Ball
from sdplip.kernel.spread.offset import Cap
from sdplip.network import (
    AbstractLinear,
    Activation,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Network,
    OnAxis,
    Sum,
)
from sdplip.shapes import Bool, Float

Vector = Float[np.ndarray, " n"]

Narrow = Callable[["Spread", int, Bool[np.ndarray, " n"]], tuple[Vector, Vector]]
"""`(spread, value, wanted)`: ends of a value, narrower where wanted."""
SMALL = 512
"""The norm of the moving columns of a matrix is proven anew where one side has at most so many entries."""


@dataclass(frozen=True, eq=False)
class Front:
    """What is known of a network before any ball: constants of its values, and lengths of the rows of its linear maps.

    Attributes:
        network: without maxima and sorted pairs.
        constants: of values, from the input; each is proven elsewhere.
    """

    network: Network
    constants: Mapping[int, float]
    linear: Mapping[int, Linear]
    rows: Mapping[int, Vector]

    @staticmethod
    def of(network: Network, constants: Mapping[int, float]) -> "Front":
        """Of a network of linear maps, sums and activations with one knot at 0.

        Raises:
            NotProvable: another operator.
        """
        for node in network.nodes:
            if why := _unfit(node.op, node.title):
                raise NotProvable(why)
        linear = {k: Linear(n.op) for k, n in enumerate(network.nodes, 1) if isinstance(n.op, AbstractLinear)}
        return Front(network, constants, linear, {k: _row_lengths(layer) for k, layer in linear.items()})


@dataclass(eq=False)
class Spread:
    """The ball around one input.

    Attributes:
        values: the image of the centre, with errors.
        low, high: ends of each value.
        radius: how far each value moves.
        caps: of each activation, where its arguments are.
        relaxed: likewise the lines of CROWN.
    """

    front: Front
    region: Ball
    values: list[Enclosure]
    low: list[Vector] = field(default_factory=list)
    high: list[Vector] = field(default_factory=list)
    radius: list[float] = field(default_factory=list)
    caps: dict[int, Cap] = field(default_factory=dict)
    relaxed: dict[int, Relaxed] = field(default_factory=dict)

    @property
    def size(self) -> list[Vector]:
        """At least the absolute value of each entry of each value."""
        return [np.maximum(abs(low), abs(high)) for low, high in zip(self.low, self.high, strict=True)]

    def walk(self, narrow: Narrow) -> None:
        """From the input to the output."""
        network = self.front.network
        self._keep(0, *self.region.ends(), self.region.radius)
        for k, node in enumerate(network.nodes, 1):
            op, inputs = node.op, node.inputs
            if isinstance(op, Activation):
                self._activation(k, op, inputs[0], narrow)
            elif isinstance(op, AbstractLinear):
                self._linear(k, op, inputs[0])
            else:
                assert isinstance(op, Sum | Concatenate), "`Front.of` has refused others"
                self._together(k, op, inputs)

    def moved(self, k: int) -> Vector:
        """How far each entry of a value moves from its exact value at the centre."""
        mid, rad = self.values[k].mid[0], self.values[k].radius()[0]
        away = np.maximum(self.high[k] - mid, mid - self.low[k])
        return (away + rad) * (1 + 4 * UNIT) + 4 * TINY

    def _keep(self, k: int, low: Vector, high: Vector, radius: float) -> None:
        mid, rad = self.values[k].mid[0], self.values[k].radius()[0]
        pad = (
            (radius + rad) * (1 + 4 * UNIT) + 4 * UNIT * abs(mid) + 4 * TINY
        )  # no entry moves farther than all
        low, high = np.fmax(low, mid - pad), np.fmin(high, mid + pad)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise NotProvable("Values on the ball are beyond the range of doubles. Choose a smaller radius.")
        self.low.append(np.minimum(low, high))
        self.high.append(np.maximum(low, high))
        known = self.front.constants.get(k, np.inf) * self.region.radius * (1 + 4 * UNIT) + TINY
        self.radius.append(float(np.fmin(np.fmin(radius, known), lengths(self.moved(k)[None])[0])))

    def _linear(self, k: int, op: AbstractLinear, i: int) -> None:
        layer, radius = self.front.linear[k], self.radius[i]
        low, high = layer.interval(self.low[i], self.high[i])
        rows = self.front.rows[k]
        mid, rad = self.values[k].mid[0], self.values[k].radius()[0]
        far = (rows * radius + rad) * GENEROUS + 4 * TINY
        far = far + 4 * UNIT * (abs(mid) + far)
        norm = float(np.fmin(lengths(rows[None])[0], self._norm(op, i))) * (1 + 4 * UNIT)
        self._keep(k, np.fmax(low, mid - far), np.fmin(high, mid + far), norm * radius * GENEROUS + TINY)

    def _norm(self, op: AbstractLinear, i: int) -> float:
        """The norm of the columns that move."""
        if i in self.relaxed and isinstance(op, Dense) and min(op.W.shape) <= SMALL:
            moving = self.high[i] > self.low[i]
            return norm_above(op.W[:, moving]) if moving.any() else 0.0
        return np.inf

    def _together(self, k: int, op: Sum | Concatenate, inputs: tuple[int, ...]) -> None:
        if isinstance(op, Concatenate):
            low, high = (np.concatenate([side[i] for i in inputs]) for side in (self.low, self.high))
            self._keep(k, low, high, float(sum(self.radius[i] for i in inputs)) * GENEROUS)
            return
        signs = op.signs
        lows = [self.low[i] if s > 0 else -self.high[i] for s, i in zip(signs, inputs, strict=True)]
        highs = [self.high[i] if s > 0 else -self.low[i] for s, i in zip(signs, inputs, strict=True)]
        pad = (
            gamma(len(inputs) + 4) * np.sum(np.maximum(np.abs(lows), np.abs(highs)), 0)
            + 4 * len(inputs) * TINY
        )
        radius = float(sum(self.radius[i] for i in inputs)) * GENEROUS
        self._keep(k, np.sum(lows, 0) - pad, np.sum(highs, 0) + pad, radius)

    def _activation(self, k: int, op: Activation, i: int, narrow: Narrow) -> None:
        self.low[i], self.high[i] = narrow(self, i, activations.bends(op, self.low[i], self.high[i]))
        self.radius[i] = float(np.fmin(self.radius[i], lengths(self.moved(i)[None])[0]))
        here, found = activations.on(op, self.low[i], self.high[i])
        steep = np.maximum(abs(here.alpha), abs(here.beta))
        far = lengths((steep * self.moved(i) * GENEROUS + TINY * (steep > 0))[None])[0]
        self.relaxed[k] = found
        radius = float(np.fmin(steep.max() * self.radius[i] * GENEROUS + TINY, far))
        self._keep(k, found.least, found.most, radius)
        mid, rad = self.values[i].mid[0], self.values[i].radius()[0]
        ball = (
            float(self.radius[i] + lengths(rad[None])[0]) * GENEROUS
        )  # around the double, not the exact image
        left, right = slopes_of(op)
        self.caps[k] = Cap.of(mid, ball, self.low[i], self.high[i], left, right)

    def cut(self, k: int, at: int, on: bool) -> "Spread":
        """The part of it where argument `at` of activation k is not negative, or not positive."""
        return replace(self, caps={**self.caps, k: self.caps[k].cut(at, on)})


def slopes_of(op: Activation) -> tuple[Vector, Vector]:
    """The slopes below and above 0 of an activation with no other knot."""
    pieces = FUNCTIONS[op.name].pieces
    assert pieces is not None, "`Front.of` has refused others"
    _, slopes, _ = pieces(**op.parameters)
    left, right = (np.zeros(op.length) + slope for slope in slopes)
    return left, right


def _unfit(op: object, title: str) -> str:
    """Why values behind an operator are not followed; "" where they are."""
    if isinstance(op, AbstractLinear | Sum | Concatenate):
        return ""
    pieces = FUNCTIONS[op.name].pieces if isinstance(op, Activation) and op.name else None
    if isinstance(op, Activation) and pieces is not None:
        knots, slopes, first = pieces(**op.parameters)
        if len(knots) == 1 and len(slopes) == 2 and not np.any(knots[0]) and not np.any(first):
            return ""
    return f"Offsets are known of ReLU, leaky ReLU and absolute values, not of {title}."


def _row_lengths(layer: Linear) -> Vector:
    """At least the length of each row of a linear map."""
    op = layer.op
    most = 1 + op.error
    if isinstance(op, Dense):
        return lengths(op.W) * most * GENEROUS
    if isinstance(op, Convolution):
        found = lengths(op.K.reshape(len(op.K), -1)) * most * GENEROUS
        return np.repeat(found, op.outputs // len(found))
    if isinstance(op, OnAxis):
        return np.tile(np.repeat(lengths(op.W) * most * GENEROUS, op.after), op.before)
    if isinstance(op, Diagonal):
        return abs(op.d) * most * GENEROUS
    if isinstance(op, Gather):
        return np.ones(op.outputs)
    return layer.sums * most * GENEROUS
