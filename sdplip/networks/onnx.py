"""ONNX graphs that are a single chain of matrices, convolutions, pooling and activations; the rest is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.networks.network import Activation, Affine, Layer, Network, known_activation
from sdplip.networks.onnx_images import IMAGES
from sdplip.networks.trail import Trail
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
"""Nodes that rearrange nothing within one sample; Dropout is the identity at inference."""


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
    inputs = [value for value in graph.input if value.name not in known.arrays]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InvalidWeight(f"`{path}` must have one input and one output to be a chain of layers.")
    current, trail = inputs[0].name, Trail(_sample_shape(inputs[0]))
    for node in graph.node:
        known.fold(node)
        if node.output[0] in known.arrays or node.output[0] in known.computed:
            continue
        if current not in node.input or sum(name not in known.arrays for name in node.input if name) != 1:
            raise InvalidWeight(
                f"Node {node.op_type} `{node.name or node.output[0]}` of `{path}` does not continue the chain of layers."
                " Only networks without branches are covered."
            )
        _append(trail, node, known, path)
        current = node.output[0]
    if current != graph.output[0].name:
        raise InvalidWeight(f"The output of `{path}` is not the end of its chain of layers.")
    return trail.layers


def _sample_shape(value: Any) -> tuple[int, ...] | None:
    """Shape of one sample: what follows the batch, None where a number is missing."""
    numbers = [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
    return tuple(numbers) if numbers and min(numbers) > 0 else None


def _append(trail: Trail, node: Any, known: Known, path: Path) -> None:
    kind, layers = node.op_type, trail.layers
    if kind == "Gemm":
        if attributes(node).get("beta", 1.0) != 1.0:
            raise refusal(node, path, "with `beta` other than 1 ")
        bias = known.arrays[node.input[2]][1].reshape(-1) if len(node.input) > 2 and node.input[2] else None
        for weight in gemm(node, known, path):
            trail.affine(weight.array, bias)
    elif kind == "MatMul":
        for weight in matmul(node, known, path):
            trail.affine(weight.array, None)
    elif kind == "Add" and layers and isinstance(layers[-1], Affine) and layers[-1].b is None:
        b = next(known.arrays[name][1] for name in node.input if name in known.arrays)
        layers[-1] = Affine(layers[-1].W, np.zeros(len(layers[-1].W)) + b.reshape(-1))
    elif kind in ACTIVATIONS:
        trail.add(known_activation(ACTIVATIONS[kind]))
    elif kind == "LeakyRelu":
        slope = float(attributes(node).get("alpha", 0.01))
        trail.add(Activation(min(slope, 1.0), max(slope, 1.0), "leaky_relu"))
    elif kind in IMAGES:
        IMAGES[kind](trail, node, known, path)
    elif kind == "Flatten":
        if attributes(node).get("axis", 1) != 1:
            raise refusal(node, path, "with `axis` other than 1 ")
        trail.flatten()
    elif kind in ("Reshape", "Squeeze", "Unsqueeze"):
        trail.flatten()  # the same numbers in the same order; layers of images behind it are refused
    elif kind not in SHAPES:
        raise refusal(node, path, "")


def refusal(node: Any, path: Path, how: str) -> InvalidWeight:
    """The error that names the node."""
    return InvalidWeight(
        f"Node {node.op_type} `{node.name or node.output[0]}` of `{path}` {how}is not covered. Covered are Gemm, MatMul,"
        f" Add of a bias, LeakyRelu, {', '.join(sorted({*ACTIVATIONS, *SHAPES, *IMAGES}))}."
    )
