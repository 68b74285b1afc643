"""Rule `patterns` once more, in rational arithmetic: chains of matrices with relu or sorted pairs between them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.independent.networks import Nodes
from tests.independent.rational import Matrix, Vector, root_above, semidefinite, vector

ZERO, ONE = Fraction(0), Fraction(1)


class Open(Exception):
    """A leaf is not proven."""


@dataclass
class Hinges:
    """v = max(0, y): rows over inputs, hinges and the constant."""

    n: int
    order: int
    y: Matrix
    out: Matrix
    layers: list[list[int]]

    @property
    def columns(self) -> int:
        return self.n + self.order + 1

    def unit(self, k: int) -> Vector:
        return [ONE if j == k else ZERO for j in range(self.columns)]


def hinges(nodes: Nodes) -> Hinges:
    n = len(nodes[0].A[0])
    order = sum(len(node.groups) if node.kind == "sort" else len(node.alpha) for node in nodes)
    made = Hinges(n, order, [], [], [])
    rows = [made.unit(k) for k in range(n)]
    for node in nodes:
        if node.kind == "linear":
            rows = [combine(a, rows, made.columns) for a in node.A]
            for row, b in zip(rows, node.b, strict=True):
                row[-1] += b
        elif node.kind == "slopes":
            assert set(node.alpha) == {ZERO} and set(node.beta) == {ONE}, "relu"
            rows = _new(made, rows)
        else:
            assert node.kind == "sort" and all(len(group) == 2 for group in node.groups), "pairs"
            more = _new(made, [add(rows[a], rows[b], -1) for a, b in node.groups])
            rows = list(rows)
            for (a, b), v in zip(node.groups, more, strict=True):
                rows[a], rows[b] = add(rows[a], v, -1), add(rows[b], v, 1)
    made.out = rows
    return made


def _new(made: Hinges, y: Matrix) -> Matrix:
    at = list(range(len(made.y), len(made.y) + len(y)))
    made.y += y
    made.layers.append(at)
    return [made.unit(made.n + i) for i in at]


def combine(weights: Vector, rows: Matrix, columns: int) -> Vector:
    found = [ZERO] * columns
    for w, row in zip(weights, rows, strict=True):
        if w:
            found = [f + w * r for f, r in zip(found, row, strict=True)]
    return found


def add(a: Vector, b: Vector, sign: int) -> Vector:
    return [x + sign * y for x, y in zip(a, b, strict=True)]


def put(made: Hinges, row: Vector, below: list[Vector]) -> Vector:
    """The row with these in place of the hinges."""
    n = made.n
    found = [*row[:n], *[ZERO] * made.order, row[-1]]
    for i, value in enumerate(below):
        if row[n + i]:
            found = [f + row[n + i] * v for f, v in zip(found, value, strict=True)]
    return found


def reduced(made: Hinges, pattern: list[int]) -> tuple[Matrix, Matrix]:
    y, below = Matrix(), [made.unit(made.n + i) for i in range(made.order)]
    for i, row in enumerate(made.y):
        y.append(put(made, row, below))
        if pattern[i] >= 0:
            below[i] = y[i] if pattern[i] else [ZERO] * made.columns
    return y, [put(made, row, below) for row in made.out]


def largest(row: Vector, region: Mapping[str, Any]) -> Fraction:
    """Of an affine function on a ball or a box."""
    if "ball" in region:
        assert "box" not in region
        center, radius = region["ball"]
        return sum((a * c for a, c in zip(row, center, strict=False)), row[-1]) + radius * root_above(
            sum((a * a for a in row[: len(center)]), ZERO)
        )
    low, high = region["box"]
    return sum((max(a * p, a * q) for a, p, q in zip(row, low, high, strict=False)), row[-1])


def ends(made: Hinges, region: Mapping[str, Any]) -> tuple[Vector, Vector]:
    """Of the arguments of hinges: lines put in for earlier ones, from the last layer back."""
    low, high = Vector(), Vector()
    for k, layer in enumerate(made.layers):
        found = [
            [
                _above(made, [sign * a for a in made.y[i]], made.layers[:k], low, high, region)
                for sign in (-1, 1)
            ]
            for i in layer
        ]
        low += [-a for a, _ in found]
        high += [b for _, b in found]
    return low, high


def _above(
    made: Hinges, row: Vector, layers: list[list[int]], low: Vector, high: Vector, region: Mapping[str, Any]
) -> Fraction:
    for layer in reversed(layers):
        for i in layer:
            c = row[made.n + i]
            if not c:
                continue
            a, b = low[i], high[i]
            both, on = a < 0 < b, a >= 0
            slope = (b / (b - a) if both else Fraction(on)) if c > 0 else Fraction(b > -a if both else on)
            row = add(row, [c * v for v in made.unit(made.n + i)], -1)
            row = [r + c * slope * v for r, v in zip(row, made.y[i], strict=True)]
            if both and c > 0:
                row[-1] -= c * slope * a
    return largest(row, region)


def conclude(nodes: Nodes, data: Mapping[str, Any], region: Mapping[str, Any] | None) -> Fraction:
    """The constant that a tree proves.

    Raises:
        Open: it does not.
    """
    made, kappa = hinges(nodes), Fraction(float(data["kappa"]))
    multipliers = iter(vector(data["multipliers"]))
    known = None if region is None else (region, *ends(made, region))
    nothing = _empties(data, known is not None)
    todo = [[-1] * made.order]
    for asked in data["fork"]:
        pattern = todo.pop()
        if asked >= 0:
            if pattern[asked] >= 0:
                raise Open("a hinge is asked twice")
            todo += [[side if k == asked else p for k, p in enumerate(pattern)] for side in (1, 0)]
        elif asked == -1:
            if not _bounded(made, pattern, kappa, multipliers):
                raise Open("a bounded leaf")
        elif not _empty(made, pattern, *next(nothing), known):
            raise Open("an empty leaf")
    if todo or kappa < 0 or next(multipliers, None) is not None:
        raise Open("the tree and its numbers")
    return root_above(kappa)


def _empties(data: Mapping[str, Any], weighted: bool) -> Iterator[tuple[int, list[int], Vector]]:
    at = 0
    for base, count in zip(data.get("base", ()), data.get("count", ()), strict=True):
        weights = vector(data["weights"][at : at + count]) if weighted else []
        yield base, list(data["rows"][at : at + count]), weights
        at += count


def _bounded(made: Hinges, pattern: list[int], kappa: Fraction, multipliers: Iterator[Fraction]) -> bool:
    y, out = reduced(made, pattern)
    open_ = [i for i in range(made.order) if pattern[i] < 0]
    at = [*range(made.n), *(made.n + i for i in open_)]
    M = [[-sum((row[i] * row[j] for row in out), ZERO) for j in at] for i in at]
    for k in range(made.n):
        M[k][k] += kappa
    for k, i in enumerate(open_, made.n):
        lam = next(multipliers, Fraction(-1))
        if lam < 0:
            return False
        M[k][k] += lam
        for c, j in enumerate(at):
            M[k][c] -= lam * y[i][j] / 2
            M[c][k] -= lam * y[i][j] / 2
    return semidefinite(M)


def _empty(
    made: Hinges,
    pattern: list[int],
    base: int,
    rows: list[int],
    weights: Vector,
    known: tuple[Mapping[str, Any], Vector, Vector] | None,
) -> bool:
    first = {i for layer in made.layers[:base] for i in layer}
    pattern = [-1 if p == 1 and i in first else p for i, p in enumerate(pattern)]
    y, _ = reduced(made, pattern)
    kept = []
    for r in rows:
        kind, i = divmod(r, made.order)
        v = made.unit(made.n + i)
        if (kind < 4 and (pattern[i] >= 0) != (kind == 0)) or (kind >= 3 and known is None):
            return False
        if kind == 0:
            row = y[i] if pattern[i] else [-a for a in y[i]]
        elif kind == 1:
            row = v
        elif kind == 2:
            row = add(v, y[i], -1)
        elif kind >= 4:
            assert known is not None and kind < 6
            row = list(y[i]) if kind == 4 else [-a for a in y[i]]
            row[-1] += -known[1][i] if kind == 4 else known[2][i]
        else:
            assert known is not None
            a, b = known[1][i], known[2][i]
            if not a < 0 < b:
                return False
            row = add([b / (b - a) * x for x in y[i]], v, -1)
            row[-1] -= b * a / (b - a)
        kept.append(row)
    if known is None:
        null = positive_null(kept)
        return null is not None and sum((w * r[-1] for w, r in zip(null, kept, strict=True)), ZERO) < 0
    if min(weights) < 0:
        return False
    total = combine(weights, kept, made.columns)
    values = sum(
        (max(c, ZERO) * max(b, ZERO) for c, b in zip(total[made.n : -1], known[2], strict=True)), ZERO
    )
    return largest([*total[: made.n], total[-1]], known[0]) + values < 0


def positive_null(rows: Matrix) -> Vector | None:
    """The positive weights with which all but the last entries of the rows cancel, where they are unique up to a factor."""
    m, width = len(rows), len(rows[0]) - 1
    work = [row[:-1] + [ONE if i == k else ZERO for i in range(m)] for k, row in enumerate(rows)]
    rank = 0
    for column in range(width):
        pivot = next((k for k in range(rank, m) if work[k][column]), None)
        if pivot is None:
            continue
        work[rank], work[pivot] = work[pivot], work[rank]
        for k in range(m):
            if k != rank and work[k][column]:
                factor = work[k][column] / work[rank][column]
                work[k] = [u - factor * v for u, v in zip(work[k], work[rank], strict=True)]
        rank += 1
    if rank != m - 1:
        return None
    weights = work[-1][width:]
    weights = [-w for w in weights] if weights[0] < 0 else weights
    return weights if min(weights) > 0 else None
