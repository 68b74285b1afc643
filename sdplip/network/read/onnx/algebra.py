"""Elementwise expressions of one value as polynomials over it and over functions of it, so that equal layers look equal.

A polynomial is `{monomial: coefficient}`, a monomial the sorted powers of its atoms: the value itself, X, or a function by name
with its argument. `x / (1 + exp(-x))`, `x * Sigmoid(x)` and `Mul(Sigmoid(x), x)` are all `{X * sigmoid(X): 1}`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from sdplip.weights.onnx_constants import attributes

Atom = tuple[Any, ...]
Monomial = tuple[tuple[Atom, int], ...]
Polynomial = Mapping[Monomial, float]

X: Atom = ("x",)
ONE: Monomial = ()
LINEAR: Monomial = ((X, 1),)
DEEPEST, LONGEST = 12, 8
DIGITS = 6
"""Constants of 32 bits agree with what they round to so many digits."""

PLAIN = {
    "Erf": "erf",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Exp": "exp",
    "Abs": "abs",
    "Relu": "relu",
}


def near(a: float, b: float) -> bool:
    """Whether two numbers are the same constant, rounded to 32 bits or not."""
    return abs(a - b) <= 2.0**-21 * max(abs(a), abs(b))


def function(name: str, argument: Polynomial, *more: float) -> Polynomial:
    """A function of a polynomial, as an atom. Some have a simpler name."""
    if name == "recip" and (u := _one_plus_exp(argument)) is not None:
        return function("sigmoid", times(u, {ONE: -1.0}))
    if name == "log" and (u := _one_plus_exp(argument)) is not None:
        return function("softplus", u)
    if name == "log" and len(argument) == 1:
        ((monomial, c),) = argument.items()
        if c == 1.0 and (u := argument_of(monomial, "sigmoid")) is not None:
            return function("logsigmoid", u)
    if name == "sqrt" and argument == {((X, 2),): 1.0}:
        return function("abs", {LINEAR: 1.0})
    return {(((name, _key(argument), Hidden(argument), *more), 1),): 1.0}


@dataclass(frozen=True, eq=False)
class Hidden:
    """The polynomial behind an atom; atoms are compared by the key beside it."""

    polynomial: Polynomial

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return ""


def _key(p: Polynomial) -> str:
    """A name of a polynomial: equal where coefficients agree in so many digits."""
    terms = sorted((repr([(a[:2], a[3:], n) for a, n in m]), f"{c:.{DIGITS - 1}e}") for m, c in p.items())
    return sha256(repr(terms).encode()).hexdigest()


def argument_of(monomial: Monomial, name: str) -> Polynomial | None:
    """u, where a monomial is the function `name` of u."""
    if len(monomial) != 1 or monomial[0][1] != 1 or monomial[0][0][0] != name or len(monomial[0][0]) != 3:
        return None
    return monomial[0][0][2].polynomial


def _one_plus_exp(p: Polynomial) -> Polynomial | None:
    """u, where the polynomial is 1 + exp(u)."""
    if len(p) != 2 or set(p.values()) != {1.0} or ONE not in p:
        return None
    (monomial,) = set(p) - {ONE}
    return argument_of(monomial, "exp")


def plus(a: Polynomial, b: Polynomial) -> Polynomial:
    """The sum; coefficients that cancel to rounding are kept as they are, only exact zeros go."""
    found = dict(a)
    for monomial, c in b.items():
        found[monomial] = found.get(monomial, 0.0) + c
    return {monomial: c for monomial, c in found.items() if c}


def times(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product."""
    found = dict[Monomial, float]()
    for m, c in a.items():
        for n, d in b.items():
            powers = dict(m)
            for atom, k in n:
                powers[atom] = powers.get(atom, 0) + k
            key = tuple(sorted(((atom, k) for atom, k in powers.items() if k), key=repr))
            found[key] = found.get(key, 0.0) + c * d
    return {monomial: c for monomial, c in found.items() if c}


def inverse(p: Polynomial) -> Polynomial:
    """1 / p."""
    if len(p) == 1:
        ((monomial, c),) = p.items()
        return {tuple((atom, -k) for atom, k in monomial): 1 / c}
    return function("recip", p)


