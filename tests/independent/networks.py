"""Small networks as lists of nodes with rational numbers, from bare arrays and from the JSON of network files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from tests.forge.graphs import _matrix, _tensor
from tests.forge.worlds import axes, convolution
from tests.independent.rational import Matrix, Vector, exact, eye, scaled, times, vector

SLOPES = {
    "relu": (0.0, 1.0), "abs": (-1.0, 1.0), "tanh": (0.0, 1.0), "identity": (1.0, 1.0), "sigmoid": (0.0, 0.25), "leaky_relu": (0.01, 1.0),
}  # fmt: skip
"""Of activations by name; leaky_relu with its default."""


@dataclass(frozen=True)
class Node:
    """One operation: `kind` is linear, slopes, equilibrium (of A), sort, lengths, softmax, maximum, sum or concatenate.

    Attributes:
        inputs: values that it takes; 0 is the input, k what node k - 1 makes.
        closed: of linear ones, whether the norm needs no proof (index maps, factors, means).
        taps: of a convolution, its kernel, on which scales of its multipliers depend.
    """

    kind: str
    inputs: tuple[int, ...]
    A: Matrix = field(default_factory=list)
    b: Vector = field(default_factory=list)
    alpha: Vector = field(default_factory=list)
    beta: Vector = field(default_factory=list)
    groups: tuple[tuple[int, ...], ...] = ()
    signs: tuple[int, ...] = ()
    closed: bool = False
    taps: np.ndarray | None = None


Nodes = list[Node]


def between(nodes: Nodes, start: int, end: int) -> Nodes:
    """The part that makes value `end` of value `start`."""
    wanted, place, found = {end}, {start: 0}, list[Node]()
    for k in range(end, start, -1):
        if k in wanted:
            wanted |= set(nodes[k - 1].inputs)
    if min(wanted) < start or not start < end:
        raise ValueError(f"value {end} is not made of value {start} alone")
    for k in sorted(wanted - {start}):
        found.append(replace(nodes[k - 1], inputs=tuple(place[i] for i in nodes[k - 1].inputs)))
        place[k] = len(found)
    return found


def followed(nodes: Nodes, rows: Matrix) -> Nodes:
    """The network with a matrix behind it."""
    return [*nodes, Node("linear", (len(nodes),), rows, [Fraction(0)] * len(rows))]


def of_arrays(arrays: Mapping[str, np.ndarray], reading: Mapping[str, Any]) -> Nodes:
    """A chain of matrices and kernels under the plain readings of the tests, or an equilibrium network."""
    if reading.get("kind") == "equilibrium":
        return _implicit(arrays, reading)
    names = list(
        reading.get("layers") or [name for name in arrays if name.endswith("weight") or name.startswith("W")]
    )
    nodes, size = Nodes(), None
    for k, name in enumerate(names):
        W, taps = np.asarray(arrays[name], np.float64), None
        W = W.T if reading.get("transpose") else W
        bias = arrays.get(name.replace("weight", "bias").replace("W", "b"), np.zeros(len(W)))
        b = np.asarray(bias, np.float64).reshape(-1)
        if W.ndim > 2:
            size, taps = axes(reading["image_size"], W.ndim - 2) if size is None else size, W
            moves = reading["geometry"][""]
            padding = axes(moves.get("padding", 1), W.ndim - 2)
            W = convolution(
                W, size, (1,) * len(size), padding, moves.get("padding_mode", "zeros"), (1,) * len(size), 1
            )
            b = np.repeat(b, len(W) // len(taps))
        nodes.append(Node("linear", (len(nodes),), exact(W), vector(b), taps=taps))
        if k < len(names) - 1:
            nodes.append(_between(reading, len(nodes), len(W)))
    return nodes


def _between(reading: Mapping[str, Any], at: int, n: int) -> Node:
    kind, _, parameter = (reading.get("activation") or "relu").partition(":")
    if kind in ("maxmin", "groupsort"):
        size = int(parameter) if parameter else 2
        return Node("sort", (at,), groups=tuple(tuple(range(k, k + size)) for k in range(0, n, size)))
    low, high = reading.get("slopes") or ((float(parameter), 1.0) if kind == "leaky_relu" else SLOPES[kind])
    return Node("slopes", (at,), alpha=[Fraction(low)] * n, beta=[Fraction(high)] * n)


def _implicit(arrays: Mapping[str, np.ndarray], reading: Mapping[str, Any]) -> Nodes:
    """z of U x + b by W, then G z + D x + b_y."""
    a = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    n, m = len(a["W"]), len(a["G"])
    low, high = SLOPES[reading.get("activation") or "relu"]
    ends = {"alpha": [Fraction(low)] * n, "beta": [Fraction(high)] * n}
    b, b_y = (vector(a.get(name, np.zeros(k)).reshape(-1)) for name, k in (("b", n), ("b_y", m)))
    nodes = [
        Node("linear", (0,), exact(a["U"]), b),
        Node("equilibrium", (1,), exact(a["W"]), **ends),
        Node("linear", (2,), exact(a["G"]), b_y),
    ]
    if "D" in a:
        nodes += [Node("linear", (0,), exact(a["D"]), [Fraction(0)] * m), Node("sum", (3, 4), signs=(1, 1))]
    return nodes


def of_file(path: Path) -> Nodes:
    """A network file."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    found = Nodes()
    for node in json.loads(header["__metadata__"]["sdplip.network"])["nodes"]:
        body, inputs = node["op"], tuple(node["inputs"])
        kind, array = body["kind"], lambda name, body=body: _tensor(body[name], header, data).tolist()
        if kind == "Activation":
            low, high = SLOPES[body["name"]]
            found.append(
                Node(
                    "slopes",
                    inputs,
                    alpha=[Fraction(low)] * body["length"],
                    beta=[Fraction(high)] * body["length"],
                )
            )
        elif kind == "Equilibrium":
            low, high = SLOPES[body["name"]]
            W = exact(np.array(array("W")))
            ends = [Fraction(low)] * len(W), [Fraction(high)] * len(W)
            found.append(Node("equilibrium", inputs, W, alpha=ends[0], beta=ends[1]))
        elif kind in ("Sum", "Concatenate"):
            found.append(Node(kind.lower(), inputs, signs=tuple(body.get("signs", ()))))
        elif kind in ("Sort", "Norms", "Grouped", "Maximum"):
            name = {"Sort": "sort", "Norms": "lengths", "Grouped": "softmax", "Maximum": "maximum"}[kind]
            rows = array("index" if kind == "Maximum" else "groups")
            found.append(Node(name, inputs, groups=tuple(tuple(i for i in row if i >= 0) for row in rows)))
        else:
            found.append(_linear(body, inputs, header, data))
    return found


