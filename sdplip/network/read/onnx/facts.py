"""What is known of an ONNX graph before any layer is read: constants, and the type and shape of every value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, Misfit
from sdplip.network.graph import Shape
from sdplip.weights.content import room_of
from sdplip.weights.onnx_constants import attributes, decode, fold, folds
from sdplip.weights.onnx_file import STANDARD, named

SMALL = 4096
"""Entries of the largest constant that shape inference is told."""
LARGEST_GRAPH = 1 << 29
"""Numbers of all values of a graph together, of a batch, those that nothing uses included."""
POOLING = ("AveragePool", "MaxPool")
CEIL = 22
"""The first operator set in which shape inference leaves out windows that begin behind the image, as all runtimes do."""


@dataclass(frozen=True, eq=False)
class Model:
    """An ONNX file that was opened.

    Attributes:
        proto: the whole ModelProto.
        graph: its GraphProto.
        version: of the standard operator set.
        ir: version of the format.
        path: of the file, for messages.
    """

    proto: Any
    graph: Any
    version: int
    ir: int
    path: Path


@dataclass(eq=False)
class Facts:
    """Of each value a constant, or its element type and shape (None where inference does not know it).

    Attributes:
        sized: whether a constant was computed from the shape of a value that is not constant.
    """

    constants: dict[str, np.ndarray] = field(default_factory=dict)
    types: dict[str, tuple[int, Shape | None]] = field(default_factory=dict)
    sized: bool = False


def initialisers(graph: Any) -> dict[str, np.ndarray]:
    """The constants that a graph holds."""
    return {tensor.name: decode(tensor) for tensor in graph.initializer}


def settle(model: Model, shapes: Mapping[str, Shape]) -> Facts:
    """The facts of a graph whose inputs have these shapes.

    Raises:
        Misfit: strict inference finds shapes that contradict each other.
        InvalidWeight: a node of constants that cannot be computed.
    """
    facts = Facts(initialisers(model.graph))
    for value in model.graph.input:
        if value.name not in facts.constants:
            facts.types[value.name] = (value.type.tensor_type.elem_type, tuple(shapes[value.name]))
    room, total = room_of(model.path), 0
    for node in model.graph.node:
        if all(not name or name in facts.constants for name in node.input) and folds(node):
            facts.constants |= fold(node, facts.constants, model.version, room, model.path)
        elif node.op_type in ("Shape", "Size") and node.domain in STANDARD:
            _measure(node, facts, model)
        else:
            _infer(node, facts, model)
            total += sum(prod(facts.types[name][1] or ()) for name in node.output if name)
            if total > LARGEST_GRAPH:
                raise InvalidWeight(f"The values of `{model.path}` are more than {LARGEST_GRAPH} numbers.")
    return facts


def _measure(node: Any, facts: Facts, model: Model) -> None:
    shape = facts.types.get(node.input[0], (0, None))[1]
    if shape is None:
        raise Misfit(
            f"The shape of `{node.input[0]}` of `{model.path}`, which a node uses, cannot be inferred."
        )
    options = attributes(node)
    part = shape[slice(options.get("start", 0), options.get("end"))]
    found = part if node.op_type == "Shape" else int(np.prod(shape))
    facts.constants[node.output[0]] = np.array(found, np.int64)
    facts.sized = True


def _infer(node: Any, facts: Facts, model: Model) -> None:
    from onnx import defs, helper, numpy_helper, shape_inference

    types, data = {}, {}
    for name in filter(None, node.input):
        if name in facts.constants:
            array = facts.constants[name]
            types[name] = helper.make_tensor_type_proto(
                helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            if array.size <= SMALL:
                data[name] = numpy_helper.from_array(array, name)
        elif name in facts.types:
            types[name] = helper.make_tensor_type_proto(*facts.types[name])
    unknown = {name: (0, None) for name in node.output if name}
    if node.domain not in STANDARD or not defs.has(node.op_type, ""):
        first = facts.types.get(node.input[0], (0, None)) if node.input else (0, None)
        facts.types |= dict.fromkeys(unknown, (first[0], None))  # a node that is refused where it is needed
        return
    version = model.version
    if node.op_type in POOLING and attributes(node).get("ceil_mode"):
        version = max(version, CEIL)
    if not defs.has(node.op_type, version, ""):
        raise InvalidWeight(
            f"Node {node.op_type} `{named(node)}` of `{model.path}` is no operator of its operator set {model.version}."
        )
    schema = defs.get_schema(node.op_type, version, "")
    if schema.deprecated:
        facts.types |= dict.fromkeys(unknown, (types[node.input[0]].tensor_type.elem_type, None))
        return
    try:
        found = shape_inference.infer_node_outputs(
            schema,
            node,
            types,
            data,
            opset_imports=[helper.make_opsetid("", version)],
            ir_version=model.ir,
        )
    except Exception as error:  # InferenceError, and what the binding makes of damaged nodes
        raise Misfit(
            f"Node {node.op_type} `{named(node)}` of `{model.path}` does not fit its inputs ({_reason(error)})."
        ) from None
    facts.types |= unknown | {name: _read(value) for name, value in found.items()}


def _read(value: Any) -> tuple[int, Shape | None]:
    tensor = value.tensor_type
    known = tensor.HasField("shape") and all(axis.HasField("dim_value") for axis in tensor.shape.dim)
    return tensor.elem_type, tuple(axis.dim_value for axis in tensor.shape.dim) if known else None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).removeprefix("[ShapeInferenceError] ").rstrip(".")
