r"""All values of a network on a region: forward as intervals and zonotopes, then again with lines carried backward.

Every bound of one pass is intersected with those of the others, so none widens anything. Work is limited by counts, not by time:
the same network and region give the same result everywhere up to rounding. Beyond the limits a zonotope is dropped, or a value
keeps the ends that it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sdplip.arithmetic.rounding import TINY
from sdplip.errors import NotProvable
from sdplip.kernel.reach import activations, groups, state, windows
from sdplip.kernel.reach.backward import Backward
from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.reach.relaxed import Relaxed
from sdplip.kernel.reach.shares import shares
from sdplip.kernel.reach.state import State
from sdplip.kernel.regions import Box, Cut, Region
from sdplip.network import (
    AbstractLinear,
    Activation,
    Concatenate,
    Grouped,
    Maximum,
    Network,
    Norms,
    Sort,
    Sum,
)
from sdplip.network.operators import Operator
from sdplip.shapes import Float, Int

Vector = Float[np.ndarray, " n"]
Ends = tuple[Vector, Vector]

ROOM = 1 << 24
"""Numbers of the largest zonotope: 128 MB."""
FORWARD = 1 << 34
"""Products that zonotopes take on one pass, about."""
BACKWARD = 1 << 34
"""Products that rows on their way back take, all together, about."""


@dataclass(frozen=True, eq=False)
class Reached:
    """What is known on the region.

    Attributes:
        ends: proven lower and upper ends of every value, the input first; infinite where nothing is known.
        ops: of every node what it is on the region: activations with the slopes that occur, `Sort` and `Maximum` with what is
            still open, as (permutation, `Sort`) and (windows with -1 for entries that never win); functions of groups with the
            share of their constant.
    """

    ends: tuple[Ends, ...]
    ops: tuple["Operator | Sorted | Lessened", ...]


@dataclass(frozen=True, eq=False)
class Sorted:
    """A permutation $y_i = x_{\\mathrm{place}_i}$, and the groups that are sorted behind it."""

    place: Int[np.ndarray, " n"]
    loose: Int[np.ndarray, "count size"]


@dataclass(frozen=True, eq=False)
class Lessened:
    """A function of groups, and which share of its constant each group has."""

    op: Grouped
    share: Float[np.ndarray, " count"]


@np.errstate(all="ignore")  # what is not finite proves nothing
def reached(network: Network, region: Region, *, outputs: bool = True) -> Reached:
    """The values of the network on the region, and its operators there.

    Args:
        network: any.
        region: of its inputs.
        outputs: whether the outputs matter too; else they may keep wider ends.

    Raises:
        NotProvable: a region of another number of coordinates.
    """
    if region.inputs != network.inputs:
        raise NotProvable(
            f"The region has {region.inputs} coordinates, but the network takes {network.inputs} inputs."
        )
    regions = [region, Box(*region.ends())] if isinstance(region, Cut) else [region]
    walks = [_Walk(network, where) for where in regions]
    for walk in walks:
        walk.through()
    known = [_both([walk.states[k] for walk in walks]) for k in range(network.output + 1)]
    last = _Walk(network, region, known, backward=True, outputs=outputs)
    last.through()
    return Reached(tuple((z.low, z.high) for z in last.states), tuple(last.ops))


def _both(states: Sequence[State]) -> State:
    """What several passes know."""
    low, high = np.max([z.low for z in states], 0), np.min([z.high for z in states], 0)
    tight = all(z.tight for z in states)
    return State(np.minimum(low, high), np.maximum(low, high), None, tight)


@dataclass(eq=False)
class _Walk:
    """One pass through the network."""

    network: Network
    region: Region
    known: Sequence[State] | None = None
    backward: bool = False
    outputs: bool = False
    states: list[State] = field(default_factory=list)
    ops: "list[Operator | Sorted | Lessened]" = field(default_factory=list)
    linear: dict[int, Linear] = field(default_factory=dict)
    relaxed: dict[int, Relaxed] = field(default_factory=dict)
    size: list[Vector] = field(default_factory=list)
    spent: list[int] = field(default_factory=lambda: [0, 0])

    def through(self) -> None:
        self._keep(state.start(self.region, ROOM))
        last = [max(users, default=0) for users in self.network.users]
        for k, node in enumerate(self.network.nodes, 1):
            op = node.op
            if isinstance(op, AbstractLinear):
                z = self._linear(k, op, self.states[node.inputs[0]])
            elif isinstance(op, Sum):
                z = state.added(op.signs, [self.states[i] for i in node.inputs], ROOM)
                self.ops.append(op)
            elif isinstance(op, Concatenate):
                z = state.beside([self.states[i] for i in node.inputs], ROOM)
                self.ops.append(op)
            else:
                z = self._nonlinear(k, op, node.inputs[0])
            self._keep(z)
            for i in node.inputs:  # zonotopes are large, and needed no more
                if last[i] == k:
                    self.states[i] = replace(self.states[i], zonotope=None)
        if self.outputs:
            self._narrow(self.network.output, np.ones(self.network.outputs, bool))

    def _keep(self, z: State) -> None:
        if self.known is not None:
            other = self.known[len(self.states)]
            z = replace(z.within(other.low, other.high), tight=z.tight or other.tight)
        self.states.append(z)
        self.size.append(z.size)

    def _linear(self, k: int, op: AbstractLinear, z: State) -> State:
        layer = self.linear[k] = Linear(op)
        self.ops.append(op)
        if z.zonotope is not None:
            cost = layer.cost * z.zonotope.count
            if self.spent[0] + cost > FORWARD:
                z = replace(z, zonotope=None)
            else:
                self.spent[0] += cost
        return state.affine(layer, z, ROOM, large=self.known is None)

    def _nonlinear(self, k: int, op: Operator, i: int) -> State:
        if isinstance(op, Activation):
            self._narrow(i, activations.bends(op, self.states[i].low, self.states[i].high))
            here, found = activations.on(op, self.states[i].low, self.states[i].high)
            self.ops.append(here)
        elif isinstance(op, Sort):
            self._narrow(i, np.isin(np.arange(op.length), op.groups))
            place, loose, found = windows.sort(op, self.states[i], _Differences(self, i))
            self.ops.append(Sorted(place, loose))
        elif isinstance(op, Maximum):
            self._narrow(i, np.isin(np.arange(op.length), op.index))
            index, found = windows.maximum(op, self.states[i], _Differences(self, i))
            self.ops.append(Maximum(index, op.length))
        elif not isinstance(op, Norms | Grouped):
            raise NotProvable(
                "The values of an implicit layer on a region are not known here. Bound the network for all inputs, without the region."
            )
        else:
            self._narrow(i, np.ones(op.length, bool))
            ends = self.states[i].low, self.states[i].high
            found = groups.norms(op, *ends) if isinstance(op, Norms) else groups.grouped(op, *ends)
            less = shares(op, *ends) if isinstance(op, Grouped) else np.ones(1)
            self.ops.append(Lessened(op, less) if isinstance(op, Grouped) and less.min() < 1 else op)
        self.relaxed[k] = found
        return state.relaxed(found, k, self.states[i], ROOM)

    def _narrow(self, i: int, wanted: np.ndarray) -> None:
        """The ends of value i by rows on the way back, where wanted: those first that are nearest to being decided."""
        if not self._useful(i):
            return
        chosen = self._affordable(i, np.flatnonzero(wanted), self.states[i].low, self.states[i].high)
        if not len(chosen):
            return
        z, low, high = self.states[i], self.states[i].low.copy(), self.states[i].high.copy()
        rows = np.arange(len(chosen))
        for part in np.array_split(rows, max(1, len(rows) * len(low) >> 22)):
            one = np.zeros((len(part), len(low)))
            one[np.arange(len(part)), chosen[part]] = 1.0
            above, below = self._above(i, one), -self._above(i, -one)
            high[chosen[part]] = np.fmin(high[chosen[part]], above)
            low[chosen[part]] = np.fmax(low[chosen[part]], below)
        self.states[i] = z.within(low, high)
        self.size[i] = self.states[i].size

    def _useful(self, i: int) -> bool:
        """Whether the way back may know more than the way forward does."""
        if not self.backward or i == 0:
            return False
        plain = all(k not in self.relaxed for k in range(1, i + 1))
        return not plain or isinstance(self.region, Cut) or not self.states[i].tight

    def _affordable(
        self, i: int, chosen: Int[np.ndarray, " k"], low: Vector, high: Vector
    ) -> Int[np.ndarray, " j"]:
        """Of these entries as many as two rows each may be spent on: those first whose interval is nearest to one side of 0."""
        each = 2 * self._way().cost(i)
        can = max(0, (BACKWARD - self.spent[1]) // each)
        if can < len(chosen):
            low, high = low[chosen], high[chosen]
            away = np.minimum(abs(low), abs(high)) / np.maximum(high - low, TINY)
            chosen = chosen[np.argsort(np.where(np.isnan(away), np.inf, away), kind="stable")[:can]]
        self.spent[1] += len(chosen) * each
        return chosen

    def _way(self) -> Backward:
        return Backward(self.network, self.region, self.linear, self.relaxed, self.size)

    def _above(self, i: int, L: Float[np.ndarray, "rows n"]) -> Vector:
        return self._way().above(i, L)


class _Differences:
    """Ends of differences of entries of value i; each pair is asked for once."""

    def __init__(self, walk: _Walk, i: int):
        self.walk, self.i = walk, i
        self.codes, self.low, self.high = np.zeros(0, np.int64), np.zeros(0), np.zeros(0)

    def __call__(self, a: Int[np.ndarray, " k"], b: Int[np.ndarray, " k"]) -> Ends:
        n = self.walk.network.length(self.i)
        codes = np.minimum(a, b).astype(np.int64) * n + np.maximum(a, b)
        new = np.setdiff1d(codes, self.codes)
        if len(new):
            low, high = self._found(new // n, new % n)
            every = np.concatenate([self.codes, new])
            order = np.argsort(every)
            self.codes = every[order]
            self.low = np.concatenate([self.low, low])[order]
            self.high = np.concatenate([self.high, high])[order]
        at, turned = np.searchsorted(self.codes, codes), a > b
        low, high = self.low[at], self.high[at]
        return np.where(turned, -high, low), np.where(turned, -low, high)

    def _found(self, a: Int[np.ndarray, " k"], b: Int[np.ndarray, " k"]) -> Ends:
        walk, i = self.walk, self.i
        low, high = state.differences(walk.states[i], a, b)
        if not walk._useful(i):
            return low, high
        open_ = walk._affordable(i, np.flatnonzero((low < 0) & (high > 0)), low, high)
        if not len(open_):
            return low, high
        n = walk.network.length(i)
        for part in np.array_split(open_, max(1, len(open_) * n >> 22)):
            rows = np.zeros((len(part), n))
            rows[np.arange(len(part)), a[part]] = 1.0
            rows[np.arange(len(part)), b[part]] = -1.0
            high[part] = np.fmin(high[part], walk._above(i, rows))
            low[part] = np.fmax(low[part], -walk._above(i, -rows))
        return np.minimum(low, high), np.maximum(low, high)