def _linear(body: Mapping[str, Any], inputs: tuple[int, ...], header: Mapping[str, Any], data: bytes) -> Node:
    kind = body["kind"]
    if kind == "Average":
        index, divisor = _tensor(body["index"], header, data), _tensor(body["divisor"], header, data)
        A = [[Fraction(int((row == j).sum())) / Fraction(float(d)) for j in range(body["length"])] for row, d in zip(index, divisor, strict=True)]  # fmt: skip  # noqa: E501
    else:
        A = exact(_matrix(body, header, data))
    b = vector(_tensor(body["b"], header, data)) if "b" in body else [Fraction(0)] * len(A)
    taps = _tensor(body["K"], header, data) if kind == "Convolution" else None
    return Node(
        "linear", inputs, A, b, closed=kind in ("Average", "Gather", "Scatter", "Diagonal"), taps=taps
    )


def length_of(nodes: Nodes, value: int, inputs: int) -> int:
    """How many numbers a value has."""
    if value == 0:
        return inputs
    node = nodes[value - 1]
    first = length_of(nodes, node.inputs[0], inputs)
    if node.kind == "linear":
        return len(node.A)
    if node.kind in ("lengths", "maximum"):
        return len(node.groups)
    return sum(length_of(nodes, i, inputs) for i in node.inputs) if node.kind == "concatenate" else first


def inputs_of(nodes: Nodes) -> int:
    """Length of the input of a network that begins with a linear map."""
    return len(next(node.A for node in nodes if node.kind == "linear" and node.inputs == (0,))[0])


def linear_parts(nodes: Nodes) -> tuple[list[Matrix], list[tuple[Vector, Vector]]]:
    """The matrices of a chain between its slopes."""
    weights, slopes = [eye(inputs_of(nodes))], list[tuple[Vector, Vector]]()
    for k, node in enumerate(nodes):
        if node.inputs != (k,) or node.kind not in ("linear", "slopes"):
            raise ValueError("no chain")
        if node.kind == "linear":
            weights[-1] = times(node.A, weights[-1])
        elif node.alpha == node.beta:
            weights[-1] = scaled(weights[-1], node.alpha)
        else:
            slopes.append((node.alpha, node.beta))
            weights.append(eye(len(node.alpha)))
    return weights, slopes


def merged(nodes: Nodes) -> Nodes:
    """The network with everything linear in front of the first other node as one matrix."""
    count = next(
        (k for k, node in enumerate(nodes) if node.kind != "linear" or node.inputs != (k,)), len(nodes)
    )
    A = nodes[0].A
    for node in nodes[1:count]:
        A = times(node.A, A)
    rest = [replace(node, inputs=tuple(i - count + 1 for i in node.inputs)) for node in nodes[count:]]
    return [Node("linear", (0,), A, [Fraction(0)] * len(A)), *rest]


def values(nodes: Nodes, x: Vector) -> list[Vector]:
    """All values at a rational input, exactly: linear maps, relu, abs, leaky relu by their slopes, sorting, maxima."""
    found = [list(x)]
    for node in nodes:
        z = found[node.inputs[0]]
        if node.kind == "linear":
            y = [
                sum((a * v for a, v in zip(row, z, strict=True) if a), c)
                for row, c in zip(node.A, node.b, strict=True)
            ]
        elif node.kind == "slopes":
            y = [(b if v > 0 else a) * v for a, b, v in zip(node.alpha, node.beta, z, strict=True)]
        elif node.kind == "sort":
            y = list(z)
            for group in node.groups:
                for i, v in zip(group, sorted(z[i] for i in group), strict=True):
                    y[i] = v
        else:
            raise ValueError(f"no exact values of {node.kind}")
        found.append(y)
    return found
