r"""A network cut at its maxima over windows: the product of the parts' constants bounds the whole.

The maximum over a window is nonexpansive from the maximum norm of its window, hence
$\lVert \Delta z \rVert^2 \le \nu \lVert \Delta y \rVert^2$ where no pixel lies in more than $\nu$ windows.
Cutting is sound and loses what a joint inequality could gain.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.networks.network import LINEAR, Activation, Layer, Network
from sdplip.networks.pooling import MaxPool


@dataclass(frozen=True, eq=False)
class Segments:
    r"""The parts between the maxima, first one first, and $\prod \nu$ of the maxima between them.

    Activations that stand alone between two maxima are in no part; their slopes are `factors`, largest absolute values.
    """

    parts: tuple[Network, ...]
    overlap: int
    factors: tuple[float, ...]


def segments(network: Network) -> Segments:
    """The parts of `network`; the network itself where it takes no maxima."""
    groups, overlap = [list[Layer]()], 1
    for layer in network.layers:
        if isinstance(layer, MaxPool):
            groups.append([])
            overlap *= layer.overlap
        else:
            groups[-1].append(layer)
    linear = [group for group in groups if any(isinstance(layer, LINEAR) for layer in group)]
    alone = [layer for group in groups if group not in linear for layer in group]
    factors = tuple(
        float(np.maximum(abs(layer.alpha), abs(layer.beta)).max())
        for layer in alone
        if isinstance(layer, Activation)
    )
    return Segments(tuple(Network(tuple(group)) for group in linear), overlap, factors)
