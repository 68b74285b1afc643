r"""Backward linear bounds of values inside a network on a region (CROWN: Zhang et al., NeurIPS 2018), rounding included.

A row L with $y \le L z + c + e$ for all values z of one node is carried to the input: through a linear map A it becomes $L A$;
through what is not linear each entry takes the line above where it is positive and the line below where it is negative; where a
value is used twice the rows add up. At the input $\max L x$ over the region is known. What products and sums round is at most
$\gamma$ of their absolute values times the largest $|z|$ there, which the intervals know; it is added up in `lost`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.reach.relaxed import Relaxed
from sdplip.kernel.regions import Cut, Region
from sdplip.network import INPUT, Concatenate, Diagonal, Gather, Network, Sum
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "rows n"]
Vector = Float[np.ndarray, " n"]

ENTRIES = 1 << 22
"""Numbers of the largest batch of rows at one value."""
_PLAIN = Relaxed.within(np.zeros(0), np.zeros(0))


@dataclass(eq=False)
class Backward:
    """What the way back needs: the linear maps, what nonlinear nodes lie between, and how large values are."""

    network: Network
    region: Region
    linear: Mapping[int, Linear]
    relaxed: Mapping[int, Relaxed]
    size: Sequence[Vector]

    def cost(self, value: int) -> int:
        """About how many products a row on `value` takes on its way to the input."""
        total, wanted = self.region.inputs * (256 if isinstance(self.region, Cut) else 16), {value}
        for k in range(value, 0, -1):
            if k in wanted:
                node = self.network.made(k)
                wanted |= set(node.inputs)
                total += self.linear[k].cost if k in self.linear else 16 * node.op.outputs
        return 2 * total

    def above(self, value: int, L: Matrix) -> Vector:
        """At least the largest value of each row of `L` times value number `value`; infinite where doubles do not reach."""
        longest = max(self.network.length(k) for k in range(value + 1))
        reads = [
            found.index.size for k, found in self.relaxed.items() if found.index is not None and k <= value
        ]
        longest = max(longest, *reads) if reads else longest
        step = max(1, ENTRIES // longest)
        parts = [self._above(value, L[k : k + step]) for k in range(0, len(L), step)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _above(self, value: int, L: Matrix) -> Vector:
        best = np.full(len(L), np.inf)
        for choice in range(max(len(found.lines) for found in (*self.relaxed.values(), _PLAIN))):
            best = np.minimum(best, _Rows(self, value, L, choice).at_the_input())
        return best


class _Rows:
    """Rows on their way: those that stand on each value, the constants, and what was rounded."""

    def __init__(self, way: Backward, value: int, L: Matrix, choice: int):
        self.way, self.choice, self.value = way, choice, value
        self.at = {value: L}
        self.c, self.lost = np.zeros(len(L)), np.zeros(len(L))

    def at_the_input(self) -> Vector:
        for k in range(self.value, 0, -1):
            if k in self.at:
                self._through(k, self.at.pop(k))
        start = np.zeros(len(self.c))
        if INPUT in self.at:
            L = self.at[INPUT]
            start = np.where(np.isfinite(L).all(1), self.way.region.above(L), np.inf)
        found = start + self.c
        pad = (self.lost + 4 * UNIT * (abs(start) + abs(self.c))) * GENEROUS + 4 * TINY
        found = found + pad + 4 * UNIT * (abs(found) + pad)
        return np.where(np.isfinite(found), found, np.inf)

    def _through(self, k: int, L: Matrix) -> None:
        node = self.way.network.made(k)
        if k in self.way.linear:
            self._linear(self.way.linear[k], node.inputs[0], L)
        elif isinstance(node.op, Sum):
            for sign, i in zip(node.op.signs, node.inputs, strict=True):
                self._put(i, L if sign > 0 else -L)
        elif isinstance(node.op, Concatenate):
            ends = np.cumsum(node.op.lengths)[:-1]
            for part, i in zip(np.split(L, ends, axis=1), node.inputs, strict=True):
                self._put(i, part)
        else:
            self._relaxed(self.way.relaxed[k], node.inputs[0], L)

    def _put(self, i: int, L: Matrix) -> None:
        """Rows on value i, beside those that stand there."""
        if i not in self.at:
            self.at[i] = L
            return
        total = self.at[i] + L
        size = self.way.size[i]
        self._lose(UNIT * (abs(total) @ size) + 4 * TINY * (len(size) + float(size.sum())))
        self.at[i] = total

    def _lose(self, lost: Vector | float) -> None:
        self.lost = (self.lost + lost) * GENEROUS + 4 * TINY

    def _add(self, c: Vector, lost: Vector) -> None:
        self.c = self.c + c
        self._lose(lost + UNIT * abs(self.c))

    def _linear(self, layer: Linear, i: int, L: Matrix) -> None:
        """$|(L A - fl(L A)) z| \\le \\gamma |L| |A| |z|$, and what underflows: see `kernel.reach.linear`."""
        op, size = layer.op, self.way.size[i]
        weight, reads = layer.absolute.apply(size) * GENEROUS, abs(L)
        most = 1 + reads.max(1, initial=0.0)
        if not isinstance(op, Gather) or op.adjoint_terms > 1:
            self._lose(layer.relative(op.adjoint_terms) * (reads @ weight))
        self._lose(
            4 * TINY * ((op.adjoint_terms + 2) * most * (len(size) + float(size.sum())) + float(weight.sum()))
        )
        if op.b is not None:
            n, b = len(layer.b), abs(layer.b)
            lost = gamma(n + 6) * (reads @ b) + reads @ layer.shift_error
            lost = lost + 4 * TINY * (n * (2 + most) + float(b.sum() + layer.shift_error.sum()))
            self._add(L @ layer.b, lost)
        elif isinstance(op, Diagonal) and op.shift_error is not None:
            self._lose(reads @ layer.shift_error + 4 * TINY * (most * len(layer.shift_error)))
        self._put(i, op.adjoint(L))

    def _relaxed(self, found: Relaxed, i: int, L: Matrix) -> None:
        line = found.lines[min(self.choice, len(found.lines) - 1)]
        if found.pairs is not None:
            L = self._pairs(found, i, L)
        up, down = np.maximum(L, 0.0), np.minimum(L, 0.0)
        size, m = self.way.size[i], L.shape[1]
        if found.index is None:
            passed = up * line.upper[:, 0]
            passed += down * line.lower[:, 0]
            reads, terms = size, 1
        else:
            parts = up[:, :, None] * line.upper + down[:, :, None] * line.lower
            back = Gather(found.index.reshape(-1), len(size))
            passed = back.adjoint(parts.reshape(len(L), -1))
            reads, terms = size[found.index].sum(1), 1 + back.adjoint_terms
        steep = np.maximum(abs(line.upper), abs(line.lower)).max(1, initial=0.0)
        reads = np.where(steep > 0, reads, 0.0)  # an entry of which nothing is known is not read
        most = (
            1 + np.maximum(up.max(1, initial=0.0), -down.min(1, initial=0.0)) + float(steep.max(initial=0.0))
        )
        weight = steep * reads
        self._lose(gamma(terms + 2) * (up @ weight - down @ weight))
        self._lose(4 * TINY * most * (terms * m + float(reads.sum())))
        self._constants(line.floor, line.ceiling, up, down, most)
        self._put(i, passed)

    def _pairs(self, found: Relaxed, i: int, L: Matrix) -> Matrix:
        """With the minima of pairs as sums less the maxima."""
        assert found.pairs is not None
        a, b = found.pairs.T
        sums, L = np.zeros((len(L), self.way.network.length(i))), L.copy()
        sums[:, a] = sums[:, b] = L[:, a]
        L[:, b] -= L[:, a]
        L[:, a] = 0.0
        size = np.maximum(abs(found.least), abs(found.most))[b]
        self._lose(UNIT * (abs(L[:, b]) @ size) + 4 * TINY * (len(size) + float(size.sum())))
        self._put(i, sums)
        return L

    def _constants(self, floor: Vector, ceiling: Vector, up: Matrix, down: Matrix, most: Vector) -> None:
        """The constants of lines; an infinite one counts only where a row reads it."""
        unknown = ~(np.isfinite(floor) & np.isfinite(ceiling))
        if unknown.any():
            hit = ((up[:, unknown] > 0) & ~np.isfinite(ceiling[unknown])).any(1)
            hit |= ((down[:, unknown] < 0) & ~np.isfinite(floor[unknown])).any(1)
            self.lost = np.where(hit, np.inf, self.lost)
            floor, ceiling = (np.where(np.isfinite(v), v, 0.0) for v in (floor, ceiling))
        size = np.maximum(abs(floor), abs(ceiling))
        lost = gamma(2 * len(size) + 6) * (up @ size - down @ size)
        lost = lost + 4 * TINY * (len(size) * (1 + most) + float(size.sum()))
        self._add(up @ ceiling + down @ floor, lost)
