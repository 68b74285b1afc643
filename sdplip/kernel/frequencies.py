r"""What a frequency sees of a stationary network: small complex matrices with errors, and the inequality of a segment.

With $\tilde x(\omega) = N^{-1/2} \sum_n x_n e^{-i \omega n}$ a stationary map of stride 1 multiplies by its symbol
$\sum_q K_q e^{i \omega o_q}$. Behind a stride s there are $s^d$ times fewer frequencies: each sees $s^d$ *aliases* $\omega_a$ of the map's input,
$\tilde y(\omega) = s^{-d/2} \sum_a M(\omega_a) \tilde x(\omega_a)$.
A value of a torus that is r times finer than that of the segment's end has the rows (alias, channel), aliases in C order.

A **segment** leads from a value z to a value $G u$, where u holds z and the unknowns $v_j$ on the way, whose arguments are $Y_j u$. For multipliers
$\lambda_j > 0$ and a metric X in front of it, the form of

$$ M = X_{zz} \oplus \Lambda - \tfrac12 \sum_j \left( e_j \Lambda_j \Delta_j Y_j + (\cdot)^* \right) $$

is at most $\lVert z \rVert_X^2$, because $v^\top \Lambda (v - \Delta y) \le 0$ for increments. All quantities are scaled by powers of two.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

import numpy as np

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.arithmetic.twiddle import table
from sdplip.errors import NotProvable
from sdplip.kernel.stationary import Key, Pixels, Plan, Taps
from sdplip.network import Activation, Concatenate, Sum
from sdplip.shapes import Bool, Float, Int

Points = Int[np.ndarray, "f axes"]
LARGEST = 4096
"""Order of the largest inequality of one frequency."""
ZERO = np.zeros((1, 1, 1))


@dataclass(frozen=True, eq=False)
class Grid:
    """Frequencies of a torus, one of each conjugate pair.

    Attributes:
        points: the frequencies that stand for a pair.
        share: 2, or 1 where a frequency is its own conjugate.
        place: of every frequency, in C order, the number of the one that stands for it.
        mirrored: whether that one is its conjugate.
    """

    points: Points
    share: Float[np.ndarray, " f"]
    place: Int[np.ndarray, " all"]
    mirrored: Bool[np.ndarray, " all"]


@lru_cache(maxsize=8)
def grid(torus: Pixels) -> Grid:
    """The frequencies of a torus."""
    points = np.stack(np.meshgrid(*map(np.arange, torus), indexing="ij"), -1).reshape(-1, len(torus))
    own = np.arange(len(points))
    mirror = np.ravel_multi_index(tuple((-points % torus).T), torus)
    kept = own <= mirror
    place = np.cumsum(kept) - 1
    return Grid(
        points[kept], np.where(own == mirror, 1.0, 2.0)[kept], np.where(kept, place, place[mirror]), ~kept
    )


@dataclass(frozen=True, eq=False)
class Symbol:
    """$2^e M$, a complex matrix a frequency; without `M` the identity of order `order`."""

    M: Enclosure | None
    exponent: int
    order: int = 0

    def explicit(self, count: int) -> Enclosure:
        if self.M is not None:
            return self.M
        return Enclosure(
            np.broadcast_to(np.eye(self.order, dtype=complex), (count, self.order, self.order)), ZERO
        )

    def __matmul__(self, other: "Symbol") -> "Symbol":
        e = self.exponent + other.exponent
        if self.M is None or other.M is None:
            return Symbol(other.M if self.M is None else self.M, e, self.order)
        return Symbol(self.M @ other.M, e)


Expression = Mapping[Key, Symbol]
"""A value by the variables of a segment: matrices that multiply them."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A segment at some frequencies of its end; variables are scaled by `exponents`.

    Attributes:
        variables: the value in front and the unknowns, in order.
        widths: rows of each, aliases counted.
        exponents: of each variable; that of the first is given.
        arguments: of each unknown the argument by the variables, scaled, and $\\delta$, scaled; the product of scales is the variable's.
        out: the value behind, by the variables.
        exponent: of the value behind.
        whole: whether `out` is the last variable.
    """

    variables: tuple[Key, ...]
    widths: tuple[int, ...]
    arguments: tuple[tuple[Expression, Enclosure], ...]
    out: Expression
    exponent: int

    @property
    def order(self) -> int:
        return sum(self.widths)

    @property
    def whole(self) -> bool:
        """Whether the value behind is the last variable, and nothing else."""
        return (
            len(self.out) == 1
            and self.out.get(self.variables[-1], _NONE).M is None
            and len(self.variables) > 1
        )

    def columns(self, variable: Key) -> slice:
        at = self.variables.index(variable)
        return slice(sum(self.widths[:at]), sum(self.widths[: at + 1]))

    def matrix(self, expression: Expression, count: int) -> Enclosure:
        """An expression as one matrix over all variables, its powers of two carried out."""
        parts = {v: S.explicit(count).shifted(S.exponent) for v, S in expression.items()}
        rows = next(iter(parts.values())).shape[-2]
        mid = np.zeros((count, rows, self.order), complex)
        rad = np.zeros((max(len(E.rad) for E in parts.values()), rows, self.order))
        for v, E in parts.items():
            mid[:, :, self.columns(v)], rad[:, :, self.columns(v)] = E.mid, E.rad
        return Enclosure(mid, rad)


_NONE = Symbol(Enclosure(ZERO, ZERO), 0)


def pieces(plan: Plan, start: int, end: int, room: int) -> Iterator[Int[np.ndarray, " f"]]:
    """Frequencies of the end of a segment in pieces whose inequalities have about `room` entries.

    Raises:
        NotProvable: one frequency is too much.
    """
    order, count = order_of(plan, start, end), len(grid(plan.torus(end)).points)
    if order > LARGEST:
        raise NotProvable(
            f"One frequency would have an inequality of order {order}, above {LARGEST}. Use 'product'."
        )
    length = max(1, room // (4 * order * order))
    return (np.arange(at, min(at + length, count)) for at in range(0, count, length))


def order_of(plan: Plan, start: int, end: int) -> int:
    """Variables of the segment at one frequency."""
    inside = [v for v, _ in plan.unknowns if start < v <= end]
    return sum(prod(_aliases(plan, v, end)) * plan.views[v].channels for v in (start, *inside))


def segment(plan: Plan, start: int, end: int, points: Points, exponent: int) -> Segment:
    """The segment from value `start`, which is scaled by `exponent`, at frequencies of the torus of `end`.

    Raises:
        NotProvable: a value on the way stands on a coarser torus than the end.
    """
    network, count, front = plan.network, len(points), (start, -1)
    ratio = {k: _aliases(plan, k, end) for k in range(start, end + 1)}
    width = {k: prod(r) * plan.views[k].channels for k, r in ratio.items()}
    values: dict[int, Expression] = {start: {front: Symbol(None, exponent, width[start])}}
    variables, arguments = [front], list[tuple[Expression, Enclosure]]()

    def unknown(key: Key, y: Expression) -> Expression:
        own, repeats = plan.unknowns[key], prod(ratio[key[0]])
        y, top = _leveled(y)
        e = int(np.frexp(own.delta.mid.max())[1])
        delta = Enclosure(
            np.tile(own.delta.mid, repeats)[:, None], np.tile(own.delta.radius(), repeats)[:, None]
        )
        variables.append(key)
        arguments.append((y, delta.shifted(-e)))
        return {key: Symbol(None, top + e, width[key[0]])}

    for k in range(start + 1, end + 1):
        node, repeats = network.made(k), prod(ratio[k])
        inputs = [values[i] for i in node.inputs]
        if k in plan.taps or k in plan.windows:
            maps = plan.windows.get(k) or [plan.taps[k]]
            before = ratio[node.inputs[0]], ratio[k]
            symbols = [_at(T, plan.torus(node.inputs[0]), points, *before) for T in maps]
            parts: list[Expression] = [{v: M @ S for v, S in inputs[0].items()} for M in symbols]
            made = _maximum(k, parts, unknown, count)
        elif isinstance(node.op, Sum):
            signed = (_signed(part, sign, count) for part, sign in zip(inputs, node.op.signs, strict=True))
            made = _added(list(signed), count)
        elif isinstance(node.op, Concatenate):
            made = _beside(inputs, [plan.views[i].channels for i in node.inputs], repeats, count)
        else:
            assert isinstance(node.op, Activation)
            made = inputs[0]
        if (k, 0) in plan.unknowns:
            alpha, own = plan.unknowns[k, 0].alpha, unknown((k, 0), made)
            made = _added([_scaled(made, alpha, repeats, count), own], count) if alpha.any() else own
        elif isinstance(node.op, Activation):  # one slope
            slope = node.op.alpha.reshape(plan.views[k].channels, -1)[:, 0]
            made = _scaled(made, slope, repeats, count)
        values[k] = made
    out, top = _leveled(values[end])
    widths = tuple(width[v] for v, _ in variables)
    return Segment(tuple(variables), widths, tuple(arguments), out, top)


def _maximum(
    k: int, entries: list[Expression], unknown: Callable[[Key, Expression], Expression], count: int
) -> Expression:
    """The maximum of expressions as a tree of pairs; of a single one itself."""
    j = 0
    while len(entries) > 1:
        left = list[Expression]()
        for a, b in zip(entries[::2], entries[1::2], strict=False):
            j += 1
            v = unknown((k, j), _added([a, _signed(b, -1, count)], count))
            left.append(_added([b, v], count))
        entries = left + entries[len(entries) - len(entries) % 2 :]
    return entries[0]


def aliases_at(plan: Plan, value: int, end: int, points: Points) -> Int[np.ndarray, "f aliases"]:
    """Numbers, in C order, of the frequencies of the torus of `value` that a frequency of the torus of `end` sees."""
    fine, ratio = plan.torus(value), _aliases(plan, value, end)
    every = np.array(list(product(*map(range, ratio)))) * plan.torus(end)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(points[:, None] + every, -1, 0)), fine))


def _aliases(plan: Plan, value: int, end: int) -> Pixels:
    here, there = plan.views[value].spacing, plan.views[end].spacing
    if any(b % a for a, b in zip(here, there, strict=True)):
        raise NotProvable("The images of a branch are coarser than those where it ends.")
    return tuple(b // a for a, b in zip(here, there, strict=True))


def symbol(T: Taps, torus: Pixels, points: Points) -> Enclosure:
    """The symbol of taps at frequencies of the torus, without the power of two."""
    z = np.ones((len(points), len(T.offsets)), complex)
    for axis, n in enumerate(torus):
        steps = points[:, axis, None] * T.offsets[:, axis] % n
        cos, sin = table(n)
        z = z * (cos[steps] + 1j * sin[steps])
    q, m, n = T.K.shape
    flat = T.K.mid.reshape(q, -1)
    rad = 1.5 * gamma(q + 16 * len(torus) + 16) * abs(flat).sum(0) + T.K.radius().reshape(q, -1).sum(0) * 1.01
    rad = (rad + 16 * (q + 2) * TINY * (flat != 0).any(0)) * GENEROUS
    mid = (np.real(z) @ flat) + 1j * (np.imag(z) @ flat)
    return enclose(mid.reshape(-1, m, n), rad.reshape(1, m, n))


def _at(T: Taps, torus: Pixels, points: Points, before: Pixels, after: Pixels) -> Symbol:
    """The matrix of a stationary map from a torus, between values with `before` and `after` aliases."""
    m, n = T.K.shape[1], T.K.shape[2]
    coarse = tuple(N // r for N, r in zip(torus, before, strict=True))
    fine = np.array(list(product(*map(range, before))))
    every = (points[:, None] + fine * coarse).reshape(-1, len(torus))
    seen = np.asarray(np.ravel_multi_index(tuple((fine % after).T), after))
    found, root = symbol(T, torus, every), prod(T.stride)
    if root > 1:
        power = root & (root - 1) == 0 and root.bit_length() % 2 == 1
        found = found * enclose(np.full((1, 1, 1), root**-0.5), 0.0 if power else 8 * UNIT)
    if len(fine) == 1:
        return Symbol(found, T.exponent)
    mid = np.zeros((len(points), prod(after), m, len(fine), n), complex)
    rad = np.zeros((1, *mid.shape[1:]))
    values, radii = found.mid.reshape(len(points), len(fine), m, n), found.rad.max(0)
    for a, b in enumerate(seen):
        mid[:, b, :, a], rad[:, b, :, a] = values[:, a], radii
    shape = prod(after) * m, len(fine) * n
    return Symbol(Enclosure(mid.reshape(-1, *shape), rad.reshape(1, *shape)), T.exponent)


def _leveled(expression: Expression) -> tuple[Expression, int]:
    """The same with one power of two taken out of all parts."""
    top = max(S.exponent for S in expression.values())
    return {v: Symbol(S.M, S.exponent - top, S.order) for v, S in expression.items()}, top


def _signed(expression: Expression, sign: int, count: int) -> Expression:
    if sign == 1:
        return expression
    return {v: Symbol(-S.explicit(count), S.exponent) for v, S in expression.items()}


def _scaled(
    expression: Expression, d: Float[np.ndarray, " channels"], repeats: int, count: int
) -> Expression:
    """Every channel times a number."""
    e = int(np.frexp(abs(d).max(initial=0.0))[1])
    column = Enclosure.exact(np.tile(d, repeats)[:, None]).shifted(-e)
    return {v: Symbol(S.explicit(count) * column, S.exponent + e) for v, S in expression.items()}


def _added(parts: Sequence[Expression], count: int) -> Expression:
    found = dict[Key, Symbol]()
    for part in parts:
        for v, S in part.items():
            if v not in found:
                found[v] = S
                continue
            e = max(found[v].exponent, S.exponent)
            own = found[v].explicit(count).shifted(found[v].exponent - e)
            found[v] = Symbol(own + S.explicit(count).shifted(S.exponent - e), e)
    return found


def _beside(parts: Sequence[Expression], channels: Sequence[int], repeats: int, count: int) -> Expression:
    """Channels one after the other, alias by alias."""
    at, total, found = np.cumsum([0, *channels]), sum(channels), list[Expression]()
    for k, part in enumerate(parts):
        moved = dict[Key, Symbol]()
        for v, S in part.items():
            E, here = S.explicit(count), slice(at[k], at[k + 1])
            n = E.shape[-1]
            mid, rad = (
                np.zeros((len(E), repeats, total, n), complex),
                np.zeros((len(E.rad), repeats, total, n)),
            )
            mid[:, :, here] = E.mid.reshape(len(E), repeats, -1, n)
            rad[:, :, here] = np.broadcast_to(E.rad, (len(rad), *E.shape[1:])).reshape(
                len(rad), repeats, -1, n
            )
            moved[v] = Symbol(Enclosure(mid.reshape(len(E), -1, n), rad.reshape(len(rad), -1, n)), S.exponent)
        found.append(moved)
    return _added(found, count)
