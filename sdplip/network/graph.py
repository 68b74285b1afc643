r"""A network as data: a directed graph without circles whose nodes say what they are and of which values they are made.

Values are numbered: 0 is the input, k is what node k - 1 makes. All values are flat vectors; `shape` says how a person would see
one sample (`(features,)` or `(channels, *pixels)`), and no operator depends on it. Chains, residual networks, several branches
are shapes of this one thing, not classes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np

from sdplip.errors import InvalidProblem, InvalidWeight
from sdplip.network.operators import AbstractLinear, Activation, Concatenate, Dense, Operator, Sum
from sdplip.shapes import Float, short

Shape = tuple[int, ...]
INPUT = 0
"""The number of the input value."""


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes:
        op: what is done.
        inputs: numbers of the values that it takes.
        shape: of what it makes, for people and for readers.
        name: where it stands in the file or module that it was read from.
    """

    op: Operator
    inputs: tuple[int, ...]
    shape: Shape
    name: str = ""

    __repr__ = short

    @property
    def title(self) -> str:
        """For messages: its kind, and its name where it has one."""
        kind = self.op.name if isinstance(self.op, Activation) and self.op.name else type(self.op).__name__
        return f"{kind} `{self.name}`" if self.name else kind


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in an order in which each takes earlier values only; the last node makes the output. Every node is used.

    Attributes:
        input_shape: of one sample.
        nodes: at least one.

    Raises:
        InvalidWeight: lengths that do not fit, values that do not exist, a node that nothing uses.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]

    __repr__ = short

    def __post_init__(self) -> None:
        if not self.nodes:
            raise InvalidWeight("A network needs at least one layer.")
        used = set[int]()
        for k, node in enumerate(self.nodes, 1):
            wanted, where = takes(node.op), f"Layer {k}, a {node.title},"
            if len(wanted) != len(node.inputs) or any(not 0 <= i < k for i in node.inputs):
                raise InvalidWeight(
                    f"{where} takes {len(wanted)} earlier values, but is given {node.inputs}."
                )
            for length, i in zip(wanted, node.inputs, strict=True):
                if length != self.length(i):
                    raise InvalidWeight(
                        f"{where} takes {length} numbers, but is given {self.length(i)}. Weights are (out, in), first layer"
                        " first; transpose those that are (in, out)."
                    )
            if prod(node.shape) != node.op.outputs:
                raise InvalidWeight(f"{where} makes {node.op.outputs} numbers, not {node.shape}.")
            used |= set(node.inputs)
        if missing := set(range(len(self.nodes))) - used - {INPUT}:
            raise InvalidWeight(f"Nothing uses what layer {min(missing)} of the network makes. Leave it out.")

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.nodes[-1].op.outputs

    @property
    def output(self) -> int:
        """The number of the output value."""
        return len(self.nodes)

    def length(self, value: int) -> int:
        """How many numbers a value has."""
        return self.inputs if value == INPUT else self.nodes[value - 1].op.outputs

    def shape(self, value: int) -> Shape:
        """How a person sees a value."""
        return self.input_shape if value == INPUT else self.nodes[value - 1].shape

    def made(self, value: int) -> Node:
        """The node that makes a value."""
        assert value != INPUT, "the input is not made"
        return self.nodes[value - 1]

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """Of each value, the values that are made of it."""
        found: list[list[int]] = [[] for _ in range(self.output + 1)]
        for k, node in enumerate(self.nodes, 1):
            for i in dict.fromkeys(node.inputs):
                found[i].append(k)
        return tuple(map(tuple, found))

    @cached_property
    def cuts(self) -> tuple[int, ...]:
        """The values that everything passes through, from the input to the output, in order."""
        found, reach = [INPUT], 0
        for k in range(self.output):
            if k == reach and k != INPUT:
                found.append(k)
            reach = max(reach, *self.users[k]) if self.users[k] else reach
        return (*found, self.output)

    def between(self, start: int, end: int) -> "Network":
        """The part that makes value `end` of value `start`.

        Raises:
            InvalidProblem: `end` depends on something else too.
        """
        return part(self, start, end)

    def values(self, x: Float[np.ndarray, "*batch inputs"]) -> Iterator[Float[np.ndarray, "*batch n"]]:
        """All values at inputs `x`, in floating point."""
        kept: list[np.ndarray] = [np.asarray(x, np.float64)]
        yield kept[0]
        last = [max(users, default=0) for users in self.users]
        for k, node in enumerate(self.nodes, 1):
            found = apply(node.op, [kept[i] for i in node.inputs])
            kept.append(found)
            for i in node.inputs:
                if last[i] == k:
                    kept[i] = np.zeros(0)
            yield found

    def __call__(self, x: Float[np.ndarray, "*batch inputs"]) -> Float[np.ndarray, "*batch outputs"]:
        """The outputs at inputs `x` (flat, leading batch axes), in double precision."""
        *_, last = self.values(x)
        return last


