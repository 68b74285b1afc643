"""A network with fewer nodes that makes the same values: shifts go into the linear map before them."""

from dataclasses import replace

import numpy as np

from sdplip.network.graph import INPUT, Network, Node
from sdplip.network.operators import Convolution, Dense, Diagonal, OnAxis, Transposed

WITH_SHIFT = (Dense, OnAxis, Convolution, Transposed, Diagonal)


def tidied(network: Network) -> Network:
    """The network whose pure shifts behind a linear map without shift, which nothing else uses, are its shift.

    Nothing is computed, so nothing is rounded.
    """
    place, nodes = {INPUT: INPUT}, list[Node]()
    for k, node in enumerate(network.nodes, 1):
        node = replace(node, inputs=tuple(place[i] for i in node.inputs))
        b = _shift(node)
        before = nodes[node.inputs[0] - 1] if b is not None and node.inputs[0] != INPUT else None
        alone = len(network.users[network.nodes[k - 1].inputs[0]]) == 1
        if before is not None and alone and isinstance(before.op, WITH_SHIFT) and before.op.b is None:
            nodes[node.inputs[0] - 1] = replace(before, op=replace(before.op, b=b), shape=node.shape)
            place[k] = node.inputs[0]
            continue
        nodes.append(node)
        place[k] = len(nodes)
    return Network(network.input_shape, tuple(nodes))


def _shift(node: Node) -> np.ndarray | None:
    """The shift of a node that does nothing else."""
    op = node.op
    if isinstance(op, Diagonal) and not op.error and op.shift_error is None and (op.d == 1).all():
        return op.b
    return None
