r"""Increments from a centre behind linear nodes, rounding included: $\Delta z = A\,dx + \sum_j M_j s_j$ row by row.

Source 0 is dx, source k what node k adds. `M[k]` holds the columns of source k, one a row of the array, as operators take them;
each entry of $\Delta z$ is off by at most `error` times $|dx| + \sum_j |s_j|$.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdplip.arithmetic.matrix import lengths
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import NotProvable
from sdplip.kernel.reach.linear import Linear
from sdplip.network import LARGEST
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Columns = Float[np.ndarray, "k n"]


@dataclass(frozen=True, eq=False)
class Increments:
    """The matrices by source, and how far each row may be off in length."""

    M: Mapping[int, Columns]
    error: Vector

    @property
    def count(self) -> int:
        """Number of columns."""
        return sum(map(len, self.M.values()))

    @cached_property
    def rows(self) -> Mapping[int, Vector]:
        """At least the length of each row, by source."""
        return {source: lengths(M.T) for source, M in self.M.items()}

    @cached_property
    def length(self) -> Vector:
        """At least the length of each row, over all sources together."""
        if not self.M:
            return np.zeros(len(self.error))
        return lengths(np.array(list(self.rows.values())).T)

    @cached_property
    def largest(self) -> float:
        """At least every entry."""
        return max((float(v.max(initial=0.0)) for v in self.rows.values()), default=0.0)


def mapped(layer: Linear, z: Increments) -> Increments:
    r"""Behind a linear map: $|fl(A M) - A M|$ has rows of length at most $\gamma |A|$ times the lengths of the rows of M.

    Raises:
        NotProvable: a matrix of more than `LARGEST` entries.
    """
    allow(z.count, layer.op.outputs)
    op = layer.op
    off, size = layer.absolute.apply(np.array([z.error, z.length]))
    error = off * (1 + op.error) + layer.relative(op.terms) * (size * GENEROUS)
    lost = 4 * TINY * z.count * ((op.terms + 2) * (1 + z.largest) + layer.sums)
    lost = lost + 4 * TINY * ((op.terms + 2) * (1 + float(z.error.max(initial=0.0))) + layer.sums)
    return Increments({source: op.apply(M) for source, M in z.M.items()}, (error + lost) * GENEROUS)


def added(signs: Sequence[int], parts: Sequence[Increments]) -> Increments:
    """A sum of values with signs."""
    M = dict[int, Columns]()
    for sign, part in zip(signs, parts, strict=True):
        for source, columns in part.M.items():
            own = sign * columns
            M[source] = M[source] + own if source in M else own
    rounded = gamma(len(parts) + 2) * np.sum([part.length for part in parts], 0)
    count = sum(map(len, M.values()))
    error = np.sum([part.error for part in parts], 0) + rounded + 4 * TINY * len(parts) * (count + 1)
    return Increments(M, error * GENEROUS)


def beside(parts: Sequence[Increments]) -> Increments:
    """Values one after the other.

    Raises:
        NotProvable: a matrix of more than `LARGEST` entries.
    """
    sources = {source: len(M) for part in parts for source, M in part.M.items()}
    allow(sum(sources.values()), sum(len(part.error) for part in parts))
    M = {
        source: np.concatenate(
            [part.M.get(source, np.zeros((count, len(part.error)))) for part in parts], axis=1
        )
        for source, count in sources.items()
    }
    return Increments(M, np.concatenate([part.error for part in parts]))


def scaled(d: Vector, z: Increments) -> Increments:
    """Each row times its factor."""
    lost = 4 * TINY * (z.count + 1) * (1 + z.largest + abs(d) + z.error)
    error = (abs(d) * (z.error + 2 * UNIT * z.length) + lost) * GENEROUS
    return Increments({source: M * d for source, M in z.M.items()}, error)


def chosen(z: Increments, entries: np.ndarray) -> Increments:
    """Some rows."""
    return Increments({source: M[:, entries] for source, M in z.M.items()}, z.error[entries])


def allow(rows: int, columns: int) -> None:
    """Raises NotProvable for a matrix of more than `LARGEST` entries."""
    if rows * columns > LARGEST:
        raise NotProvable(
            f"Increments from a centre need a dense matrix of {rows} x {columns} entries, more than {LARGEST}. Use constants of"
            " all inputs, or of the ball."
        )
