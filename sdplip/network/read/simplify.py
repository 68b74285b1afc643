"""The same network with fewer nodes and operators: shifts become part of the linear maps in front of them, a map that is used
twice is one object, and one that is the transpose of another says so."""

from dataclasses import replace

import numpy as np

from sdplip.network.graph import INPUT, Network, Node
from sdplip.network.operators import AbstractLinear, Convolution, Dense, Diagonal, OnAxis, Transposed

SHIFTED = (Dense, OnAxis, Convolution, Transposed, Diagonal)
"""Operators that a shift behind them may become part of."""


def simplified(network: Network) -> Network:
    """No number changes."""
    return shared(shifted(network))


def shared(network: Network) -> Network:
    """Equal linear maps become one object (a module that is used twice), and the transpose of a map that stands before becomes
    `Transposed` of it (`F.linear(y, W.T)` behind `F.linear(x, W)`), so that proofs see that it is."""
    known: list[Dense | OnAxis | Convolution] = []
    nodes = list[Node]()
    for node in network.nodes:
        op = node.op
        if isinstance(op, Dense | OnAxis | Convolution):
            op = next((found for k in known if (found := _by(k, op)) is not None), op)
            if op is node.op:
                known.append(node.op)  # pyright: ignore[reportArgumentType]
        elif isinstance(op, Transposed) and isinstance(op.of, Dense | OnAxis | Convolution):
            of = next((k for k in known if _alike(k, op.of)), op.of)
            op = op if of is op.of else Transposed(of, op.b)
        nodes.append(node if op is node.op else replace(node, op=op))
    return Network(network.input_shape, tuple(nodes))


def _by(known: AbstractLinear, op: AbstractLinear) -> AbstractLinear | None:
    """The map `op` by a known one: that one itself, or its transpose."""
    if _alike(known, op) and _equal(known.b, op.b):
        return known
    if (
        isinstance(known, Dense | OnAxis)
        and type(op) is type(known)
        and _axes(known) == _axes(op)
        and known.W.shape == op.W.shape[::-1]  # pyright: ignore[reportAttributeAccessIssue]
        and known.W.size > 1
        and np.array_equal(known.W.T, op.W)  # pyright: ignore[reportAttributeAccessIssue]
    ):
        return Transposed(known, op.b)
    return None


def _alike(a: AbstractLinear, b: AbstractLinear) -> bool:
    """Whether two maps are equal but for their shifts."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Convolution):
        fields = ("image_size", "stride", "pads", "dilation", "groups", "circular")
        return all(getattr(a, f) == getattr(b, f) for f in fields) and _equal(a.K, b.K)  # pyright: ignore[reportAttributeAccessIssue]
    return _axes(a) == _axes(b) and _equal(a.W, b.W)  # pyright: ignore[reportAttributeAccessIssue]


def _axes(op: AbstractLinear) -> tuple[int, int]:
    return (op.before, op.after) if isinstance(op, OnAxis) else (1, 1)


def _equal(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or (a.shape == b.shape and np.array_equal(a, b))


def shifted(network: Network) -> Network:
    """A shift behind a linear map without one, which nothing else uses, becomes its own."""
    nodes: list[Node] = []
    place = {INPUT: INPUT}
    for k, node in enumerate(network.nodes, 1):
        inputs = tuple(place[i] for i in node.inputs)
        before = nodes[inputs[0] - 1] if len(inputs) == 1 and inputs[0] != INPUT else None
        if (
            before is not None
            and isinstance(before.op, SHIFTED)
            and before.op.b is None
            and isinstance(node.op, Diagonal)
            and not node.op.error
            and node.op.shift_error is None
            and bool(np.all(node.op.d == 1))
            and network.users[node.inputs[0]] == (k,)
        ):
            nodes[inputs[0] - 1] = replace(before, op=replace(before.op, b=node.op.b), shape=node.shape)
            place[k] = inputs[0]
            continue
        nodes.append(replace(node, inputs=inputs))
        place[k] = len(nodes)
    return Network(network.input_shape, tuple(nodes))
