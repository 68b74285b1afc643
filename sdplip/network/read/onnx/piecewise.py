"""Piecewise linear functions written out with Where, Sign, Abs and comparisons: leaky ReLU, thresholds, soft shrinkage.

A function is known by its knots, the line on each piece between them, and its values at the knots. All arithmetic is that of
floats; what does not come out exactly continuous is not recognised.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from sdplip.network.read import maps
from sdplip.network.read.arrays import Array, shift
from sdplip.weights.onnx_constants import attributes

Line = tuple[float, float]
MOST = 8
"""Knots of the longest function that is followed."""


@dataclass(frozen=True)
class Broken:
    """$m_k x + b_k$ between knots k - 1 and k, and values at the knots."""

    knots: tuple[float, ...]
    lines: tuple[Line, ...]
    points: tuple[float, ...]

    def line(self, x: float) -> Line:
        """The piece around a number that is no knot."""
        return self.lines[bisect_left(self.knots, x)]

    def __call__(self, x: float) -> float:
        if x in self.knots:
            return self.points[self.knots.index(x)]
        m, b = self.line(x)
        return m * x + b

    @property
    def is_continuous(self) -> bool:
        ends = zip(self.knots, self.lines[:-1], self.lines[1:], self.points, strict=True)
        return all(m * x + b == p == n * x + c for x, (m, b), (n, c), p in ends)


def line(m: float, b: float) -> Broken:
    return Broken((), ((m, b),), ())


def combined(
    functions: Sequence[Broken],
    how: Callable[..., float],
    lines: Callable[..., Line],
    extra: Sequence[float] = (),
) -> Broken:
    """A function of the values of several, which on every piece makes lines of lines."""
    knots = sorted({*(x for f in functions for x in f.knots), *extra})
    ends = [-np.inf, *knots, np.inf]
    made = tuple(lines(_inside(a, b), *(f.line(_inside(a, b)) for f in functions)) for a, b in pairwise(ends))
    found = Broken(tuple(knots), made, tuple(how(*(f(x) for f in functions)) for x in knots))
    return _simplified(found)


def _inside(a: float, b: float) -> float:
    if np.isinf(a):
        return b - 1 - abs(b) if np.isfinite(b) else 0.0
    return a + 1 + abs(a) if np.isinf(b) else (a + b) / 2


def _simplified(f: Broken) -> Broken:
    """Without knots where nothing happens."""
    kept = [
        k
        for k, x in enumerate(f.knots)
        if f.lines[k] != f.lines[k + 1] or f.points[k] != f.lines[k][0] * x + f.lines[k][1]
    ]
    lines = (f.lines[0], *(f.lines[k + 1] for k in kept))
    return Broken(tuple(f.knots[k] for k in kept), lines, tuple(f.points[k] for k in kept))


def _zeros(f: Broken) -> list[float]:
    """Where a function may change its sign between its knots."""
    return [-b / m for m, b in f.lines if m]


def _sum(f: Broken, g: Broken, sign: float = 1.0) -> Broken:
    return combined(
        (f, g), lambda a, b: a + sign * b, lambda _, p, q: (p[0] + sign * q[0], p[1] + sign * q[1])
    )


def _product(f: Broken, g: Broken) -> Broken | None:
    """Of functions one of which is constant on every common piece."""
    found = combined((f, g), lambda a, b: a * b, _line_product)
    return None if any(np.isnan(m) for m, _ in found.lines) else found


def _line_product(_: float, p: Line, q: Line) -> Line:
    if p[0] and q[0]:
        return np.nan, np.nan
    return p[0] * q[1] + p[1] * q[0], p[1] * q[1]


def _sign(f: Broken) -> Broken:
    return combined(
        (f,),
        lambda a: float(np.sign(a)),
        lambda x, p: (0.0, float(np.sign(p[0] * x + p[1]))),
        _zeros(f),
    )


def _abs(f: Broken) -> Broken | None:
    return _product(f, _sign(f))


def _where(c: Broken, f: Broken, g: Broken) -> Broken:
    """f where c is 1, g where it is 0."""
    return combined((c, f, g), lambda a, p, q: p if a else q, lambda _, a, p, q: p if a[1] else q)


def _compared(f: Broken, g: Broken, holds: Callable[[float], bool]) -> Broken:
    """1 where the difference of two functions has the sign that is asked for, else 0."""
    s = _sign(_sum(f, g, -1.0))
    return combined((s,), lambda a: float(holds(a)), lambda _, p: (0.0, float(holds(p[1]))))


Rule = Callable[..., Broken | None]
RULES: Mapping[str, Rule] = {
    "Identity": lambda f: f,
    "Add": _sum,
    "Sub": lambda f, g: _sum(f, g, -1.0),
    "Mul": _product,
    "Neg": lambda f: _product(f, line(0.0, -1.0)),
    "Abs": _abs,
    "Sign": _sign,
    "Relu": lambda f: _where(_compared(f, line(0.0, 0.0), lambda s: s > 0), f, line(0.0, 0.0)),
    "Where": _where,
    "Greater": lambda f, g: _compared(f, g, lambda s: s > 0),
    "GreaterOrEqual": lambda f, g: _compared(f, g, lambda s: s >= 0),
    "Less": lambda f, g: _compared(f, g, lambda s: s < 0),
    "LessOrEqual": lambda f, g: _compared(f, g, lambda s: s <= 0),
    "Not": lambda f: _sum(line(0.0, 1.0), f, -1.0),
    "And": _product,
}


def broken(
    name: str,
    base: str,
    makers: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
    known: dict[str, Broken | None] | None = None,
    depth: int = 10,
) -> Broken | None:
    """The value `name` as a piecewise linear function of the value `base`; None where it is not one."""
    known = {base: line(1.0, 0.0)} if known is None else known
    if name not in known:
        known[name] = _broken(name, base, makers, constants, known, depth)
    return known[name]


def _broken(
    name: str,
    base: str,
    makers: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
    known: dict[str, Broken | None],
    depth: int,
) -> Broken | None:
    if name in constants:
        c = constants[name]
        return line(0.0, float(c.reshape(()))) if c.size == 1 and np.isfinite(c).all() else None
    node = makers.get(name)
    if node is None or not depth or node.op_type not in RULES or name != node.output[0] or attributes(node):
        return None
    parts = [broken(i, base, makers, constants, known, depth - 1) for i in node.input]
    found = None if None in parts else RULES[node.op_type](*parts)
    return found if found is not None and len(found.knots) <= MOST else None


def layer_of(f: Broken) -> Callable[[Array], Array] | None:
    """The layer that a function is: of one bend, soft shrinkage, or limits."""
    if not f.is_continuous or not np.isfinite(np.array(f.lines)).all():
        return None
    slopes = [m for m, _ in f.lines]
    if len(f.knots) == 1 and slopes[1] == 1.0:
        (knot,), (height,) = f.knots, f.points
        return lambda x: shift(
            maps.activation(shift(x, np.array(-knot)), "leaky_relu", negative_slope=slopes[0]),
            np.array(height),
        )
    if len(f.knots) == 1 and slopes[0] == 1.0:
        (knot,), (height,) = f.knots, f.points
        return lambda x: shift(
            maps.negated(
                maps.activation(
                    shift(maps.negated(x), np.array(knot)), "leaky_relu", negative_slope=slopes[1]
                )
            ),
            np.array(height),
        )
    if slopes == [1.0, 0.0, 1.0] and sum(f.knots) == 0.0 and f.points == (0.0, 0.0):
        return lambda x: maps.activation(x, "softshrink", lambd=max(f.knots))
    if slopes == [0.0, 1.0, 0.0] and f.points == f.knots:
        return lambda x: maps.clip(x, *f.knots)
    return None
