r"""Maxima over windows and sorted groups on a region: which entries can win, and lines around what does.

Of a window let * be the entry of the largest centre and $u_k = x_k - x_*$ with proven ends. An entry with $u_k \le 0$, or below
the lower end of another one, never needs to be looked at. For weights $w \ge 0$ the maximum is at most $\sum_k w_k x_k + t$ with

    t = max_k (1 - w_k) high(u_k) - sum_{j != k} w_j low(u_j),

as $x_k - \sum_j w_j x_j = u_k - \sum_j w_j u_j$ where the weights have the sum 1; the same holds with the ends of x instead of u.
It is at least $x_*$, and any mean of the entries. Minima are maxima of the negatives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.rounding import TINY, UNIT
from sdplip.kernel.reach.relaxed import Lines, Relaxed
from sdplip.kernel.reach.state import State
from sdplip.network import Maximum, Sort
from sdplip.shapes import Bool, Float, Int

Ends = tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]
Index = Int[np.ndarray, "m size"]
Apart = Callable[[Int[np.ndarray, " k"], Int[np.ndarray, " k"]], Ends]
"""Proven ends of entry a minus entry b, for vectors of entries."""


LARGE = 64
"""Of sorted groups of more entries no lines are kept: they would take a square of their size."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows and what can win in them.

    Attributes:
        index: the entries; those that count for nothing repeat the entry `star`.
        star: column of the entry of the largest centre.
        wins: which entries may be the largest; * always may.
    """

    index: Index
    star: Int[np.ndarray, " m"]
    wins: Bool[np.ndarray, "m size"]
    u: Ends


def maximum(op: Maximum, z: State, apart: Apart) -> tuple[Index, Relaxed]:
    """The windows without entries that cannot win, -1 in their place, and lines around the maxima."""
    found = _windows(op.index, z, apart)
    lowest = np.where(op.index < 0, -np.inf, z.low[op.index]).max(1)
    highest = np.where(op.index < 0, -np.inf, z.high[op.index]).max(1)
    return np.where(found.wins, found.index, -1), _above(found, z, lowest, highest)


def sort(op: Sort, z: State, apart: Apart) -> tuple[Int[np.ndarray, " n"], Index, Relaxed]:
    """A permutation, the groups that are still to be sorted behind it, and lines around the values.

    Groups whose order is proven are in place behind the permutation.
    """
    groups, n = np.asarray(op.groups), op.length
    order = np.argsort(_centers(z)[groups], 1, kind="stable")
    ranked = np.take_along_axis(groups, order, 1)
    if groups.shape[1] == 1:
        fixed = np.ones(len(groups), bool)
    else:
        _, above = apart(ranked[:, :-1].reshape(-1), ranked[:, 1:].reshape(-1))
        fixed = (above <= 0).reshape(len(groups), -1).all(1)
    place = np.arange(n)
    place[groups[fixed]] = ranked[fixed]
    loose = groups[~fixed]
    low, high = z.low[place], z.high[place]
    low[loose], high[loose] = np.sort(z.low[loose], 1), np.sort(z.high[loose], 1)
    size = loose.shape[1] if len(loose) else 1
    if size > LARGE:
        return place, loose, _by_rank(place, loose, low, high)
    index = np.repeat(place[:, None], size, 1)
    slope, floor, ceiling = np.zeros((n, size)), np.zeros(n), np.zeros(n)
    slope[:, 0] = 1.0
    lines = [Lines(slope.copy(), floor.copy(), slope.copy(), ceiling.copy()) for _ in range(3)]
    if len(loose):
        inner = loose[:, 1:-1].reshape(-1) if size > 2 else loose[:, 0]
        slope[inner] = 0.0
        if size > 2:
            floor[inner], ceiling[inner] = low[inner], high[inner]
        for line in lines:
            line.lower[inner] = line.upper[inner] = 0.0
            line.floor[inner], line.ceiling[inner] = floor[inner], ceiling[inner]
        top, bottom = loose[:, -1], loose[:, 0]
        sides = [(top, _above(_windows(loose, z, apart), z, low[top], high[top]))]
        if size > 2:
            turned = _negative(z)
            least = _above(_windows(loose, turned, _opposite(apart)), turned, -high[bottom], -low[bottom])
            sides.append((bottom, _negated(least)))
        for rows, found in sides:
            assert found.index is not None
            index[rows], slope[rows], floor[rows], ceiling[rows] = (
                found.index,
                found.slope,
                found.bottom,
                found.top,
            )
            for line, kept in zip(found.lines, lines, strict=True):
                kept.lower[rows], kept.upper[rows] = line.lower, line.upper
                kept.floor[rows], kept.ceiling[rows] = line.floor, line.ceiling
    pairs = loose if size == 2 else None
    return place, loose, Relaxed(index, slope, floor, ceiling, low, high, tuple(lines), pairs)


def _by_rank(place: Int[np.ndarray, " n"], loose: Index, low: np.ndarray, high: np.ndarray) -> Relaxed:
    """Of large groups the ends count alone."""
    slope, floor, ceiling = np.ones((len(place), 1)), np.zeros(len(place)), np.zeros(len(place))
    slope[loose], floor[loose], ceiling[loose] = 0.0, low[loose], high[loose]
    line = Lines(slope, floor, slope, ceiling)
    return Relaxed(place[:, None], slope, floor, ceiling, low, high, (line,))


def _windows(index: Index, z: State, apart: Apart) -> Windows:
    present = index >= 0
    rows = np.arange(len(index))
    star = np.where(present, _centers(z)[index], -np.inf).argmax(1)
    own = index[rows, star][:, None]
    index = np.where(present, index, own)
    low, high = np.zeros(index.shape), np.zeros(index.shape)
    columns = np.arange(index.shape[1])
    other = present & (columns != star[:, None])
    lowest = np.where(present, z.low[index], -np.inf).argmax(1)[
        :, None
    ]  # one entry that others may lie below
    below = (columns != lowest) & (z.high[index] <= np.take_along_axis(z.low[index], lowest, 1))
    asked, away = other & ~below, other & below
    if asked.any():
        low[asked], high[asked] = apart(index[asked], np.broadcast_to(own, index.shape)[asked])
    wins = (columns == star[:, None]) | (asked & (high > 0))
    low, high = np.where(away, -np.inf, low), np.where(away, 0.0, high)
    return Windows(index, star, wins, (low, high))


def _above(found: Windows, z: State, least: np.ndarray, most: np.ndarray) -> Relaxed:
    """Lines around the maxima of windows."""
    rows, shape = np.arange(len(found.index)), found.index.shape
    one = np.zeros(shape)
    one[rows, found.star] = 1.0
    choices = [one, _tournament(found, one)]
    tops = [_top(w, found, z) for w in choices]
    better = np.isfinite(tops[1]) & (tops[1] < tops[0])
    w = np.where(better[:, None], choices[1], one)
    top = np.minimum(tops[0], tops[1])
    size = np.maximum(abs(z.low), abs(z.high))[found.index]
    rounded = (2 * shape[1] + 4) * UNIT * np.where(w > 0, size, 0.0).max(1) + 4 * TINY * shape[1]
    bottom = np.where((w == one).all(1), 0.0, -rounded)
    blind = ~(np.isfinite(top) & np.isfinite(bottom))
    w, bottom = np.where(blind[:, None], 0.0, w), np.where(blind, least, bottom)
    top = np.where(blind, most, top)
    second = np.where(found.wins & (one == 0), _centers(z)[found.index], -np.inf)
    other = np.zeros(shape)
    other[rows, np.where(np.isfinite(second.max(1)), second.argmax(1), found.star)] = 1.0
    zero = np.zeros(len(rows))
    lines = tuple(
        Lines(np.where(blind[:, None], 0.0, low), np.where(blind, least, floor), w, top)
        for low, floor in ((one, zero), (w, bottom), (other, zero))
    )
    return Relaxed(found.index, w, bottom, top, least, most, lines)


def _top(w: np.ndarray, found: Windows, z: State) -> np.ndarray:
    """t of the module's formula, rounded up: the smaller one of u and of x.

    With u it needs weights of the sum 1; what they miss of it counts times the entry *.
    """
    sizes, S = np.maximum(abs(z.low), abs(z.high))[found.index], w.shape[1]
    pure = (w > 0).sum(1) == 1
    missing = np.where(pure, 0.0, 4 * S * UNIT * np.take_along_axis(sizes, found.star[:, None], 1)[:, 0])
    tops = []
    for (low, high), unit in ((found.u, missing), ((z.low[found.index], z.high[found.index]), 0.0)):
        used = np.where(w > 0, w * low, 0.0)
        each = (1 - w) * high - (used.sum(1)[:, None] - used)
        size = abs(high) + np.where(w > 0, abs(low), 0.0).sum(1)[:, None]
        each = each + (4 * S + 16) * UNIT * size + 16 * S * TINY * (1 + size)
        top = np.where(found.wins, each, -np.inf).max(1) * 1.0 + unit
        tops.append(np.where(np.isfinite(top), top + 2 * UNIT * abs(top) + 4 * TINY, np.inf))
    alone = pure & (found.wins.sum(1) == 1)
    return np.where(alone, 0.0, np.minimum(*tops))


def _tournament(found: Windows, one: np.ndarray) -> np.ndarray:
    """Weights that make t small, entry by entry: each may take the share of the chord of the larger of two. Nothing is proven."""
    w, rows = one.copy(), np.arange(len(one))
    low, high = (np.where(np.isfinite(v), v, 0.0) for v in found.u)
    for k in range(one.shape[1]):
        here = found.wins[:, k] & (found.star != k)
        most = high[:, k] - (w * low).sum(1)
        least = low[:, k] - (w * high).sum(1)
        with np.errstate(all="ignore"):
            share = np.clip(most / (most - least), 0.0, 1.0)
        share = np.where(here & np.isfinite(share), share, 0.0)
        w = w * (1 - share)[:, None]
        w[rows, k] += share
    w = w / w.sum(1, keepdims=True)
    return np.where(w < 2.0**-200, 0.0, w)


def _centers(z: State) -> np.ndarray:
    """Where an entry about is; only the choice of an order comes from it."""
    middle = np.where(np.isfinite(z.low) & np.isfinite(z.high), z.low / 2 + z.high / 2, 0.0)
    return middle if z.zonotope is None else z.zonotope.center


def _negative(z: State) -> State:
    """Ends of the negatives; of a zonotope the centre counts alone."""
    one = z.zonotope
    return State(-z.high, -z.low, None if one is None else type(one)(-one.center, {}, one.slop, one.round))


def _opposite(apart: Apart) -> Apart:
    def opposite(a: Int[np.ndarray, " k"], b: Int[np.ndarray, " k"]) -> Ends:
        low, high = apart(a, b)
        return -high, -low

    return opposite


def _negated(found: Relaxed) -> Relaxed:
    """Lines around the negatives of what `found` reads the negatives for: $-\\max(-x)$ from $\\max(-x)$."""
    lines = tuple(Lines(one.upper, -one.ceiling, one.lower, -one.floor) for one in found.lines)
    return Relaxed(found.index, found.slope, -found.top, -found.bottom, -found.most, -found.least, lines)
