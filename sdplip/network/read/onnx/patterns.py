"""Layers that exporters write out as several nodes: GELU, SiLU, Mish, HardSwish, Softplus, ... by their expression."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np

from sdplip.network.read import maps
from sdplip.network.read.arrays import Array, scale, shift
from sdplip.network.read.onnx import piecewise
from sdplip.network.read.onnx.algebra import (
    LINEAR,
    ONE,
    RULES,
    Atom,
    Polynomial,
    X,
    argument_of,
    expression,
    function,
    near,
)
from sdplip.network.read.onnx.facts import Facts, Model
from sdplip.network.read.onnx.layers import layer
from sdplip.network.read.onnx.normalisations import normalisation

Make = Callable[[Array], Array]

ROOTS = ("Mul", "Div", "Add", "Sub", "Log", "Reciprocal", "Pow", "Sqrt", "Where", "Concat")
HINTS = (
    "Erf",
    "Sigmoid",
    "Tanh",
    "Exp",
    "Log",
    "Clip",
    "HardSigmoid",
    "Softplus",
    "Pow",
    "Sqrt",
    "Abs",
    "Relu",
)
WHERE = {"Where", "Sign"}
BASES = 24
"""Values in front of a node that are tried as the one that a layer is a function of."""


@dataclass(frozen=True)
class Found:
    """A value that is a layer of others.

    Attributes:
        bases: the values that the layer takes.
        make: the layer.
    """

    bases: tuple[str, ...]
    make: Callable[..., Array]


def recognised(model: Model, facts: Facts) -> Mapping[str, Found]:
    """Of each value that is the last of a written out layer, that layer."""
    makers = {name: node for node in model.graph.node for name in node.output if name not in facts.constants}
    found = dict[str, Found]()
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        if node.op_type not in ROOTS or name in facts.constants:
            continue
        made = layer(node, makers, facts.constants)
        whole = normalisation(node, makers, facts.constants) if made is None else None
        if made is not None:
            found[name] = Found(*made)
        elif whole is not None:
            found[name] = Found((whole[0],), whole[1])
        elif WHERE & {node.op_type, *(makers[i].op_type for i in node.input if i in makers)}:
            one = _softplus(node, makers, facts) if node.op_type == "Where" else None
            one = one or _piecewise(name, makers, facts)
            if one is not None:
                found[name] = one
        else:
            one = _elementwise(name, makers, facts)
            if one is not None:
                found[name] = one
    return found


def _elementwise(name: str, makers: Mapping[str, Any], facts: Facts) -> Found | None:
    for base in _bases(name, makers, facts.constants):
        p = expression(name, base, makers, facts.constants)
        make = None if p is None else layer_of(p)
        if make is not None:
            return Found((base,), make)
    return None


def _bases(name: str, makers: Mapping[str, Any], constants: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Values that go into `name` through elementwise nodes, the nearest first, if one of the nodes is a function."""
    seen, queue, functions = list[str](), [name], False
    while queue and len(seen) < BASES:
        node = makers.get(queue.pop(0))
        if node is None or node.op_type not in RULES:
            continue
        functions |= node.op_type in HINTS
        for value in node.input:
            if value and value not in constants and value not in seen:
                seen.append(value)
                queue.append(value)
    return iter(seen if functions else ())


def layer_of(p: Polynomial) -> Make | None:
    """The layer that a polynomial is, None if it is none that is known. Sums of products whose terms are functions by themselves
    need none."""
    terms = list(p.items())
    if len(terms) == 1:
        return _of_one_term(*terms[0])
    if len(terms) != 2 or LINEAR not in p:
        return None
    a = p[LINEAR]
    ((monomial, c),) = (term for term in terms if term[0] != LINEAR)
    atoms = dict(monomial)
    inner = _gate(atoms)
    if inner is not None and a == c:  # a x (1 + f(u))
        kind, u = inner
        k = _slope(u)
        if kind == "erf" and k is not None:
            return _scaled("gelu", _unit(sqrt(2) * k), 2 * a)
        if kind == "tanh" and k is not None:
            return _silu(2 * k, 2 * a)
        if kind == "tanh" and (s := _gelu_tanh(u)) is not None:
            return _scaled("gelu_tanh", s, 2 * a)
    return None


