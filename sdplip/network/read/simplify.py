"""The same network with fewer nodes: shifts become part of the linear maps in front of them."""

from dataclasses import replace

import numpy as np

from sdplip.network.graph import INPUT, Network, Node
from sdplip.network.operators import Convolution, Dense, Diagonal, OnAxis, Transposed

SHIFTED = (Dense, OnAxis, Convolution, Transposed, Diagonal)
"""Operators that a shift behind them may become part of."""


def simplified(network: Network) -> Network:
    """A shift behind a linear map without one, which nothing else uses, becomes its own: no number changes."""
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
