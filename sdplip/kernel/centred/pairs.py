r"""The same network with sorted pairs and maxima as absolute values: $\min, \max = (a + b \mp |b - a|) / 2$."""

import numpy as np

from sdplip.kernel.maxima import without_maxima
from sdplip.kernel.reach.groups import without_mirrors
from sdplip.kernel.surgery import rewritten
from sdplip.network import Activation, Builder, Concatenate, Diagonal, Gather, Network, Sort, Sum
from sdplip.shapes import Int

LARGEST = 4
"""Groups of up to so many entries are sorted pair by pair; larger ones stay."""


def without_pairs(network: Network) -> Network:
    """The same function without maxima and small sorted groups."""
    network = without_maxima(without_mirrors(network))

    def change(builder: Builder, k: int, place: list[int]) -> int | None:
        node = network.made(k)
        if not isinstance(node.op, Sort) or node.op.groups.shape[1] > LARGEST:
            return None
        return _sorted(builder, place[node.inputs[0]], node.op)

    return rewritten(network, change)


def _sorted(builder: Builder, value: int, op: Sort) -> int:
    """Odd-even transposition: as many rounds as a group has entries sort it."""
    size = op.groups.shape[1]
    rounds = 1 if size == 2 else size
    for k in range(rounds if size > 1 else 0):
        firsts = range(k % 2, size - 1, 2)
        if len(firsts):
            pairs = np.concatenate([op.groups[:, i : i + 2] for i in firsts])
            value = _pairs(builder, value, pairs, op.length)
    return value


def _pairs(builder: Builder, value: int, pairs: Int[np.ndarray, "count 2"], length: int) -> int:
    a, b = pairs.T
    rest = np.setdiff1d(np.arange(length), pairs)
    left, right = builder.add(Gather(a, length), value), builder.add(Gather(b, length), value)
    half, n = Diagonal(np.full(len(a), 0.5)), len(a)
    middle = builder.add(half, builder.add(Sum((1, 1), n), left, right))
    apart = builder.add(half, builder.add(Sum((1, -1), n), right, left))
    far = builder.add(Activation("abs", n), apart)
    ends = [builder.add(Sum((1, sign), n), middle, far) for sign in (-1, 1)]
    if len(rest):
        ends.append(builder.add(Gather(rest, length), value))
    together = builder.add(Concatenate(tuple(len(v) for v in (a, b, rest) if len(v))), *ends)
    return builder.add(Gather(np.argsort(np.concatenate([a, b, rest])), length), together)
