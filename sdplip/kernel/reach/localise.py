r"""The network that a network is on a region: its activations with the slopes that occur there, groups in their order, maxima
without entries that never win.

On the region both make the same increments. Beyond it the local one is another network, known by its slopes only: its
activations have no names.
"""

import numpy as np

from sdplip.kernel.reach.walk import Lessened, Reached, Sorted, reached
from sdplip.kernel.regions import Region
from sdplip.kernel.surgery import rewritten
from sdplip.network import Activation, Builder, Diagonal, Gather, Maximum, Network, Sort
from sdplip.shapes import Int


def localise(network: Network, region: Region) -> Network:
    """The network with what occurs on the region.

    Raises:
        NotProvable: a region of another number of coordinates.
    """
    return local(network, reached(network, region, outputs=False))


def local(network: Network, found: Reached) -> Network:
    """The network of what was found of `network`."""

    def change(builder: Builder, k: int, place: list[int]) -> int | None:
        node, op = network.made(k), found.ops[k - 1]
        inputs = [place[i] for i in node.inputs]
        if isinstance(op, Sorted):
            return _sorted(builder, inputs[0], op)
        if isinstance(op, Lessened):
            return _lessened(builder, inputs[0], op)
        if isinstance(op, Maximum):
            return _maxima(builder, inputs[0], op)
        if isinstance(op, Activation) and ((op.alpha == 1) & (op.beta == 1)).all():
            return inputs[0]  # the identity, up to constants
        return builder.add(op, *inputs, shape=node.shape, name=node.name)

    return rewritten(network, change)


def _sorted(builder: Builder, value: int, op: Sorted) -> int:
    n = len(op.place)
    if (op.place != np.arange(n)).any():
        value = builder.add(Gather(op.place, n), value)
    return builder.add(Sort(op.loose, n), value) if len(op.loose) else value


def _lessened(builder: Builder, value: int, found: Lessened) -> int:
    """With increments of at most the share of its constant: some function of the same constant, times that."""
    factors = np.ones(found.op.length)
    factors[found.op.groups] = found.share[:, None]
    return builder.add(Diagonal(factors), builder.add(found.op, value))


def _maxima(builder: Builder, value: int, op: Maximum) -> int:
    """Windows of one entry are read where all are, so that nothing but an index map is left; else they are maxima still."""
    rest = (op.index >= 0).sum(1)
    if (rest == 1).all():
        return builder.add(Gather(op.index.max(1), op.length), value)
    return builder.add(Maximum(_short(op.index), op.length), value)


def _short(index: Int[np.ndarray, "m size"]) -> Int[np.ndarray, "m size"]:
    """The same windows with their entries in front and no column of -1 alone."""
    index = -np.sort(-index, axis=1)
    return index[:, : int((index >= 0).sum(1).max())]
