"""Networks made of parts of a network: what rules hand to their sub-proofs. Functions stay the same unless said otherwise."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sdplip.errors import InvalidProblem, NotProvable
from sdplip.network import Builder, Dense, Network, Node
from sdplip.shapes import Float


def between(network: Network, start: int, end: int) -> Network:
    """From one value to another.

    Raises:
        NotProvable: not everything that makes `end` passes through `start`.
    """
    try:
        return network.between(start, end)
    except InvalidProblem as error:
        raise NotProvable(str(error)) from None


def behind(network: Network, value: int, R: Float[np.ndarray, "m k"]) -> Network:
    """The network that begins with R, in front of what stands behind a value through which everything passes."""
    nodes = [Node(Dense(R), (0,), (len(R),))]
    for node in network.nodes[value:]:
        nodes.append(replace(node, inputs=tuple(i - value + 1 for i in node.inputs)))
    return Network((R.shape[1],), tuple(nodes))


def rewritten(network: Network, change: Callable[[Builder, int, list[int]], int | None]) -> Network:
    """Built anew: `change(builder, k, place)` adds what stands for node k and gives its value, or None where the node stays.

    `place` has the new number of every value before k.
    """
    builder, place = Builder(network.input_shape), [0]
    for k, node in enumerate(network.nodes, 1):
        made = change(builder, k, place)
        if made is None:
            inputs = (place[i] for i in node.inputs)
            made = builder.add(node.op, *inputs, shape=node.shape, name=node.name)
        place.append(made)
    return builder.finish(place[-1])
