r"""Piecewise linear networks as hinges: $v_i = \max(0, y_i)$, with $y_i$ and the output affine in the input and earlier hinges.

A function with knots $t_k$ and slopes $s_0, \dots, s_K$ is $\varphi(t_1) + s_0 (z - t_1) + \sum_k (s_k - s_{k-1}) \max(0, z - t_k)$; of two
sorted entries the larger is $b + \max(0, a - b)$ and the smaller $a - \max(0, a - b)$, and a group of more is sorted pair by pair. So ReLU,
leaky ReLU, absolute values, clipping, MaxMin, GroupSort and maxima over windows are all hinges, and equal the network they are made of.

A *pattern* says of some hinges which side they are on: 1, $v_i = y_i$ where $y_i \ge 0$; 0, $v_i = 0$ where $y_i \le 0$. The others are
open, -1. With a pattern, `reduced` expresses every $y_i$ and the output by the input and the open hinges.

Rows carry their errors, and have a column for each input, each hinge, and the constant.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.linear import step
from sdplip.kernel.maxima import without_maxima
from sdplip.kernel.subnormal import holds_subnormals
from sdplip.network import (
    AbstractLinear,
    Activation,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Network,
    Node,
    OnAxis,
    Sort,
    Sum,
)
from sdplip.shapes import Bool, Float, Int

Vector = Float[np.ndarray, " n"]
Patterns = Int[np.ndarray, "batch hinges"]
MOST = 1024
"""Inputs and hinges of the largest network that is expanded."""
ZERO = np.zeros((1, 1))


@dataclass(frozen=True, eq=False)
class Hinges:
    """A piecewise linear network.

    Attributes:
        inputs: length of x.
        y: arguments of the hinges, `(hinges, inputs + hinges + 1)`; row i uses earlier hinges only.
        out: the output, `(outputs, inputs + hinges + 1)`.
        layers: numbers of the hinges of each layer, in order; those of one layer do not use each other.
        free: whether each hinge has a constant of its own, so that some biases let it take either side, whatever the others do.
    """

    inputs: int
    y: Enclosure
    out: Enclosure
    layers: tuple[Int[np.ndarray, " some"], ...]
    free: bool

    @property
    def order(self) -> int:
        """Number of hinges."""
        return len(self.y)

    @cached_property
    def depth(self) -> Int[np.ndarray, " hinges"]:
        """The layer of each hinge, from 0."""
        return depths(self.layers)


def depths(layers: tuple[Int[np.ndarray, " some"], ...]) -> Int[np.ndarray, " hinges"]:
    """The layer of each hinge, from 0."""
    found = np.zeros(sum(map(len, layers)), int)
    for k, layer in enumerate(layers):
        found[layer] = k
    return found


def hinged(network: Network) -> Hinges:
    """The network as hinges.

    Raises:
        NotProvable: a function that is not piecewise linear, or more than `MOST` inputs and hinges.
    """
    network = without_maxima(network)
    order = sum(_hinges(node) for node in network.nodes)
    if network.inputs + order > MOST:
        raise NotProvable(
            f"{network.inputs} inputs and {order} hinges are more than the {MOST} of which patterns are followed."
            " Use 'lipsdp-neuron' or 'pairs'."
        )
    made = _Made(network.inputs, order)
    rows = {0: Enclosure(np.eye(network.inputs, made.columns), ZERO)}
    try:
        for k, node in enumerate(network.nodes, 1):
            rows[k] = made.behind(node, [rows[i] for i in node.inputs])
    except InvalidProblem as error:
        raise NotProvable(str(error)) from None
    return made.finish(rows[network.output], _own_constants(network))


def why_not(network: Network) -> str | None:
    """Why a network is not made of hinges; None where it is."""
    try:
        order = sum(_hinges(node) for node in without_maxima(network).nodes)
    except NotProvable as error:
        return str(error)
    if network.inputs + order > MOST:
        return f"{network.inputs} inputs and {order} hinges are more than the {MOST} of which patterns are followed"
    return None


def reduced(hinges: Hinges, patterns: Patterns) -> tuple[Enclosure, Enclosure]:
    """`y` and `out` of each pattern, `(batch, ..., inputs + hinges + 1)`: 0 in the columns of hinges that it decides."""
    n, columns, count = hinges.inputs, hinges.y.shape[1], len(patterns)
    mid = np.broadcast_to(np.eye(columns), (count, columns, columns)).copy()
    rad, read = (
        np.zeros_like(mid),
        mid != 0,
    )  # `read`: what a row depends on at all; else its entry is 0 without an error
    y_mid, y_rad = np.zeros((count, hinges.order, columns)), np.zeros((count, hinges.order, columns))
    for layer in hinges.layers:
        rows = hinges.y[layer]
        found, there = rows @ Enclosure(mid, rad), _nonzero(rows) @ read
        y_mid[:, layer], y_rad[:, layer] = found.mid * there, np.where(there, found.radius(), 0.0)
        on, decided = (patterns[:, layer, None] == 1), (patterns[:, layer, None] >= 0)
        at = n + layer
        mid[:, at] = np.where(on, y_mid[:, layer], np.where(decided, 0.0, mid[:, at]))
        rad[:, at] = np.where(on, y_rad[:, layer], 0.0)
        read[:, at] = np.where(on, there, read[:, at] & ~decided)
    found, there = hinges.out @ Enclosure(mid, rad), _nonzero(hinges.out) @ read
    return Enclosure(y_mid, y_rad), Enclosure(found.mid * there, np.where(there, found.radius(), 0.0))


def _nonzero(M: Enclosure) -> Bool[np.ndarray, "m columns"]:
    """Entries that may differ from 0."""
    return (M.mid != 0) | (M.radius() != 0)


def open_first(
    inputs: int, patterns: Patterns
) -> tuple[Int[np.ndarray, "batch some"], Int[np.ndarray, "batch columns"]]:
    """The open hinges of each pattern, and decided ones so that all have as many; the columns of the inputs and of these hinges."""
    most = int((patterns < 0).sum(1).max(initial=0))
    at = np.argsort(patterns >= 0, axis=1, kind="stable")[:, :most]
    front = np.broadcast_to(np.arange(inputs), (len(patterns), inputs))
    return at, np.concatenate([front, inputs + at], 1)


def coarse(
    depth: Int[np.ndarray, " hinges"], patterns: Patterns, base: Int[np.ndarray, " batch"]
) -> Patterns:
    """The patterns that forget which hinges of the first `base` layers are on, but keep those that are off."""
    return np.where((patterns == 1) & (depth < base[:, None]), -1, patterns)


def _hinges(node: Node) -> int:
    """How many hinges a node is."""
    op = node.op
    if isinstance(op, Activation):
        return op.length * len(_pieces(op)[0])
    if isinstance(op, Sort):
        return len(op.groups) * len(comparisons(op.groups.shape[1]))
    if not isinstance(op, AbstractLinear | Sum | Concatenate):
        raise NotProvable(f"A {node.title} is not piecewise linear.")
    return 0


def comparisons(size: int) -> list[tuple[int, int]]:
    """Pairs of places, the smaller entry to the first, that sort a group of that size one after the other."""
    return [(k, k + 1) for last in range(size - 1, 0, -1) for k in range(last)]


def _read(op: AbstractLinear, S: Enclosure, image: Enclosure) -> Enclosure:
    """The image of rows with no errors in columns that they do not depend on at all."""
    if holds_subnormals(op):
        return image
    with np.errstate(over="ignore"):  # so large that no product vanishes
        there = op.absolute().apply(np.where(_nonzero(S), 2.0**900, 0.0).T).T > 0
    return Enclosure(image.mid * there, np.where(there, image.radius(), 0.0))


def _pieces(op: Activation) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, "pieces n"], Vector]:
    """Knots at which the slope of some entry changes, slopes, and the value at the first knot."""
    pieces = FUNCTIONS[op.name].pieces if op.name else None
    if pieces is None:
        raise NotProvable(
            f"{op.name or 'An activation of which only the slopes are known'} is not piecewise linear."
        )
    knots, slopes, first = pieces(**op.parameters)
    every = np.zeros(op.length)
    knots = np.array([every + knot for knot in knots]).reshape(-1, op.length)
    slopes = np.array([every + slope for slope in slopes])
    bends = (slopes[1:] != slopes[:-1]).any(1)
    if len(knots) and not bends.any():  # a line
        return knots[:0], np.stack([slopes[0], knots[0]]), every + first
    return knots, slopes, every + first


def _own_constants(network: Network) -> bool:
    """Whether every nonlinear node alone reads a matrix or convolution, and asks one question of each of its entries."""
    for k, node in enumerate(network.nodes, 1):
        if isinstance(node.op, AbstractLinear | Sum | Concatenate):
            continue
        (value,) = node.inputs
        source = network.made(value).op if value else None
        alone = isinstance(source, Dense | Convolution | OnAxis) and network.users[value] == (k,)
        single = (
            node.op.groups.shape[1] == 2 if isinstance(node.op, Sort) else _hinges(node) <= node.op.outputs
        )
        if not (alone and single):
            return False
    return True


@dataclass(eq=False)
class _Made:
    """The hinges so far."""

    inputs: int
    order: int
    y: list[Enclosure] = field(default_factory=list)
    layers: list[Int[np.ndarray, " some"]] = field(default_factory=list)
    count: int = 0

    @property
    def columns(self) -> int:
        return self.inputs + self.order + 1

    def behind(self, node: Node, rows: list[Enclosure]) -> Enclosure:
        op = node.op
        if isinstance(op, AbstractLinear):
            return self._shifted(op, _read(op, rows[0], step(node, rows)))
        if isinstance(op, Sum | Concatenate):
            return step(node, rows)
        if isinstance(op, Activation):
            return self._bent(op, rows[0])
        assert isinstance(op, Sort), "`_hinges` has refused others"
        return self._sorted(op, rows[0])

    def finish(self, out: Enclosure, free: bool) -> Hinges:
        nothing = np.zeros((0, self.columns))
        mid = np.concatenate([nothing, *(y.mid for y in self.y)])
        rad = np.concatenate([nothing, *(y.radius() for y in self.y)])
        return Hinges(self.inputs, Enclosure(mid, rad), out, tuple(self.layers), free)

    def _constant(self, c: Enclosure) -> Enclosure:
        """Rows that hold constants."""
        mid, rad = np.zeros((len(c), self.columns)), np.zeros((len(c), self.columns))
        mid[:, -1], rad[:, -1] = c.mid, c.radius()
        return Enclosure(mid, rad)

    def _shifted(self, op: AbstractLinear, S: Enclosure) -> Enclosure:
        error = op.shift_error if isinstance(op, Diagonal) else None
        if op.b is None and error is None:
            return S
        return S + self._constant(
            enclose(op.shift(), 0.0 if error is None else np.asarray(error, np.float64))
        )

    def _hinge(self, y: Enclosure) -> Enclosure:
        """New hinges of these arguments, one layer."""
        at = self.count + np.arange(len(y))
        self.y.append(y)
        self.layers.append(at)
        self.count += len(y)
        mid = np.zeros(y.shape)
        mid[np.arange(len(y)), self.inputs + at] = 1.0
        return Enclosure(mid, ZERO)

    def _bent(self, op: Activation, S: Enclosure) -> Enclosure:
        knots, slopes, first = _pieces(op)
        if not len(knots):
            slope, knot = slopes
            return (S - self._constant(Enclosure.exact(knot))) * slope[:, None] + self._constant(
                Enclosure.exact(first)
            )
        moved = [S - self._constant(Enclosure.exact(knot)) if knot.any() else S for knot in knots]
        found = moved[0] * slopes[0][:, None]
        if first.any():
            found = found + self._constant(Enclosure.exact(first))
        for k, z in enumerate(moved):
            jump = Enclosure.exact(slopes[k + 1]) - slopes[k]
            found = found + self._hinge(z) * jump[:, None]
        return found

    def _sorted(self, op: Sort, S: Enclosure) -> Enclosure:
        mid, rad = S.mid.copy(), np.array(S.radius())
        for a, b in comparisons(op.groups.shape[1]):
            a, b = op.groups[:, a], op.groups[:, b]
            low, high = Enclosure(mid[a], rad[a]), Enclosure(mid[b], rad[b])
            more = self._hinge(low - high)
            low, high = low - more, high + more
            mid[a], rad[a], mid[b], rad[b] = low.mid, low.radius(), high.mid, high.radius()
        return Enclosure(mid, rad)
