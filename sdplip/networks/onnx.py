"""ONNX graphs that are a chain of matrices, convolutions, pooling, activations and residual sums; the rest is refused by name."""

from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.networks.network import LINEAR, Activation, Affine, Layer, Network, known_activation
from sdplip.networks.onnx_graph import Dataflow
from sdplip.networks.onnx_images import IMAGES
from sdplip.networks.residual import Residual
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
        InvalidWeight: a node that is not covered, or a graph that is not a chain with residual sums.
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
    flow = Dataflow(known, path)
    flow.spines[inputs[0].name] = (inputs[0].name,)
    for node in graph.node:
        flow.add(node)
    output = graph.output[0].name
    flow.check_end(output)
    trail = Trail(_sample_shape(inputs[0]))
    for node in flow.between(inputs[0].name, output):
        _append(trail, node, flow)
    return trail.layers


def _append(trail: Trail, node: Any, flow: Dataflow) -> None:
    summands = flow.summands(node)
    if summands is None:
        _append_layer(trail, node, flow.known, flow.path)
        return
    ends = list[Trail]()
    for value in summands:
        ends.append(Trail(trail.shape))
        for inner in flow.between(flow.fork(node), value):
            _append(ends[-1], inner, flow)
    if node.op_type == "Sub":
        ends[1].negate()
    shapes = {end.shape for end in ends} - {None}
    shortcut, branch = sorted(ends, key=lambda end: len(end.layers))
    straight = tuple(layer for layer in shortcut.layers if isinstance(layer, LINEAR))
    if len(straight) < len(shortcut.layers):
        shortcut, branch = branch, shortcut
        straight = tuple(layer for layer in shortcut.layers if isinstance(layer, LINEAR))
    if len(straight) < len(shortcut.layers) or not branch.layers or len(shapes) > 1:
        raise flow.refusal(node)
    trail.layers.append(Residual(tuple(branch.layers), straight))
    trail.shape = next(iter(shapes), None)


def _sample_shape(value: Any) -> tuple[int, ...] | None:
    """Shape of one sample: what follows the batch, None where a number is missing."""
    numbers = [axis.dim_value for axis in value.type.tensor_type.shape.dim][1:]
    return tuple(numbers) if numbers and min(numbers) > 0 else None


def _append_layer(trail: Trail, node: Any, known: Known, path: Path) -> None:
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
