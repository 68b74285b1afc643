"""Points that have a pattern of hinges, or rows that say there are none: one linear program a pattern, by HiGHS. Nothing is proven here."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from sdplip.bounds.numerics.hinge_bounds import Plain
from sdplip.kernel.hinges import coarse
from sdplip.kernel.sides import Sides
from sdplip.shapes import Float, Int

SURE = 1e-9
"""How far the program must be from feasible, relative to rows of length 1, before emptiness is tried."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What a program found.

    Attributes:
        slack: how far a point lies on the right side of all decided hinges, relative to the length of their rows; negative: none does.
        base: how many of the first layers forget which of their hinges are on.
        x: that point.
        rows, weights: what adds up to something negative, as rule `patterns` names it, where there is none.
    """

    slack: float
    base: int
    x: Float[np.ndarray, " inputs"]
    rows: Int[np.ndarray, " k"]
    weights: Float[np.ndarray, " k"]

    @property
    def none(self) -> bool:
        """Whether no point has the pattern, as it seems."""
        return self.slack < -SURE


def look(plain: Plain, where: Sides, pattern: Int[np.ndarray, " hinges"]) -> Looked | None:
    """A point far inside of the pattern, or rows against it; None where the program fails."""
    found = _look(plain, where, pattern, 0)
    if found is None or not found.none or where.region is not None:
        return found
    for base in range(
        1, len(plain.layers)
    ):  # rows that cancel exactly stand in as many columns as there are, less one
        if _independent(plain, pattern, found):
            return found
        other = _look(plain, where, coarse(plain.depth, pattern[None], np.array([base]))[0], base)
        found = other if other is not None and other.none else found
    return found


def left_out(where: Sides, hinge: int, side: int) -> Looked | None:
    """The two rows against a side that the ends of a hinge on the region leave out; None where they do not."""
    if not (where.low[hinge] > 0 if side == 0 else where.high[hinge] < 0):
        return None
    N = len(where.low)
    rows = np.array([hinge, (5 if side else 4) * N + hinge])
    return Looked(-1.0, 0, np.zeros(len(where.size)), rows, np.ones(2))


def _independent(plain: Plain, pattern: Int[np.ndarray, " hinges"], found: Looked) -> bool:
    """Whether the rows have one entry more than columns that they use."""
    pattern = coarse(plain.depth, pattern[None], np.array([found.base]))
    kind, i = found.rows // plain.order, found.rows % plain.order
    y = plain.reduced(pattern)[0][0] != 0
    used = (y[i] & (kind != 1)[:, None]).any(0)
    used[plain.inputs + i[kind > 0]] = True
    return len(found.rows) == used[:-1].sum() + 1


def _look(plain: Plain, where: Sides, pattern: Int[np.ndarray, " hinges"], base: int) -> Looked | None:
    n, N = plain.inputs, plain.order
    y = plain.reduced(pattern[None])[0][0]
    decided, open_ = np.flatnonzero(pattern >= 0), np.flatnonzero(pattern < 0)
    sign = np.where(pattern[decided] == 1, 1.0, -1.0)
    unit = np.eye(N, n + N + 1, n)
    rows, names = [y[decided] * sign[:, None]], [decided]
    if len(open_):
        rows += [unit[open_], unit[open_] - y[open_]]
        names += [N + open_, 2 * N + open_]
    if len(bent := open_[where.open[open_]]):
        slope = (where.high[bent] / (where.high[bent] - where.low[bent]))[:, None]
        chord = y[bent] * slope - unit[bent]
        chord[:, -1] -= slope[:, 0] * where.low[bent]
        rows.append(chord)
        names.append(3 * N + bent)
    A, named = np.concatenate(rows), np.concatenate(names)
    columns = np.concatenate([np.arange(n), n + open_])
    lengths = np.zeros(len(A))
    lengths[: len(decided)] = np.maximum(np.linalg.norm(A[: len(decided), :-1], axis=1), 1e-12)
    found = linprog(
        np.r_[np.zeros(len(columns)), -1.0],
        A_ub=np.c_[-A[:, columns], lengths],
        b_ub=A[:, -1],
        bounds=_bounds(where, n, open_),
        method="highs",
    )
    if found.status != 0:
        return None
    weights = np.maximum(-found.ineqlin.marginals, 0.0)
    kept = weights > 1e-12 * max(float(weights.max(initial=0.0)), 1e-300)
    return Looked(float(found.x[-1]), base, found.x[:n], named[kept], weights[kept])


def _bounds(where: Sides, n: int, open_: Int[np.ndarray, " k"]) -> np.ndarray:
    """Of inputs, of the values of open hinges, and of the slack."""
    low, high = (np.full(n, -np.inf), np.full(n, np.inf)) if where.region is None else where.region.ends()
    most = np.where(where.high[open_] > 0, where.high[open_], 0.0)
    return np.c_[
        np.r_[low, np.full(len(open_), -np.inf), -np.inf], np.r_[high, most, 1.0]
    ]  # v >= 0 is one of the rows
