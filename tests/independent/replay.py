"""Every rule once more, by what its docstring says, in rational arithmetic: what does a proof prove of a network?"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tests.independent import patterns
from tests.independent.networks import (
    Node,
    Nodes,
    between,
    followed,
    inputs_of,
    length_of,
    linear_parts,
    merged,
)
from tests.independent.rational import (
    Matrix,
    Vector,
    diagonal,
    exact,
    eye,
    inverse,
    norm_at_most,
    plus,
    root_above,
    scaled,
    semidefinite,
    times,
    transposed,
    vector,
    zeros,
)

Json = Mapping[str, Any]
Region = tuple[Vector | None, Fraction, Vector | None, Vector | None]
"""Centre and radius of a ball, lower and upper ends of a box; None where there is none."""
Slopes = Callable[[Nodes, Any], Nodes]
"""The network with the slopes that occur on a region: these come from elsewhere and are checked by sampling."""


class Refused(Exception):
    """The proof proves nothing."""


def conclude(
    nodes: Nodes, proof: Json, region: Any = None, norm: str = "l2", local: Slopes | None = None
) -> Fraction:
    """At least the constant that the proof proves, and hardly more.

    Raises:
        Refused, ValueError: it proves nothing.
    """
    data, parts = proof.get("data", {}), proof.get("parts", [])

    def prove(of: Nodes, part: Json, where: Any = None, norm: str = "l2") -> Fraction:
        return conclude(of, part, where, norm, local)

    match proof["rule"]:
        case "local":
            assert local is not None and region is not None, "a region is needed"
            return prove(local(nodes, region), parts[0], None, norm)
        case "cut":
            pieces = list(_pieces(region, data["axis"], data["at"]))
            need(len(pieces) == len(parts), "as many proofs as pieces")
            return max(prove(nodes, part, piece, norm) for piece, part in zip(pieces, parts, strict=True))
        case "rows":
            return _rows(nodes, data, parts, region, prove)
        case "layers":
            return _layers(nodes, data, parts, prove)
        case "norm":
            return _norm(nodes, data, parts, prove)
        case "joint":
            return _joint(nodes, data)
        case "pairwise":
            return _pairwise(nodes, data)
        case "equilibrium":
            return _equilibrium(nodes, data)
        case "patterns":
            try:
                return patterns.conclude(nodes, data, region)
            except patterns.Open as error:
                raise Refused(str(error)) from None
        case "chain":
            return _chain(nodes, data)
        case "composite":
            return _composite(nodes, data)
        case "narrow":  # W = R' K with |K| <= 1: what holds with W holds with R'
            return prove(merged(nodes), parts[0], None, norm)
        case "residual":
            return _residual(nodes, data)
        case "folded":
            A = nodes[0].A
            for node in nodes[1:]:
                A = times(node.A, A)
            c = Fraction(float(parts[0]["data"]["c"])) * (1 + Fraction(1, 2**40))
            need(norm_at_most(A, c), "the norm of the folded convolution")
            return c
        case "rounded":
            return _rounded(nodes, data, parts, prove)
        case "frequency" | "banded":
            return _unrolled(nodes, proof["rule"], data, parts, prove)
        case other:
            raise Refused(f"there is no rule {other}")


def need(condition: bool, what: str) -> None:
    """Raises `Refused` unless it holds."""
    if not condition:
        raise Refused(what)


def _pieces(region: Any, axes: list[int], cuts: list[float]) -> list[Any]:
    """The pieces of a tree in preorder; regions are `{"ball": ..., "box": ...}` with rational ends."""
    if "box" in region:
        low, high = region["box"]
    else:
        c, r = region["ball"]
        low, high = [x - r for x in c], [x + r for x in c]
    todo, found = [(list(low), list(high))], []
    for axis, at in zip(axes, map(Fraction, cuts), strict=True):
        low, high = todo.pop()
        if axis == -2:
            c, r = region["ball"]
            away = [max(a - x, x - b, Fraction(0)) for a, b, x in zip(low, high, c, strict=True)]
            need(sum(x * x for x in away) > r * r, "the piece is empty")
        elif axis == -1:
            found.append({**region, "box": (low, high)})
        else:
            need(
                low[axis] - Fraction(1, 10**9) <= at <= high[axis] + Fraction(1, 10**9), "the cut lies within"
            )
            below, above = list(high), list(low)
            below[axis] = above[axis] = at
            todo += [(above, high), (low, below)]
    need(not todo, "the tree ends")
    return found


def _rows(
    nodes: Nodes, data: Json, parts: list[Json], region: Any, prove: Callable[..., Fraction]
) -> Fraction:
    m, parts = length_of(nodes, len(nodes), inputs_of(nodes)), list(parts)
    found: dict[int, Fraction] = {}
    if "behind" in data:
        at = data["behind"]
        front = prove(between(nodes, 0, at), parts.pop(0), region) if at else Fraction(1)
        A = eye(m) if at == len(nodes) else _matrix(between(nodes, at, len(nodes)))
        found = {i: front * root_above(sum(a * a for a in row)) for i, row in enumerate(A)}
    for i, part in zip(data["outputs"], parts, strict=True):
        own = prove(followed(nodes, [eye(m)[i]]), part, region)
        found[i] = min(own, found.get(i, own))
    need(len(found) == m, "every output")
    return max(found.values())


def _matrix(nodes: Nodes) -> Matrix:
    """Of a network that is linear: expanded as a system without unknowns."""
    system = _System(nodes)
    need(not system.y, "a linear network")
    return system.out


def _layers(nodes: Nodes, data: Json, parts: list[Json], prove: Callable[..., Fraction]) -> Fraction:
    spans = {b: (a, part) for (a, b), part in zip(data.get("spans", []), parts, strict=True)}
    found = {0: Fraction(1)}

    def of(k: int) -> Fraction:
        if k not in found:
            if k in spans:
                a, part = spans[k]
                found[k] = of(a) * prove(between(nodes, a, k), part)
            else:
                found[k] = _through(nodes[k - 1], [of(i) for i in nodes[k - 1].inputs])
        return found[k]

    return of(len(nodes))


def _through(node: Node, before: list[Fraction]) -> Fraction:
    """The constant behind a node whose own constant stands in closed form."""
    if node.kind == "sum":
        return sum(before, Fraction(0))
    if node.kind == "concatenate":
        return root_above(sum(x * x for x in before))
    if node.kind == "slopes":
        return before[0] * max(map(abs, (*node.alpha, *node.beta)))
    if node.kind == "softmax":
        return before[0] / 2
    if node.kind == "maximum":
        every = [i for group in node.groups for i in group]
        return before[0] * root_above(Fraction(max(map(every.count, every))))
    if node.kind in ("sort", "lengths"):
        return before[0]
    need(node.kind == "linear" and (node.closed or not any(map(any, node.A))), "a norm that needs a proof")
    columns = max(sum(map(abs, column)) for column in transposed(node.A))
    return before[0] * root_above(columns * max(sum(map(abs, row)) for row in node.A))


def _norm(nodes: Nodes, data: Json, parts: list[Json], prove: Callable[..., Fraction]) -> Fraction:
    need(
        all(node.kind == "linear" and node.inputs == (k,) for k, node in enumerate(nodes)),
        "linear layers in a row",
    )
    if not data.get("merged") and len(nodes) > 1:
        found = Fraction(1)
        for k, part in enumerate(parts):
            found *= prove(between(nodes, k, k + 1), part)
        return found
    if nodes[0].closed and len(nodes) == 1 and not data.get("merged"):
        return _through(nodes[0], [Fraction(1)])
    A, c = nodes[0].A, Fraction(float(data["c"]))
    for node in nodes[1:]:
        A = times(node.A, A)
    need(norm_at_most(A, c), "the norm")
    return c


class _System:
    """Increments of a network: arguments `y` and output `out` as rows over the inputs and the unknowns so far."""

    def __init__(self, nodes: Nodes) -> None:
        self.n, self.y, self.ends, self.weight, self.group = inputs_of(nodes), Matrix(), list[tuple[Fraction, Fraction]](), Vector(), list[int]()  # fmt: skip  # noqa: E501
        self.origin: list[int] = []
        found = [eye(self.n)]
        for k, node in enumerate(nodes, 1):
            found.append(self._behind(node, [found[i] for i in node.inputs], k))
        width = self.n + len(self.y)
        self.out = [list(row) + [Fraction(0)] * (width - len(row)) for row in found[-1]]
        self.y = [row + [Fraction(0)] * (width - len(row)) for row in self.y]

    def _new(
        self, row: Vector, ends: tuple[Fraction, Fraction], weight: Fraction, group: int, k: int
    ) -> Vector:
        self.y.append(row)
        self.ends.append(ends)
        self.weight.append(weight)
        self.group.append(group)
        self.origin.append(k)
        return [Fraction(int(j == self.n + len(self.y) - 1)) for j in range(self.n + len(self.y))]

    def _next(self) -> int:
        return self.group[-1] + 1 if self.group else 0

    def _behind(self, node: Node, given: list[Matrix], k: int) -> Matrix:
        width = self.n + len(self.y)
        given = [[row + [Fraction(0)] * (width - len(row)) for row in rows] for rows in given]
        rows = given[0]
        if node.kind == "linear":
            return times(node.A, rows)
        if node.kind == "sum":
            total = zeros(len(rows), width)
            for sign, part in zip(node.signs, given, strict=True):
                total = plus(total, part, sign)
            return total
        if node.kind == "concatenate":
            return [row for part in given for row in part]
        if node.kind == "slopes":
            return [
                [a * x for x in row] if a == b else self._new(row, (a, b), Fraction(1), self._next(), k)
                for row, a, b in zip(rows, node.alpha, node.beta, strict=True)
            ]
        if node.kind == "equilibrium":
            first, made = width, list(rows)
            for i, row in enumerate(rows):
                made[i] = self._new(row, (node.alpha[i], node.beta[i]), Fraction(1), self._next(), k)
            for i, row in enumerate(node.A):  # y = rows + W v, with columns of all neurons of the layer
                own = zeros(1, first)[0] + list(row)
                self.y[len(self.y) - len(node.A) + i] = _sum([own, rows[i]])
            return made
        if node.kind == "sort":
            return self._sorted(rows, node.groups, k)
        if node.kind == "maximum":
            return self._maxima(rows, node.groups, k)
        c, made, found = Fraction(1, 2) if node.kind == "softmax" else Fraction(1), [], list(rows)
        for members in node.groups:
            number = self._next()
            made.append([self._new(rows[i], (-c, c), Fraction(1), number, k) for i in members])
        if node.kind == "lengths":
            return [new[0] for new in made]
        for members, new in zip(node.groups, made, strict=True):
            for i, row in zip(members, new, strict=True):
                found[i] = row
        return found

    def _sorted(self, rows: Matrix, groups: Any, k: int) -> Matrix:
        """Helmert's vectors: the sum of a group is kept, the rest is not lengthened."""
        found = list(rows)
        for members in groups:
            size, old, number = len(members), [rows[i] for i in members], self._next()
            parts = [[(Fraction(1, size), _sum(old))] for _ in members]
            for j in range(1, size):
                y = _sum([*old[:j], [-j * x for x in old[j]]])
                p = self._new(y, (Fraction(-1), Fraction(1)), Fraction(1, j * (j + 1)), number, k)
                for i in range(j + 1):
                    parts[i].append((Fraction(1 if i < j else -j, j * (j + 1)), p))
            for i, terms in zip(members, parts, strict=True):
                width = self.n + len(self.y)
                found[i] = [
                    sum(f * (row[c] if c < len(row) else 0) for f, row in terms) for c in range(width)
                ]
        return found

    def _maxima(self, rows: Matrix, groups: Any, k: int) -> Matrix:
        """Maxima of windows as sorted pairs, all windows at once, pair by pair."""
        windows = [[rows[i] for i in group] for group in groups]
        while any(len(window) > 1 for window in windows):
            flat = [
                row
                for window in windows
                for pair in zip(window[::2], window[1::2], strict=False)
                for row in pair
            ]
            pairs = self._sorted(flat, [(i, i + 1) for i in range(0, len(flat), 2)], k)
            high, rest = iter(pairs[1::2]), []
            for window in windows:
                rest.append(
                    [next(high) for _ in range(len(window) // 2)] + window[len(window) - len(window) % 2 :]
                )
            windows = rest
        return [window[0] for window in windows]


def _sum(rows: Matrix) -> Vector:
    """The sum of rows, shorter ones filled up with zeros."""
    width = max(map(len, rows))
    return [sum((row[k] for row in rows if k < len(row)), Fraction(0)) for k in range(width)]


def _equilibrium(nodes: Nodes, data: Json) -> Fraction:
    """Every layer v = s(W v + .) has a form that is positive definite; then as `joint`."""
    layers = [node for node in nodes if node.kind == "equilibrium"]
    for node, given in zip(layers, data["existence"], strict=True):
        mu, n = vector(given), len(node.A)
        need(all(v > 0 for v in mu), "positive multipliers of the existence")
        M = diagonal(mu)
        for i, row in enumerate(node.A):
            a, b = node.alpha[i], node.beta[i]
            for p in range(n):
                M[i][p] -= mu[i] * (a + b) * row[p] / 2
                M[p][i] -= mu[i] * (a + b) * row[p] / 2
                for q in range(n):
                    M[p][q] += mu[i] * a * b * row[p] * row[q]
            M[i][i] -= mu[i] / 2**40
        need(semidefinite(M), "the existence")
    return _joint(nodes, data)


def _inequality(system: _System, multipliers: Vector, kappa: Fraction, goal: Matrix) -> Matrix:
    """kappa |x|^2 + sum lambda w (v - a y)(v - b y) - u' goal u over inputs and unknowns."""
    size = system.n + len(system.y)
    M = diagonal([kappa] * system.n + [Fraction(0)] * len(system.y))
    M = plus(M, goal, -1)
    for i, (y, (a, b), w) in enumerate(zip(system.y, system.ends, system.weight, strict=True)):
        lam, v = multipliers[system.group[i]] * w, system.n + i
        if not lam:
            continue
        for p in range(size):
            if y[p]:
                M[p][v] -= lam * (a + b) * y[p] / 2
                M[v][p] -= lam * (a + b) * y[p] / 2
                if a * b:
                    for q in range(size):
                        M[p][q] += lam * a * b * y[p] * y[q]
        M[v][v] += lam
    return M


def _joint(nodes: Nodes, data: Json) -> Fraction:
    system, kappa = _System(nodes), Fraction(float(data["kappa"]))
    lam = vector(data["multipliers"])
    need(
        len(lam) == max(system.group, default=-1) + 1 and min(lam, default=0) >= 0 and kappa >= 0,
        "multipliers",
    )
    goal = times(transposed(system.out), system.out)
    need(semidefinite(_inequality(system, lam, kappa, goal)), "the inequality of the network")
    return root_above(kappa)


def _pairwise(nodes: Nodes, data: Json) -> Fraction:
    """As `joint`, less a form of each pair of neurons that is copositive for both signs: semidefinite plus nonnegative."""
    system, kappa = _System(nodes), Fraction(float(data["kappa"]))
    lam = vector(data["multipliers"])
    need(
        len(lam) == max(system.group, default=-1) + 1 and min(lam, default=0) >= 0 and kappa >= 0,
        "multipliers",
    )
    M = _inequality(system, lam, kappa, times(transposed(system.out), system.out))
    given = zip(data["first"], data["second"], data["forms"], data["rests"], strict=True)
    for i, j, form, rests in given:
        need(all(system.group.count(system.group[k]) == 1 for k in (i, j)), "variables that are alone")
        F, entries = zeros(4, 4), iter(vector(form))
        for a in range(4):
            for b in range(a, 4):
                F[a][b] = F[b][a] = next(entries)
        need(len(form) == 10 and len(rests) == 2, "a form and two rests")
        for s, rest in zip((1, -1), rests, strict=True):
            D, N, above = (1, 1, s, s), zeros(4, 4), iter(vector(rest))
            for a in range(4):
                for b in range(a + 1, 4):
                    N[a][b] = N[b][a] = next(above)
            need(len(rest) == 6 and min(vector(rest)) >= 0, "a nonnegative rest")
            moved = [[D[a] * D[b] * F[a][b] - N[a][b] for b in range(4)] for a in range(4)]
            need(semidefinite(moved), "copositivity")
        rows = [row for k in (i, j) for row in _both(system, k)]
        M = plus(M, times(transposed(rows), times(F, rows)), -1)
    need(semidefinite(M), "the inequality of the network with its pairs")
    return root_above(kappa)


def _both(system: _System, k: int) -> Matrix:
    """v - alpha y and beta y - v of a variable, in inputs and variables."""
    (a, b), y = system.ends[k], system.y[k]
    v = [Fraction(int(c == system.n + k)) for c in range(len(y))]
    return [[p - a * q for p, q in zip(v, y, strict=True)], [b * q - p for p, q in zip(v, y, strict=True)]]


def _chain(nodes: Nodes, data: Json) -> Fraction:
    """Stage by stage is the same as all at once, with kappa times the multipliers. Dead neurons leave."""
    weights, slopes = linear_parts(nodes)
    widen, found, columns = Fraction(float(data.get("widen", 0))), Nodes(), list(range(len(weights[0][0])))
    lams, alive = [vector(lam) for lam in data["multipliers"]], _alive(weights, slopes)
    need(
        len(lams) == len(slopes)
        and all(len(a) == len(lam) for (a, _), lam in zip(slopes, lams, strict=True)),
        "lengths",
    )
    for k, (alpha, beta) in enumerate(slopes):
        rows = alive[k]
        need(all(lams[k][i] > 0 for i in rows), "living neurons have multipliers")
        found.append(Node("linear", (len(found),), [[weights[k][i][j] for j in columns] for i in rows]))
        upper = [max(beta[i], alpha[i] + widen) for i in rows]
        found.append(Node("slopes", (len(found),), alpha=[alpha[i] for i in rows], beta=upper))
        columns = rows
    last = [[row[j] for j in columns] for row in weights[-1]]
    if not any(map(any, last)):
        return Fraction(0)
    kappa = Fraction(float(data["kappa"]))
    if not slopes:
        need(norm_at_most(last, root_above(kappa)), "the norm")
        return root_above(kappa)
    found.append(Node("linear", (len(found),), last))
    system = _System(found)
    kept = [lam for lams_, rows in zip(lams, alive, strict=True) for lam in (lams_[i] for i in rows)]
    linear = [
        a == b for node in found if node.kind == "slopes" for a, b in zip(node.alpha, node.beta, strict=True)
    ]
    goal = times(transposed(system.out), system.out)
    kept = [kappa * lam for lam, one in zip(kept, linear, strict=True) if not one]
    need(semidefinite(_inequality(system, kept, kappa, goal)), "the stages of the chain")
    return root_above(kappa)


def _alive(weights: list[Matrix], slopes: list[tuple[Vector, Vector]]) -> list[list[int]]:
    """Neurons that an input reaches and an output sees."""
    alive, reached = [], list(range(len(weights[0][0])))
    for W, (alpha, beta) in zip(weights, slopes, strict=False):
        reached = [i for i, row in enumerate(W) if (alpha[i] or beta[i]) and any(row[j] for j in reached)]
        alive.append(reached)
    for k in reversed(range(len(alive))):
        rows = range(len(weights[-1])) if k == len(alive) - 1 else alive[k + 1]
        alive[k] = [j for j in alive[k] if any(weights[k + 1][i][j] for i in rows)]
    return alive


def _composite(nodes: Nodes, data: Json) -> Fraction:
    weights, slopes = linear_parts(nodes)
    norms, sums = iter(vector(data["norms"])), [Fraction(1)] + [Fraction(0)] * len(weights)
    for i, P in enumerate(weights):
        for j in range(i, len(weights)):
            if j > i:
                alpha, beta = slopes[j - 1]
                P = times(weights[j], scaled(P, [(a + b) / 2 for a, b in zip(alpha, beta, strict=True)]))
            outer = (
                P
                if j == len(weights) - 1
                else scaled(P, [(b - a) / 2 for a, b in zip(*slopes[j], strict=True)])
            )
            c = next(norms)
            need(norm_at_most(outer, c), f"the norm of group {i} to {j}")
            sums[j + 1] += sums[i] * c
    return sums[-1]


def _residual(nodes: Nodes, data: Json) -> Fraction:
    """h x - A' S s(A x): by the nodes in order, A, slopes, perhaps S, A', and the difference."""
    last = nodes[-1]
    skip, update = (last.inputs[last.signs.index(sign)] for sign in (1, -1))
    h = Fraction(1) if skip == 0 else nodes[skip - 1].A[0][0]
    need(skip == 0 or diagonal([h] * len(nodes[skip - 1].A)) == nodes[skip - 1].A, "a multiple of the input")
    down = nodes[update - 1]
    hidden, S = nodes[down.inputs[0] - 1], eye(len(down.A[0]))
    if hidden.kind == "linear":
        hidden, S = nodes[hidden.inputs[0] - 1], hidden.A
    A = nodes[hidden.inputs[0] - 1].A
    need(
        transposed(A) == down.A and min(hidden.alpha) >= 0 and not any(down.b),
        "the way down is the transpose of the way up",
    )
    need(
        nodes[hidden.inputs[0] - 1].inputs == (0,) and diagonal([S[i][i] for i in range(len(S))]) == S,
        "a residual layer",
    )
    k = [S[i][i] * b for i, b in enumerate(hidden.beta)]
    need(min(k) >= 0, "steps that are not negative")
    c = Fraction(float(data["c"]))
    need(
        semidefinite(plus(diagonal([c * c] * len(A[0])), times(transposed(A), scaled(A, k)), -1)),
        "W' W <= c^2 T",
    )
    return max(abs(h), c * c - h)


def _rounded(nodes: Nodes, data: Json, parts: list[Json], prove: Callable[..., Fraction]) -> Fraction:
    """h x - V s(A x): as the layer with A' S in place of V, and what V differs from it."""
    last = nodes[-1]
    down = last.inputs[last.signs.index(-1)]
    hidden = nodes[nodes[down - 1].inputs[0] - 1]
    A, V, step = nodes[hidden.inputs[0] - 1].A, nodes[down - 1].A, vector(data["step"])
    need(
        len(nodes) in (4, 5) and nodes[hidden.inputs[0] - 1].inputs == (0,) and min(step) >= 0,
        "a residual layer",
    )
    exact_, apart = times(transposed(A), diagonal(step)), plus(V, times(transposed(A), diagonal(step)), -1)
    inside = list(nodes)
    inside[down - 1] = replace(nodes[down - 1], A=transposed(A))
    at = down - 1  # the step stands in front of the way down
    inside.insert(at, Node("linear", nodes[down - 1].inputs, diagonal(step), [Fraction(0)] * len(step)))
    inside = [
        replace(node, inputs=tuple(i + (i > at and k != at) for i in node.inputs))
        for k, node in enumerate(inside)
    ]
    inside[down] = replace(inside[down], inputs=(down,))
    slope = max(map(abs, (*hidden.alpha, *hidden.beta)))
    need(times(inside[down].A, inside[down - 1].A) == exact_, "the layer with the exact adjoint")
    return prove(inside, parts[0]) + slope * _size(apart) * _size(A)


def _size(A: Matrix) -> Fraction:
    """The root of the largest absolute row sum times the largest absolute column sum."""
    columns = max(sum(map(abs, column)) for column in transposed(A))
    return root_above(columns * max(sum(map(abs, row)) for row in A))


def _unrolled(
    nodes: Nodes, rule: str, data: Json, parts: list[Json], prove: Callable[..., Fraction]
) -> Fraction:
    """Convolutions on the pixels of their image, all pixels of a channel with one multiplier (`frequency`) or their own (`banded`)."""
    end = data.get("head", data.get("end", len(nodes)))
    system = _System(nodes[:end])
    lam = _multipliers(nodes[:end], system, rule, [vector(v) for v in data["multipliers"]])
    system.group = list(range(len(system.y)))
    if "c" in data:
        c = Fraction(float(data["c"]))
        goal = scaled(times(transposed(system.out), system.out), 1 / (c * c))
        need(semidefinite(_inequality(system, lam, Fraction(1), goal)), "the inequality of the convolutions")
        return c
    R = exact(data["R"])
    goal = times(transposed(system.out), times(inverse(times(R, transposed(R))), system.out))
    need(semidefinite(_inequality(system, lam, Fraction(1), goal)), "the inequality in front of R")
    rest = [replace(node, inputs=tuple(i - end + 1 for i in node.inputs)) for node in nodes[end:]]
    return prove([Node("linear", (0,), R, [Fraction(0)] * len(R)), *rest], parts[0])


def _multipliers(nodes: Nodes, system: _System, rule: str, given: list[Vector]) -> Vector:
    """One multiplier an unknown, without the scales that the rule has them in."""
    found, exponent, at = Vector(), 0, 0
    for k, node in enumerate(nodes, 1):
        if node.taps is not None:
            exponent += _frexp(max(map(abs, node.taps.reshape(-1).tolist())))
        if node.kind != "slopes":
            continue
        count = system.origin.count(k)
        if rule == "banded":
            found += [2 * lam for lam in given[at]]
        else:
            exponent += _frexp(max(b - a for a, b in zip(node.alpha, node.beta, strict=True)))
            pixels = count // len(given[at])
            found += [lam / Fraction(4) ** exponent for lam in given[at] for _ in range(pixels)]
        at += 1
    need(len(found) == len(system.y), "as many multipliers as unknowns")
    return found


def _frexp(x: Any) -> int:
    from math import frexp

    return frexp(float(x))[1]
