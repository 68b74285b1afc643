r"""Lengths and functions of groups on a region: the ends of their values.

Softmax lies in [0, 1]; its logarithm is at least $x_i - \max_j x_j - \log n$; normalised groups of n entries have a root mean square of
at most 1, hence entries up to $\sqrt n$; reflections are sums. How much less than the constant of all inputs a group has on the region says
`kernel.reach.shares`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sdplip.arithmetic.elementary import log_above
from sdplip.arithmetic.matrix import lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma
from sdplip.kernel.reach.relaxed import Lines, Relaxed
from sdplip.kernel.surgery import rewritten
from sdplip.network import Builder, Concatenate, Diagonal, Gather, Grouped, Network, Norms, Sum
from sdplip.network.operators import Activation
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Groups = Float[np.ndarray, "count size"]
Ends = tuple[Groups, Groups]


def norms(op: Norms, low: Vector, high: Vector) -> Relaxed:
    """Lengths: between those of the nearest and the furthest point; not below the part along any direction of length 1."""
    low, high = low[op.groups], high[op.groups]
    near = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(abs(low), abs(high)))
    size = op.groups.shape[1]
    shrink = (1 - gamma(size + 8)) / GENEROUS
    least = np.maximum(lengths(near) * shrink - 4 * size * TINY, 0.0)
    most = lengths(np.maximum(abs(low), abs(high)))
    most, least = np.where(np.isfinite(most), most, np.inf), np.where(np.isfinite(least), least, 0.0)
    middle = np.where(np.isfinite(low) & np.isfinite(high), low / 2 + high / 2, 0.0)
    u = middle / (lengths(middle) + TINY)[:, None] * (1 - 2.0**-40)  # a little shorter than 1 in any case
    u = np.where(np.isfinite(u) & (abs(u) > 2.0**-200), u, 0.0)
    found = Relaxed.within(least, most, op.groups)
    along = Lines(u, np.zeros(len(least)), np.zeros(u.shape), most)
    return Relaxed(op.groups, found.slope, least, most, least, most, (along, found.lines[0]))


def grouped(op: Grouped, low: Vector, high: Vector) -> Relaxed:
    """The ends of the values of a function of groups; infinite where none are known."""
    find = RANGES.get(op.name)
    if find is None:
        unknown = np.full(op.length, np.inf)
        return Relaxed.within(-unknown, unknown)
    least, most = low.copy(), high.copy()
    least[op.groups], most[op.groups] = find(low[op.groups], high[op.groups], **op.parameters)
    return Relaxed.within(
        np.where(np.isfinite(least), least, -np.inf), np.where(np.isfinite(most), most, np.inf)
    )


def _share(low: Groups, high: Groups) -> Ends:
    return np.zeros(low.shape), np.ones(high.shape)


def _log_softmax(low: Groups, high: Groups) -> Ends:
    top, log = high.max(1, keepdims=True), log_above(low.shape[1])
    size = np.maximum(abs(low), abs(high)) + abs(top) + log
    return low - top - log - gamma(8) * size - 4 * TINY, np.zeros(high.shape)


def _shared_logsumexp(low: Groups, high: Groups) -> Ends:
    r"""The n-th part of $\max_i x_i$ to $\max_i x_i + \log n$."""
    n = low.shape[1]
    ends = low.max(1, keepdims=True), high.max(1, keepdims=True)
    log = float(np.log(n)) * GENEROUS
    size = abs(ends[0]) + abs(ends[1]) + log
    lost = gamma(8) * size + 4 * TINY
    return (
        np.broadcast_to((ends[0] - lost) / n - lost, low.shape),
        np.broadcast_to((ends[1] + log + lost) / n + lost, high.shape),
    )


def _normal(low: Groups, high: Groups, eps: "float | Vector") -> Ends:  # noqa: ARG001  (of any eps)
    most = float(np.sqrt(low.shape[1])) * (1 + 2.0**-50)
    return np.full(low.shape, -most), np.full(high.shape, most)


def _direction(low: Groups, high: Groups, eps: "float | Vector") -> Ends:  # noqa: ARG001
    return np.full(low.shape, -1.0), np.ones(high.shape)


def _mirror(low: Groups, high: Groups, a: "float | Vector", b: "float | Vector") -> Ends:
    r"""$z + 2 v t$ with $t = \mathrm{relu}(-v^\top z)$, its ends by those of z and of t."""
    v = np.stack(np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64)), -1)
    v = np.broadcast_to(v, low.shape)
    size = abs(v) * np.maximum(abs(low), abs(high))
    pad = gamma(16) * size.sum(1) + 16 * TINY * (1 + size + abs(v)).sum(1)
    ends = [-np.minimum(v * low, v * high).sum(1) + pad, -np.maximum(v * low, v * high).sum(1) - pad]
    most, least = (np.maximum(end, 0.0)[:, None] for end in ends)
    moved = 2 * v * most, 2 * v * least
    lost = gamma(16) * (np.maximum(abs(low), abs(high)) + abs(moved[0])) + 16 * TINY * (1 + abs(v) + most)
    return low + np.minimum(*moved) - lost, high + np.maximum(*moved) + lost


RANGES: Mapping[str, Callable[..., Ends]] = {
    "softmax": _share,
    "softmin": _share,
    "log_softmax": _log_softmax,
    "shared_logsumexp": _shared_logsumexp,
    "layer_norm": _normal,
    "rms_norm": _normal,
    "normalize": _direction,
    "householder": _mirror,
}
"""By the name in `sdplip.arithmetic.groups.GROUPED`; others have values of which nothing is known."""


def without_mirrors(network: Network) -> Network:
    r"""The same function with reflections $z + 2 v\,\mathrm{relu}(-v^\top z)$ of pairs written out, so that each has slopes."""

    def change(builder: Builder, k: int, place: list[int]) -> int | None:
        node = network.made(k)
        if not isinstance(node.op, Grouped) or node.op.name != "householder":
            return None
        return _written_out(builder, place[node.inputs[0]], node.op)

    return rewritten(network, change)


def _written_out(builder: Builder, value: int, op: Grouped) -> int:
    count = len(op.groups)
    v = [np.zeros(count) + np.asarray(op.parameters[key], np.float64) for key in ("a", "b")]
    members = [builder.add(Gather(op.groups[:, j], op.length), value) for j in range(2)]
    along = [builder.add(Diagonal(-v[j]), members[j]) for j in range(2)]
    behind = builder.add(Activation("relu", count), builder.add(Sum((1, 1), count), *along))
    moved = [
        builder.add(Sum((1, 1), count), members[j], builder.add(Diagonal(2 * v[j]), behind)) for j in range(2)
    ]
    together = builder.add(Concatenate((count, count)), *moved)
    return builder.add(Gather(np.argsort(op.groups.T.reshape(-1)), op.length), together)
