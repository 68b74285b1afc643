r"""Maxima over windows as sorted pairs: the same network without them.

$\max(a, b, c, d) = \max(\max(a, b), \max(c, d))$, and the maximum of a pair is the second of the sorted pair. Pixels of
several windows are copied first. A nondecreasing function commutes with maxima, $\max_k \varphi(u_k) = \varphi(\max_k
u_k)$, so it stands behind them and acts on fewer entries: its slopes there lie between the least and the largest of its
window, because the maximum passes, from one input to another, only through values that some entry of the window takes
(regions are convex)."""

from dataclasses import replace

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.kernel.surgery import rewritten
from sdplip.network import Activation, Builder, Gather, Maximum, Network, Sort
from sdplip.shapes import Int

Windows = list[Int[np.ndarray, " size"]]


def without_maxima(network: Network) -> Network:
    """The same function without `Maximum` nodes; the network itself where it has none."""

    def change(builder: Builder, k: int, place: list[int]) -> int | None:
        op = network.made(k).op
        if not isinstance(op, Maximum):
            return None
        value, before = _in_front(network, k)
        found = _maxima(builder, place[value], op)
        return found if before is None else builder.add(_behind(before, op), found, name=network.made(k).name)

    return rewritten(network, change) if any(isinstance(n.op, Maximum) for n in network.nodes) else network


def maxima_first(network: Network) -> Network:
    """The same function with nondecreasing functions behind the maxima that alone read them, where they act on fewer entries."""

    def change(builder: Builder, k: int, place: list[int]) -> int | None:
        node = network.made(k)
        if not isinstance(node.op, Maximum):
            return None
        value, before = _in_front(network, k)
        found = builder.add(node.op, place[value], shape=node.shape, name=node.name)
        return (
            found
            if before is None
            else builder.add(_behind(before, node.op), found, shape=node.shape, name=node.name)
        )

    return rewritten(network, change)


def _in_front(network: Network, k: int) -> tuple[int, Activation | None]:
    """The value in front of maximum k, and None; in front of a nondecreasing function that it alone reads, and that."""
    (below,) = network.made(k).inputs
    before = network.made(below) if below else None
    if (
        before
        and isinstance(before.op, Activation)
        and network.users[below] == (k,)
        and _nondecreasing(before.op)
    ):
        return before.inputs[0], before.op
    return below, None


def _maxima(builder: Builder, value: int, op: Maximum) -> int:
    """Adds the maxima of a value, pair by pair."""
    seen: Windows = [row[row >= 0] for row in op.index]
    read, width = np.concatenate(seen), op.length
    if len(np.unique(read)) < len(read):
        value, width = builder.add(Gather(read, width), value), len(read)
        seen = np.split(np.arange(width), np.cumsum([len(window) for window in seen])[:-1])
    while any(len(window) > 1 for window in seen):
        pairs = [pair for window in seen for pair in zip(window[::2], window[1::2], strict=False)]
        value = builder.add(Sort(np.array(pairs), width), value)
        seen = [np.concatenate([window[1::2], window[len(window) - len(window) % 2 :]]) for window in seen]
    return builder.add(Gather(np.concatenate(seen), width), value)


def _nondecreasing(op: Activation) -> bool:
    """Whether it is one nondecreasing function for all entries, whatever slopes it has on a region."""
    if not op.name or any(np.ptp(np.asarray(value)) for value in op.parameters.values()):
        return False
    alpha, _ = FUNCTIONS[op.name].slopes(**op.parameters)
    return bool(np.min(alpha) >= 0)


def _behind(op: Activation, maximum: Maximum) -> Activation:
    """The function of each window's maximum."""
    inside = maximum.index >= 0
    alpha = np.where(inside, op.alpha[maximum.index], np.inf).min(1)
    beta = np.where(inside, op.beta[maximum.index], -np.inf).max(1)
    parameters = {key: float(np.max(value)) for key, value in op.parameters.items()}
    return replace(op, length=len(alpha), parameters=parameters, alpha=alpha, beta=beta)
