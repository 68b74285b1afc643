"""ONNX graphs: the weights of Gemm, MatMul and Conv nodes, oriented by how the node uses them.

An initialiser alone does not say which way it acts: `MatMul(x, B)` applies the transpose of `B`. So the graph is walked.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.weights.content import room_of
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.onnx_file import STANDARD, named, open_model, opset
from sdplip.weights.onnx_nodes import LAYERS, UNCOVERED, Known, decode
from sdplip.weights.weight import Weight, checked


def read(path: Path) -> tuple[Weight, ...]:
    """The dense layers and convolutions in the order of the graph, `(out, in)` and `(out, in / groups, *taps)`.

    A weight that two nodes use in the same way is listed once, and otherwise gets "#2" after its name.

    Raises:
        UnreadableFile: truncated, damaged, or its file of external data is missing.
        InvalidWeight: no layer, a weight that is computed in the graph, or a node such as ConvTranspose or LSTM.
        MissingDependency: the package `onnx` is not installed.
    """
    with refuse_damaged(path, "ONNX"):
        model = open_model(path)
        graph = model.graph
        found = _once(_walk(graph, Known({}, {}, {}, opset(model, path), room_of(path), path), path), path)
    if not found:
        nodes = ", ".join(sorted({node.op_type for node in graph.node})[:8]) or "nothing"
        raise InvalidWeight(
            f"`{path}` holds no layer: no Gemm, MatMul or Conv node with a constant weight, but {nodes}."
            " Export the trained network with its parameters inside."
        )
    return found


def constants(path: Path) -> tuple[str, ...]:
    """The names of the arrays that the graph holds: initialisers, and matrices and kernels of Constant nodes.

    Raises:
        UnreadableFile: truncated or damaged.
        MissingDependency: the package `onnx` is not installed.
    """
    with refuse_damaged(path, "ONNX"):
        graph = open_model(path).graph
        kept = [tensor.name for tensor in graph.initializer]
        kept += [tensor.values.name for tensor in graph.sparse_initializer]
        for node in graph.node:
            wide = any(len(attribute.t.dims) > 1 for attribute in node.attribute)
            kept += list(node.output) if node.op_type == "Constant" and wide else []
        return tuple(kept)


def open_graph(path: Path) -> Any:
    """The graph of an ONNX file, its local functions inlined. Damage is the caller's to refuse, with `refuse_damaged`."""
    return open_model(path).graph


def _walk(graph: Any, outer: Known, path: Path) -> Iterator[Weight]:
    known = _with_initialisers(graph, outer)
    for node in graph.node:
        if node.domain not in STANDARD and node.op_type in {*LAYERS, *UNCOVERED, "Pad"}:
            raise InvalidWeight(
                f"Node {node.op_type} `{named(node)}` of `{path}` is of the domain `{node.domain}`, whose operators are not"
                " known. Export with standard operators only."
            )
        if node.op_type in UNCOVERED:
            raise InvalidWeight(
                f"Node `{node.name or node.output[0]}` of `{path}` is {node.op_type}, whose weight is not read as a layer."
                " Export the other layers alone, or save this one as a matrix in .npz."
            )
        if node.op_type in LAYERS:
            yield from LAYERS[node.op_type](node, known, path)
        for attribute in node.attribute:
            for branch in [attribute.g] * attribute.HasField("g") + list(attribute.graphs):
                yield from _walk(branch, known, path)
        known.fold(node)


def _with_initialisers(graph: Any, outer: Known) -> Known:
    arrays = {tensor.name: (tensor.name, decode(tensor)) for tensor in graph.initializer}
    sparse = {tensor.values.name: "a sparse initialiser" for tensor in graph.sparse_initializer}
    return replace(
        outer, arrays=outer.arrays | arrays, computed=outer.computed | sparse, pads=dict(outer.pads)
    )


def _once(found: Iterator[Weight], path: Path) -> tuple[Weight, ...]:
    weights: dict[str, Weight] = {}
    for weight in found:
        name, count = weight.name, 1
        while name in weights and not _same(weights[name], weight):
            count += 1
            name = f"{weight.name}#{count}"
        if name not in weights:
            weights[name] = Weight(name, checked(name, weight.array, path), weight.geometry)
    return tuple(weights.values())


def _same(a: Weight, b: Weight) -> bool:
    return a.geometry == b.geometry and np.array_equal(a.array, b.array)