def power(p: Polynomial, exponent: float) -> Polynomial | None:
    """p to a constant power: whole numbers up to 4, 1/2, and their inverses."""
    if exponent < 0:
        positive = power(p, -exponent)
        return None if positive is None else inverse(positive)
    if exponent == 0.5:
        return function("sqrt", p)
    if exponent not in (1, 2, 3, 4):
        return None
    found = p
    for _ in range(int(exponent) - 1):
        found = times(found, p)
    return found


def expression(
    name: str,
    base: str,
    makers: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
    known: dict[str, Polynomial | None] | None = None,
    depth: int = DEEPEST,
) -> Polynomial | None:
    """The value `name` as a polynomial of the value `base`; None where it is not one, or is too long."""
    known = {base: {LINEAR: 1.0}} if known is None else known
    if name not in known:
        known[name] = _expression(name, base, makers, constants, known, depth)
    return known[name]


def _expression(
    name: str,
    base: str,
    makers: Mapping[str, Any],
    constants: Mapping[str, np.ndarray],
    known: dict[str, Polynomial | None],
    depth: int,
) -> Polynomial | None:
    if name in constants:
        c = constants[name]
        value = float(c.reshape(())) if c.size == 1 and c.dtype.kind == "f" else np.nan
        return ({ONE: value} if value else {}) if np.isfinite(value) else None
    node = makers.get(name)
    if node is None or depth == 0 or name != node.output[0] or node.op_type not in RULES:
        return None
    parts = [expression(i, base, makers, constants, known, depth - 1) if i else None for i in node.input]
    found = RULES[node.op_type](parts, attributes(node))
    return found if found is not None and len(found) <= LONGEST else None


Rule = Callable[[list[Polynomial | None], Mapping[str, Any]], Polynomial | None]


def _all(combine: Callable[..., Polynomial | None]) -> Rule:
    def rule(parts: list[Polynomial | None], options: Mapping[str, Any]) -> Polynomial | None:  # noqa: ARG001
        return None if None in parts else combine(*parts)

    return rule


def _number(p: Polynomial | None, default: float) -> float:
    return default if p is None else p.get(ONE, 0.0)


def _clip(parts: list[Polynomial | None], options: Mapping[str, Any]) -> Polynomial | None:
    if parts[0] is None or any(p is not None and not set(p) <= {ONE} for p in parts[1:]):
        return None
    limits = [
        options.get("min", 0.0),
        options.get("max", 0.0),
    ]  # a limit of 0 is no polynomial: it has no term
    low, high = (_number(p, d) for p, d in zip([*parts[1:], None, None][:2], limits, strict=True))
    return function("clip", parts[0], float(low), float(high))


def _hard_sigmoid(parts: list[Polynomial | None], options: Mapping[str, Any]) -> Polynomial | None:
    if parts[0] is None:
        return None
    inner = plus(
        times(parts[0], {ONE: float(options.get("alpha", 0.2))}), {ONE: float(options.get("beta", 0.5))}
    )
    return function("clip", inner, 0.0, 1.0)


def _minimum(*parts: Polynomial) -> Polynomial | None:
    """min(c, relu(u)) is u within 0 and c."""
    for p, q in (parts, parts[::-1]) if len(parts) == 2 else ():
        if set(q) == {ONE} and len(p) == 1:
            ((monomial, c),) = p.items()
            if c == 1.0 and (u := argument_of(monomial, "relu")) is not None:
                return function("clip", u, 0.0, q[ONE])
    return None


def _pow(p: Polynomial, q: Polynomial) -> Polynomial | None:
    return power(p, q[ONE]) if set(q) == {ONE} else None


RULES: Mapping[str, Rule] = {
    "Identity": _all(lambda p: p),
    "Neg": _all(lambda p: times(p, {ONE: -1.0})),
    "Add": _all(plus),
    "Sub": _all(lambda p, q: plus(p, times(q, {ONE: -1.0}))),
    "Mul": _all(times),
    "Div": _all(lambda p, q: times(p, inverse(q))),
    "Reciprocal": _all(inverse),
    "Pow": _all(_pow),
    "Sqrt": _all(lambda p: function("sqrt", p)),
    "Log": _all(lambda p: function("log", p)),
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Min": _all(_minimum),
    **{kind: _all(lambda p, name=name: function(name, p)) for kind, name in PLAIN.items()},
}