def takes(op: Operator) -> tuple[int, ...]:
    """Lengths of the values that an operator takes."""
    if isinstance(op, Sum):
        return (op.length,) * len(op.signs)
    return op.lengths if isinstance(op, Concatenate) else (op.inputs,)


def apply(op: Operator, values: Sequence[Float[np.ndarray, "*batch n"]]) -> Float[np.ndarray, "*batch m"]:
    """What an operator makes of values, in floating point."""
    if isinstance(op, Sum):
        return sum(sign * value for sign, value in zip(op.signs, values, strict=True))  # type: ignore[return-value]
    if isinstance(op, Concatenate):
        return np.concatenate(values, -1)
    if isinstance(op, AbstractLinear):
        y = op.apply(values[0])
        return y if op.b is None else y + op.b
    return op.value(values[0])


def is_linear(op: Operator) -> bool:
    """Whether the operator is affine in its values: linear maps, sums, values side by side, activations of one slope."""
    return isinstance(op, AbstractLinear | Sum | Concatenate) or (
        isinstance(op, Activation) and bool((op.alpha == op.beta).all())
    )


def part(network: Network, start: int, end: int) -> Network:
    """See `Network.between`."""
    wanted, place = {end}, {start: INPUT}
    for k in range(end, start, -1):
        if k in wanted:
            wanted |= set(network.made(k).inputs)
    if not start < end or min(wanted) < start:
        raise InvalidProblem(f"Value {end} of the network is not made of value {start} alone.")
    nodes = list[Node]()
    for k in sorted(wanted - {start}):
        node = network.made(k)
        nodes.append(replace(node, inputs=tuple(place[i] for i in node.inputs)))
        place[k] = len(nodes)
    return Network(network.shape(start), tuple(nodes))


def followed(network: Network, *ops: Operator) -> Network:
    """The network with further operators of one value behind it."""
    nodes = list(network.nodes)
    for op in ops:
        nodes.append(Node(op, (len(nodes),), (op.outputs,)))
    return Network(network.input_shape, tuple(nodes))


def chain(ops: Iterable[Operator], input_shape: Shape | None = None) -> Network:
    """The network of operators of one value, one after the other.

    Raises:
        InvalidWeight: lengths that do not fit.
    """
    ops = tuple(ops)
    if not ops:
        raise InvalidWeight("A network needs at least one layer.")
    nodes = [Node(op, (k,), (op.outputs,)) for k, op in enumerate(ops)]
    return Network(input_shape or takes(ops[0]), tuple(nodes))


@dataclass(eq=False)
class Builder:
    """Builds a network node by node; what the output does not need is left out at the end."""

    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)

    def add(self, op: Operator, *inputs: int, shape: Shape | None = None, name: str = "") -> int:
        """Adds a node and returns the number of its value. An identity that changes nothing should not be added."""
        self.nodes.append(Node(op, inputs, (op.outputs,) if shape is None else tuple(shape), name))
        return len(self.nodes)

    def shape(self, value: int) -> Shape:
        """Of a value so far."""
        return self.input_shape if value == INPUT else self.nodes[value - 1].shape

    def reshape(self, value: int, shape: Shape) -> None:
        """Says how a person sees a value: the numbers stay where they are. Readers keep shapes beside values where one value
        is seen in several."""
        assert prod(shape) == prod(self.shape(value)), "a reshape keeps the numbers"
        if value == INPUT:
            self.input_shape = shape
        else:
            self.nodes[value - 1] = replace(self.nodes[value - 1], shape=tuple(shape))

    def finish(self, output: int) -> Network:
        """The network that makes value `output`, without what that does not need.

        Raises:
            InvalidWeight: the output is the input itself, or lengths that do not fit.
        """
        if output == INPUT:
            n = prod(self.input_shape)
            return Network(
                self.input_shape, (Node(Dense(np.eye(n)), (INPUT,), self.input_shape, "identity"),)
            )
        wanted = {output}
        for k in range(output, 0, -1):
            if k in wanted:
                wanted |= set(self.nodes[k - 1].inputs)
        place, nodes = {INPUT: INPUT}, list[Node]()
        for k in sorted(wanted - {INPUT}):
            node = self.nodes[k - 1]
            nodes.append(replace(node, inputs=tuple(place[i] for i in node.inputs)))
            place[k] = len(nodes)
        return Network(self.input_shape, tuple(nodes))