def _of_one_term(monomial: tuple[tuple[Atom, int], ...], c: float) -> Make | None:
    atoms = dict(monomial)
    inner = _gate(atoms)
    if inner is not None:  # c x f(u)
        kind, u = inner
        k = _slope(u)
        if kind == "sigmoid" and k is not None:
            return _silu(k, c)
        if kind == "sigmoid" and (s := _gelu_tanh({m: v / 2 for m, v in u.items()})) is not None:
            return _scaled("gelu_tanh", s, c)
        if kind == "tanh" and u == function("softplus", {LINEAR: 1.0}):
            return _scaled("mish", 1.0, c)
        if kind == "recip" and u == {ONE: 1.0, **function("abs", {LINEAR: 1.0})}:
            return _scaled("softsign", 1.0, c)
    if len(atoms) == 2 and atoms.get(X) == 1:
        return _hard_swish(next(atom for atom in atoms if atom != X), atoms, c)
    for kind in ("sigmoid", "softplus", "logsigmoid", "abs"):
        u = argument_of(monomial, kind)
        if u is not None and LINEAR in u and set(u) <= {LINEAR, ONE}:
            return _plain(kind, u[LINEAR], u.get(ONE, 0.0), c)
    return None


def _plain(name: str, k: float, m: float, c: float) -> Make:
    """$c f(k x + m)$."""

    def make(x: Array) -> Array:
        y = maps.activation(shift(scale(x, np.array(k)), np.array(m)), name)
        return scale(y, np.array(c))

    return make


def _gate(atoms: Mapping[Atom, int]) -> tuple[str, Polynomial] | None:
    """f and u, where the atoms are x f(u)."""
    if len(atoms) != 2 or atoms.get(X) != 1:
        return None
    ((name, _, u, *more), n), *_ = ((atom, k) for atom, k in atoms.items() if atom != X)
    return (name, u.polynomial) if n == 1 and not more else None


def _slope(u: Polynomial) -> float | None:
    """k, where u is k x."""
    return u[LINEAR] if set(u) == {LINEAR} else None


def _unit(s: float) -> float:
    """1 where a factor is 1 but for the rounding of a constant to 32 bits."""
    return 1.0 if near(s, 1.0) else s


def _gelu_tanh(u: Polynomial) -> float | None:
    """s, where u is $\\sqrt{2 / \\pi} (s x + 0.044715 (s x)^3)$."""
    cube = ((X, 3),)
    if set(u) != {LINEAR, cube}:
        return None
    s = _unit(u[LINEAR] / sqrt(2 / pi))
    return s if near(u[cube], sqrt(2 / pi) * 0.044715 * s**3) else None


def _hard_swish(atom: Atom, atoms: Mapping[Atom, int], c: float) -> Make | None:
    """c x clip(u, 0, h) is HardSwish of x where c clip(u, 0, h) is clip(x / 6 + 1 / 2, 0, 1)."""
    if atom[0] != "clip" or atoms[atom] != 1 or set(atom[2].polynomial) != {LINEAR, ONE}:
        return None
    u, (low, high) = atom[2].polynomial, atom[3:]
    height = c * high
    if low == 0.0 and high > 0 and near(u[LINEAR] / high, 1 / 6) and near(u[ONE] / high, 0.5):
        return _scaled("hardswish", 1.0, _unit(height))
    return None


def _scaled(name: str, k: float, c: float) -> Make:
    """$c\\,x\\,g(k x)$ of a layer $f(x) = x g(x)$: f of k x, times c / k."""

    def make(x: Array) -> Array:
        y = maps.activation(scale(x, np.array(k)), name)
        return scale(y, np.array(c / k), error=0.0 if k == 1.0 else 2.0**-53)

    return make


def _silu(k: float, c: float) -> Make:
    """$c\\,x\\,\\mathrm{sigmoid}(k x)$."""
    return lambda x: scale(maps.silu(x, k), np.array(c))


def _softplus(node: Any, makers: Mapping[str, Any], facts: Facts) -> Found | None:
    """Where(k x > t, x, softplus(k x) / k), as torch's newer exporter writes it; what t does is told to the function."""
    question = makers.get(node.input[0])
    if question is None or question.op_type != "Greater" or question.input[1] not in facts.constants:
        return None
    base, limit = node.input[1], facts.constants[question.input[1]]
    u = expression(question.input[0], base, makers, facts.constants)
    below = expression(node.input[2], base, makers, facts.constants)
    if u is None or set(u) != {LINEAR} or u[LINEAR] <= 0 or limit.size != 1:
        return None
    k, t = u[LINEAR], float(limit.reshape(()))
    if below != dict.fromkeys(function("softplus", {LINEAR: k}), 1 / k):
        return None
    return Found((base,), lambda x: maps.activation(x, "softplus", beta=k, threshold=t))


def _piecewise(name: str, makers: Mapping[str, Any], facts: Facts) -> Found | None:
    seen, queue = list[str](), [name]
    while queue and len(seen) < BASES:
        node = makers.get(queue.pop(0))
        if node is None or node.op_type not in piecewise.RULES:
            continue
        for base in node.input:
            if base in facts.constants or base in seen:
                continue
            seen.append(base)
            queue.append(base)
            f = piecewise.broken(name, base, makers, facts.constants)
            make = None if f is None else piecewise.layer_of(f)
            if make is not None:
                return Found((base,), make)
    return None
