r"""The derivative of a network at a point, as products with vectors from both sides: $J v$ and $J^\top w$. Floating point.

Where a function has a kink, one of its slopes there counts: the right one of piecewise linear functions.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.groups import GROUPED
from sdplip.network.graph import Network, Node, apply
from sdplip.network.operators import (
    LARGEST,
    AbstractLinear,
    Activation,
    Concatenate,
    Equilibrium,
    Gather,
    Grouped,
    Maximum,
    Norms,
    Sort,
    Sum,
)
from sdplip.network.operators.slopes import slopes_at
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Rows = Float[np.ndarray, "*batch n"]
STEP = 2.0**-20
"""Of central differences of functions of groups, relative to the size of the group."""


@dataclass(frozen=True, eq=False)
class Derivative:
    """The derivative of a network at one point, or at several: of each node that is not linear, what is needed of it.

    Attributes:
        kept: slopes, the entries that outputs are, directions, or matrices of groups or of equilibria; of several points with two leading axes,
            `(points, 1)`, and then so are the vectors that it is multiplied with, `(points, k)`.
    """

    network: Network
    kept: dict[int, np.ndarray]
    points: int | None = None

    def forward(self, v: Rows) -> Rows:
        """$J v$, over leading batch axes."""
        found: list[Rows] = [v]
        last = [max(users, default=0) for users in self.network.users]
        for k, node in enumerate(self.network.nodes, 1):
            found.append(self._forward(k, node, [found[i] for i in node.inputs]))
            for i in node.inputs:
                if last[i] == k:
                    found[i] = np.zeros(0)
        return found[-1]

    def backward(self, w: Rows) -> Rows:
        """$J^\\top w$, over leading batch axes."""
        found: list[Rows | None] = [None] * (self.network.output + 1)
        found[-1] = w
        for k in range(self.network.output, 0, -1):
            node, above = self.network.made(k), found[k]
            found[k] = None
            assert above is not None
            for i, part in zip(node.inputs, self._backward(k, node, above), strict=True):
                before = found[i]
                found[i] = part if before is None else before + part
        first = found[0]
        return np.zeros((*w.shape[:-1], self.network.inputs)) if first is None else first

    def matrix(self) -> Float[np.ndarray, "*points out in"]:
        """The Jacobian, formed from its smaller side."""
        n = min(self.network.outputs, self.network.inputs)
        unit = np.eye(n) if self.points is None else np.broadcast_to(np.eye(n), (self.points, n, n))
        return self.backward(unit) if n == self.network.outputs else self.forward(unit).mT

    def _forward(self, k: int, node: Node, values: list[Rows]) -> Rows:
        op, kept = node.op, self.kept.get(k)
        if isinstance(op, AbstractLinear):
            return op.apply(values[0])
        if kept is None:
            return apply(op, values)
        (v,) = values
        if isinstance(op, Activation):
            return v * kept
        if isinstance(op, Norms):
            return (v[..., op.groups] * kept).sum(-1)
        if isinstance(op, Grouped):
            return _grouped(op, kept, v)
        if isinstance(op, Equilibrium):
            return (kept @ v[..., None])[..., 0]
        return v[..., kept] if self.points is None else np.take_along_axis(v, kept, -1)

    def _backward(self, k: int, node: Node, w: Rows) -> list[Rows]:
        op, kept = node.op, self.kept.get(k)
        if isinstance(op, AbstractLinear):
            return [op.adjoint(w)]
        if isinstance(op, Sum):
            return [sign * w for sign in op.signs]
        if isinstance(op, Concatenate):
            return np.split(w, np.cumsum(op.lengths)[:-1], axis=-1)
        assert kept is not None
        if isinstance(op, Activation):
            return [w * kept]
        if isinstance(op, Norms):
            found = np.zeros((*w.shape[:-1], op.length))
            found[..., op.groups] = w[..., None] * kept
            return [found]
        if isinstance(op, Grouped):
            return [_grouped(op, kept.mT, w)]
        if isinstance(op, Equilibrium):
            return [(kept.mT @ w[..., None])[..., 0]]
        if isinstance(op, Sort):  # every entry once
            found = np.empty(w.shape)
            np.put_along_axis(found, np.broadcast_to(kept, w.shape), w, -1)
            return [found]
        if self.points is None:
            return [Gather(kept, op.inputs).adjoint(w)]
        return [np.stack([Gather(own[0], op.inputs).adjoint(v) for own, v in zip(kept, w, strict=True)])]


def derivative(network: Network, x: Float[np.ndarray, "*points n"]) -> Derivative:
    """The derivative at `x`, one point or several as rows.

    Raises:
        InvalidWeight: an activation of which only the slopes are known.
    """
    kept, values = dict[int, np.ndarray](), [np.asarray(x, np.float64)]
    for k, node in enumerate(network.nodes, 1):
        before = [values[i] for i in node.inputs]
        if not isinstance(node.op, AbstractLinear | Sum | Concatenate):
            local = _local(node.op, before[0])
            kept[k] = local if before[0].ndim == 1 else local[:, None]
        values.append(apply(node.op, before))
    return Derivative(network, kept, None if values[0].ndim == 1 else len(values[0]))


def is_known(network: Network) -> bool:
    """Whether the derivative can be computed: every function is known, not only its slopes, and no group is very large."""
    ops = [node.op for node in network.nodes]
    groups = [op.groups for op in ops if isinstance(op, Grouped)]
    named = all(op.name != "" for op in ops if isinstance(op, Activation))
    return named and all(group.size * group.shape[1] <= LARGEST for group in groups)


def _local(op: Activation | Sort | Norms | Grouped | Maximum | Equilibrium, x: Rows) -> np.ndarray:
    """Slopes, the entry that each output is, directions, matrices of groups or of the whole."""
    if isinstance(op, Equilibrium):
        return op.jacobian(x)
    if isinstance(op, Activation):
        return slopes_at(op, x)
    if isinstance(op, Maximum):
        best = np.where(op.index < 0, -np.inf, x[..., op.index]).argmax(-1)
        return op.index[np.arange(len(op.index)), best]
    groups = x[..., op.groups]
    if isinstance(op, Sort):
        index = np.broadcast_to(np.arange(op.length), x.shape).copy()
        order = np.argsort(groups, -1, kind="stable")
        index[..., op.groups] = np.take_along_axis(np.broadcast_to(op.groups, groups.shape), order, -1)
        return index
    if isinstance(op, Norms):
        length = np.linalg.norm(groups, axis=-1, keepdims=True)
        return groups / np.where(length > 0, length, 1.0)
    return _matrices(op, groups)


def _matrices(
    op: Grouped, groups: Float[np.ndarray, "*points count size"]
) -> Float[np.ndarray, "*points count size size"]:
    """By central differences."""
    size, function = groups.shape[-1], GROUPED[op.name]
    h = STEP * (1e-3 + abs(groups).max(-1, keepdims=True))
    columns = []
    for j in range(size):
        step = np.eye(1, size, j) * h
        up, down = (function.value(groups + s, **op.parameters) for s in (step, -step))
        columns.append((up - down) / (2 * h))
    return np.stack(columns, -1)


def _grouped(op: Grouped, matrices: Float[np.ndarray, "count size size"], v: Rows) -> Rows:
    found = np.zeros(v.shape)
    found[..., op.groups] = np.matmul(matrices, v[..., op.groups, None])[..., 0]
    return found
