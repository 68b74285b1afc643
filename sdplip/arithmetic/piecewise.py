r"""Piecewise linear functions: everything follows from knots, slopes and one value.

The extreme values on an interval lie at its ends or at knots in it. A difference quotient is a mean of the slopes of the
pieces that the interval meets.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from sdplip.arithmetic.elementwise import Array, Function, intervals, need, need_finite, outward, within
from sdplip.arithmetic.rounding import UNIT

Pieces = tuple[Array, Array, Any]


def _of(
    name: str,
    parameters: Mapping[str, float],
    value: Callable[..., Array],
    pieces: Callable[..., Pieces],
    roundings: int,
    *,
    check: Callable[..., None] = lambda **_: None,
    exact: bool = True,
) -> Function:
    """The function whose `pieces` are exact, or else known up to one rounding of the slopes."""

    def made(**given: Any) -> Pieces:
        need_finite(name, **given)
        check(**given)
        return pieces(**given)

    @lru_cache(maxsize=64)
    def of_numbers(items: tuple[tuple[str, float], ...]) -> Pieces:
        knots, s, first = made(**dict(items))
        knots.setflags(write=False)
        s.setflags(write=False)
        return knots, s, first

    def known(**given: Any) -> Pieces:
        given = {**parameters, **given}
        numbers = all(isinstance(v, float) for v in given.values())
        return of_numbers(tuple(given.items())) if numbers else made(**given)

    def slopes(**given: Any) -> tuple[Any, Any]:
        _, s, _ = known(**given)
        least, most = s.min(0), s.max(0)
        if not exact:
            least, most = outward(least, most)
            least, most = np.where(s.min(0) == 0, 0.0, least), np.where(s.max(0) == 0, 0.0, most)
        return (float(least), float(most)) if not np.ndim(least) else (least, most)

    def values(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        knots, _, _ = known(**given)
        low, high = intervals(low, high)
        with np.errstate(all="ignore"):
            found = [value(x, **given) for x in (low, high, *(np.clip(k, low, high) for k in knots))]
            least, most = np.min(found, 0), np.max(found, 0)
        if roundings:
            least, most = outward(least, most, 2 * roundings * UNIT * np.maximum(abs(least), abs(most)))
        return within((least, most), -np.inf, np.inf)

    def derivatives(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        knots, s, _ = known(**given)
        low, high = intervals(low, high)
        least, most = np.full(low.shape, np.inf), np.full(low.shape, -np.inf)
        left = -np.inf
        for k, slope in enumerate(s):
            right = knots[k] if k < len(knots) else np.inf
            met = np.where(low == high, (low <= right) & (high >= left), (low < right) & (high > left))
            least, most = (
                np.where(met, np.minimum(least, slope), least),
                np.where(met, np.maximum(most, slope), most),
            )
            left = right
        return within((least, most) if exact else outward(least, most), *slopes(**given))

    return Function(parameters, value, slopes, values, derivatives, known if exact else None, roundings)


def _stack(*rows: Any) -> Array:
    return np.stack(np.broadcast_arrays(*(np.asarray(row, np.float64) for row in rows)))


def _leaky(name: str, key: str, default: float) -> Function:
    def value(x: Array, **given: Any) -> Array:
        slope = given.get(key, default)
        return np.where(x > 0, x, np.where(np.equal(slope, 0), 0.0, slope * np.minimum(x, 0.0)))

    return _of(
        name, {key: default}, np.errstate(all="ignore")(value),
        lambda **p: (_stack(0 * abs(p[key])), _stack(p[key], 1.0 + 0 * abs(p[key])), 0.0), 1,
    )  # fmt: skip


def _ordered(low: Any, high: Any) -> None:
    need(np.all(low <= high), f"`low` must not exceed `high`, but they are {low} and {high}.")


def _clip(name: str) -> Function:
    return _of(
        name, {"low": -1.0, "high": 1.0},
        lambda x, low=-1.0, high=1.0: np.minimum(np.maximum(x, low), high),
        lambda low, high: (_stack(low, high), _stack(0 * abs(low), 1.0 + 0 * low, 0 * abs(low)), low), 0, check=_ordered,
    )  # fmt: skip


PIECEWISE: Mapping[str, Function] = {
    "identity": _of("identity", {}, lambda x: x, lambda: (_stack(0.0), _stack(1.0, 1.0), 0.0), 0),
    "relu": _of(
        "relu", {}, lambda x: np.maximum(x, 0.0), lambda: (_stack(0.0), _stack(0.0, 1.0), 0.0), 0
    ),
    "leaky_relu": _leaky("leaky_relu", "negative_slope", 0.01),
    "prelu": _leaky("prelu", "slope", 0.25),
    "relu6": _of(
        "relu6", {}, lambda x: np.clip(x, 0.0, 6.0), lambda: (_stack(0.0, 6.0), _stack(0.0, 1.0, 0.0), 0.0), 0
    ),
    "hardtanh": _clip("hardtanh"),
    "clip": _clip("clip"),
    "maximum": _of(
        "maximum", {"floor": 0.0}, lambda x, floor=0.0: np.maximum(x, floor),
        lambda floor: (_stack(floor), _stack(0 * abs(floor), 1.0 + 0 * floor), floor), 0,
    ),
    "minimum": _of(
        "minimum", {"ceiling": 0.0}, lambda x, ceiling=0.0: np.minimum(x, ceiling),
        lambda ceiling: (_stack(ceiling), _stack(1.0 + 0 * ceiling, 0 * abs(ceiling)), ceiling), 0,
    ),
    "abs": _of("abs", {}, lambda x: abs(x), lambda: (_stack(0.0), _stack(-1.0, 1.0), 0.0), 0),
    "softshrink": _of(
        "softshrink", {"lambd": 0.5},
        lambda x, lambd=0.5: np.where(x > lambd, x - lambd, np.where(x < -np.asarray(lambd), x + lambd, 0.0)),
        lambda lambd: (_stack(-lambd, lambd), _stack(1.0 + 0 * lambd, 0 * abs(lambd), 1.0 + 0 * lambd), 0.0), 1,
        check=lambda lambd: need(np.all(lambd >= 0), f"`lambd` of `softshrink` must not be negative, but is {lambd}."),
    ),
    "nactivation": _of(
        "nactivation", {"low": -1.0, "high": 0.0},
        lambda x, low=-1.0, high=0.0: x - 2 * np.minimum(np.maximum(x, low), high),
        lambda low, high: (_stack(low, high), _stack(1.0 + 0 * low, 0 * low - 1.0, 1.0 + 0 * low), -low), 1, check=_ordered,
    ),
    "hardsigmoid": _of(
        "hardsigmoid", {}, lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
        lambda: (_stack(-3.0, 3.0), _stack(0.0, 1 / 6, 0.0), 0.0), 2, exact=False,
    ),
}  # fmt: skip
"""Functions of finitely many linear pieces, by name."""
