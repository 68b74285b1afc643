"""What is constant in an ONNX graph: initialisers, constants, and everything that nodes compute from them alone.

Computed are nodes of a list of operators, one by one, by onnx's own reference (plain NumPy), after their size was bounded.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, SdplipError
from sdplip.shapes import Shaped
from sdplip.weights.content import Room
from sdplip.weights.onnx_file import STANDARD, named

Arrays = Sequence["Shaped[np.ndarray, '...']"]

ELEMENTWISE = """Abs Add And BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Clip Cos DequantizeLinear Div Equal Erf
Exp Floor Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow PRelu Reciprocal
Relu Round Sigmoid Sign Sin Sqrt Sub Sum Tan Tanh Where Xor Softmax Softplus LeakyRelu Dropout Sinh Cosh"""
"""The result is as large as its operands broadcast."""
SMALLER = """ArgMax ArgMin EyeLike Flatten GatherElements ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
Concat ReduceSumSquare ReduceLogSumExp Reshape Shape Size Slice Split Squeeze Transpose Unsqueeze Trilu CumSum ScatterND NonZero
DepthToSpace SpaceToDepth LayerNormalization LpNormalization"""
"""The result is not larger than the operands together (NonZero: times the rank)."""


def _numbers(array: Any) -> list[int]:
    return [int(n) for n in np.asarray(array).reshape(-1)[:64]]


def _products(arrays: Arrays, options: Mapping[str, Any]) -> int:
    if options.get("transA") or options.get("transB"):
        return max(arrays[0].shape) * max(arrays[1].shape)
    a, b = (np.atleast_2d(array) for array in arrays[:2])
    return prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * a.shape[-2] * b.shape[-1]


def _gathered(arrays: Arrays, options: Mapping[str, Any]) -> int:
    a, index = arrays[:2]
    return a.size // max(1, a.shape[options.get("axis", 0)]) * index.size


SIZES: Mapping[str, Callable[[Arrays, Mapping[str, Any]], int]] = {
    **{
        name: lambda arrays, _: prod(np.broadcast_shapes(*(array.shape for array in arrays)))
        for name in ELEMENTWISE.split()
    },
    **{name: lambda arrays, _: sum(a.size * max(1, a.ndim) for a in arrays) for name in SMALLER.split()},
    "Constant": lambda *_: 0,  # it lies in the file
    "ConstantOfShape": lambda arrays, _: prod(_numbers(arrays[0])),
    "Expand": lambda arrays, _: prod(np.broadcast_shapes(arrays[0].shape, tuple(_numbers(arrays[1])))),
    "Gather": _gathered,
    "Gemm": _products,
    "MatMul": _products,
    "Pad": lambda arrays, options: prod(
        n + sum(map(abs, _numbers(options.get("pads", arrays[min(1, len(arrays) - 1)]))))
        for n in arrays[0].shape
    ),
    "Range": lambda arrays, _: abs(int((arrays[1] - arrays[0]) // arrays[2])) + 1,
    "Tile": lambda arrays, _: arrays[0].size * prod(_numbers(arrays[1])),
}
"""Of each operator that is computed, a bound of the entries of its result. An operand that is left out counts as one number."""


OLDER: Mapping[str, Callable[[Any, Mapping[str, Any]], np.ndarray]] = {
    "Unsqueeze": lambda a, options: np.expand_dims(a, tuple(options["axes"])),
    "Clip": lambda a, options: np.clip(a, options.get("min"), options.get("max")).astype(a.dtype),
}
"""Operators whose older form, with attributes, the reference does not compute."""


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of the node by name, text decoded."""
    from onnx import helper

    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def decode(tensor: Any) -> Shaped[np.ndarray, "..."]:
    """The array of a TensorProto."""
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def folds(node: Any) -> bool:
    """Whether a node of constants is computed here."""
    return node.domain in STANDARD and node.op_type in SIZES


def fold(
    node: Any, constants: Mapping[str, np.ndarray], version: int, room: Room, path: Path
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The outputs of a node whose inputs are constants, in the arithmetic of their types.

    Raises:
        InvalidWeight: a node that cannot be computed.
        UnreadableFile: larger than a file of this size may become.
    """
    from onnx.reference import ReferenceEvaluator

    options = attributes(node)
    if node.op_type == "Constant":
        return {node.output[0]: _constant(node, options, path)}
    arrays = [constants[name] if name else None for name in node.input]
    if node.op_type in OLDER and options:
        return {node.output[0]: OLDER[node.op_type](arrays[0], options)}
    where = f"Node {node.op_type} `{named(node)}` of `{path}`"
    if options.get("training_mode", 0) or (
        node.op_type == "Dropout" and len(arrays) > 2 and np.any(arrays[2])
    ):
        raise InvalidWeight(f"{where} is in training mode. Export the network in evaluation mode.")
    try:
        # Bounds are integers of any length: nothing overflows, nothing is computed that does not fit.
        room.take(8 * abs(SIZES[node.op_type]([np.zeros(()) if a is None else a for a in arrays], options)))
        with np.errstate(all="ignore"):
            given = {name: array for name, array in zip(node.input, arrays, strict=True) if array is not None}
            found = ReferenceEvaluator(node, opsets={"": version}).run(None, given)
    except SdplipError:
        raise
    except Exception as error:  # the reference raises anything on arrays that do not fit
        raise InvalidWeight(f"{where} of constants cannot be computed ({error}).") from None
    return {name: np.asarray(array) for name, array in zip(node.output, found, strict=False) if name}


def _constant(node: Any, options: Mapping[str, Any], path: Path) -> Shaped[np.ndarray, "..."]:
    if "value" in options:
        return decode(options["value"])
    for key, kind in (("float", np.float32), ("int", np.int64)):
        for name in (f"value_{key}", f"value_{key}s"):
            if name in options:
                return np.array(options[name], kind)
    raise InvalidWeight(f"The constant `{named(node)}` of `{path}` is neither a dense tensor nor numbers.")
