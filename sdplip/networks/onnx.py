"""ONNX graphs that are a single chain of Gemm, MatMul, Add and activations. What is not understood is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.networks.network import Activation, Affine, Layer, Network, known_activation
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.onnx import open_graph
from sdplip.weights.onnx_nodes import Known, attributes, decode, gemm, matmul

ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Abs": "abs",
}
SHAPES = {"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Dropout"}
"""Nodes that rearrange nothing within one sample of a chain of matrices; Dropout is the identity at inference."""


def from_onnx(path: str | Path) -> Network:
    """The network of an ONNX file.

    Raises:
        InvalidWeight: a node that is not covered, or a graph that is not a single chain.
        UnreadableFile, MissingDependency: as for `sdplip.weights.read`.
    """
    path = Path(path)
    with refuse_damaged(path, "ONNX"):
        return Network(tuple(_chain(open_graph(path), path)))


def _chain(graph: Any, path: Path) -> list[Layer]:
    known = Known({tensor.name: (tensor.name, decode(tensor)) for tensor in graph.initializer}, {}, {})
    inputs = [value.name for value in graph.input if value.name not in known.arrays]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InvalidWeight(f"`{path}` must have one input and one output to be a chain of layers.")
    current, layers = inputs[0], list[Layer]()
    for node in graph.node:
        known.fold(node)
        if node.output[0] in known.arrays or node.output[0] in known.computed:
            continue
        if current not in node.input or sum(name not in known.arrays for name in node.input if name) != 1:
            raise InvalidWeight(
                f"Node {node.op_type} `{node.name or node.output[0]}` of `{path}` does not continue the chain of layers."
                " Only networks without branches are covered."
            )
        _append(layers, node, known, path)
        current = node.output[0]
    if current != graph.output[0].name:
        raise InvalidWeight(f"The output of `{path}` is not the end of its chain of layers.")
    return layers


def _append(layers: list[Layer], node: Any, known: Known, path: Path) -> None:
    kind = node.op_type
    if kind == "Gemm":
        if attributes(node).get("beta", 1.0) != 1.0:
            raise _refusal(node, path, "with `beta` other than 1 ")
        bias = known.arrays[node.input[2]][1].reshape(-1) if len(node.input) > 2 and node.input[2] else None
        layers += [Affine(weight.array, bias) for weight in gemm(node, known, path)]
    elif kind == "MatMul":
        layers += [Affine(weight.array) for weight in matmul(node, known, path)]
    elif kind == "Add" and layers and isinstance(layers[-1], Affine) and layers[-1].b is None:
        b = next(known.arrays[name][1] for name in node.input if name in known.arrays)
        layers[-1] = Affine(layers[-1].W, np.zeros(len(layers[-1].W)) + b.reshape(-1))
    elif kind in ACTIVATIONS:
        layers.append(known_activation(ACTIVATIONS[kind]))
    elif kind == "LeakyRelu":
        slope = float(attributes(node).get("alpha", 0.01))
        layers.append(Activation(min(slope, 1.0), max(slope, 1.0), "leaky_relu"))
    elif kind not in SHAPES:
        raise _refusal(node, path, "")


def _refusal(node: Any, path: Path, how: str) -> InvalidWeight:
    return InvalidWeight(
        f"Node {node.op_type} `{node.name or node.output[0]}` of `{path}` {how}is not covered. Covered are Gemm, MatMul,"
        f" Add of a bias, LeakyRelu, {', '.join(sorted({*ACTIVATIONS, *SHAPES}))}."
    )
