"""What one ONNX node says about its weight: side, transposition, factor, and the geometry of a convolution."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.weights.weight import Weight

UNCOVERED = {"ConvTranspose", "DeformConv", "LSTM", "GRU", "RNN", "QGemm", "QLinearConv", "QLinearMatMul"}
UNCOVERED |= {"ConvInteger", "MatMulInteger", "MatMulNBits"}
PADDING_MODES = {"constant": "zeros", "wrap": "circular", "reflect": "reflect", "edge": "replicate"}
RELABEL: dict[str, Callable[[np.ndarray, dict[str, Any]], np.ndarray]] = {
    "Identity": lambda array, _: array,
    "Transpose": lambda array, options: array.transpose(options.get("perm")),
    "Cast": lambda array, options: _cast(array, options["to"]),
}


@dataclass(frozen=True)
class Known:
    """What is constant in a graph up to some node.

    Attributes:
        arrays: value name -> (name of the initialiser behind it, array).
        computed: value name -> what computes it from constants (it is constant too, but not evaluated here).
        pads: value name -> the Pad node that made it.
    """

    arrays: dict[str, tuple[str, np.ndarray]]
    computed: dict[str, str]
    pads: dict[str, Any]

    def fold(self, node: Any) -> None:
        """Adds the outputs of `node`: the values of Constant, Identity, Transpose and Cast, a remark of the others."""
        inputs = [name for name in node.input if name]
        if node.op_type == "Pad":
            self.pads[node.output[0]] = node
        if node.op_type == "Constant":
            array = _constant(node)
            if array is not None:
                self.arrays[node.output[0]] = (node.output[0], array)
        elif node.op_type in RELABEL and inputs[0] in self.arrays:
            name, array = self.arrays[inputs[0]]
            self.arrays[node.output[0]] = (name, RELABEL[node.op_type](array, attributes(node)))
        elif inputs and all(name in self.arrays or name in self.computed for name in inputs):
            self.computed.update(dict.fromkeys(node.output, f"`{node.op_type}`"))


def attributes(node: Any) -> dict[str, Any]:
    """The attributes of the node by name, text decoded."""
    from onnx import helper

    values = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def decode(tensor: Any) -> np.ndarray:
    """The array of a TensorProto, bfloat16 widened to float32."""
    from onnx import numpy_helper

    array = numpy_helper.to_array(tensor)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _constant(node: Any) -> np.ndarray | None:
    options = attributes(node)
    if "value" in options:
        return decode(options["value"])
    numbers = [
        options[key] for key in ("value_float", "value_floats", "value_int", "value_ints") if key in options
    ]
    if not numbers:
        return None
    array = np.array(numbers[0])
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _cast(array: np.ndarray, to: int) -> np.ndarray:
    from onnx import helper

    cast = array.astype(helper.tensor_dtype_to_np_dtype(to))
    return cast.astype(np.float32) if cast.dtype.name == "bfloat16" else cast


def _operand(node: Any, known: Known, path: Path) -> tuple[bool, str, np.ndarray] | None:
    """Whether the constant operand of a product stands on the right, its name and its array; None without exactly one."""
    constant = [name in known.arrays or name in known.computed for name in node.input[:2]]
    if sum(constant) != 1:
        return None
    return constant[1], *_weight_array(node, node.input[int(constant[1])], known, path)


def _weight_array(node: Any, value: str, known: Known, path: Path) -> tuple[str, np.ndarray]:
    if value in known.arrays:
        return known.arrays[value]
    origin = known.computed.get(value, "the input of the network")
    raise InvalidWeight(
        f"The weight `{value}` of {node.op_type} node `{node.name or node.output[0]}` in `{path}` is computed from {origin}."
        " Export it as a plain constant (fold constants, do not quantise)."
    )


def gemm(node: Any, known: Known, path: Path) -> Iterator[Weight]:
    """The weight of `alpha * A' @ B' + C` with exactly one constant among A and B, `alpha` multiplied in exactly."""
    operand = _operand(node, known, path)
    if operand:
        on_right, name, array = operand
        options = attributes(node)
        W = array if on_right == bool(options.get("transB" if on_right else "transA", 0)) else array.T
        yield Weight(name, _times(options.get("alpha", 1.0), W, name, path))


def matmul(node: Any, known: Known, path: Path) -> Iterator[Weight]:
    """The weight of `A @ B` with exactly one constant among A and B: `B.T` on the right, `A` on the left."""
    operand = _operand(node, known, path)
    if operand:
        on_right, name, array = operand
        matrix = array.reshape(array.shape[array.ndim - 2 :] if set(array.shape[:-2]) <= {1} else array.shape)
        if matrix.ndim > 2 or matrix.ndim == 0:
            raise InvalidWeight(
                f"`{name}` in `{path}` is a stack of matrices, shape {array.shape}. Save each as a matrix of its own in .npz."
            )
        yield Weight(name, matrix[None] if matrix.ndim == 1 else matrix.T if on_right else matrix)


def conv(node: Any, known: Known, path: Path) -> Iterator[Weight]:
    """The kernel of a convolution and its geometry, a Pad node before it included."""
    name, kernel = _weight_array(node, node.input[1], known, path)
    if not 3 <= kernel.ndim <= 5:
        raise InvalidWeight(
            f"`{name}` in `{path}` is a kernel of shape {kernel.shape}. Only 1 to 3 image axes are covered."
        )
    options, axes = attributes(node), kernel.ndim - 2
    dilation = tuple(options.get("dilations", (1,) * axes))
    mode, pads = _pad_node(known.pads.get(node.input[0]), known, axes)
    own = options.get("pads", (0,) * 2 * axes)
    same = options.get("auto_pad", "NOTSET").startswith("SAME")
    both = [(own[i] + pads[i], own[axes + i] + pads[axes + i]) for i in range(axes)]
    reach = tuple(d * (k - 1) for d, k in zip(dilation, kernel.shape[2:], strict=True))
    geometry = Geometry(
        stride=tuple(options.get("strides", (1,) * axes)),
        padding_mode=mode,
        padding=None if same else _padding(both, reach),
        dilation=dilation,
        groups=options.get("group", 1),
    )
    yield Weight(name, kernel, geometry)


def _padding(both: Sequence[tuple[int, int]], reach: tuple[int, ...]) -> tuple[int, ...] | None:
    """Padding of each side; of unequal sides None where they add up to "same", else the larger one.

    Zero padding of any amount is covered by the same certificate, so the choice cannot make a bound wrong.
    """
    if all(begin == end for begin, end in both) or tuple(map(sum, both)) != reach:
        return tuple(map(max, both))
    return None


def _pad_node(pad: Any, known: Known, axes: int) -> tuple[str, Sequence[int]]:
    """Padding mode and pads that a Pad node before the convolution adds; zeros of unknown width count as none."""
    if pad is None:
        return "zeros", (0,) * 2 * axes
    options = attributes(pad)
    widths = options.get("pads")
    if widths is None and len(pad.input) > 1 and pad.input[1] in known.arrays:
        widths = known.arrays[pad.input[1]][1].tolist()
    mode = PADDING_MODES.get(options.get("mode", "constant"), "unknown")
    if widths is None or len(widths) != 2 * (axes + 2):
        return mode, (0,) * 2 * axes
    return mode, [*widths[2 : axes + 2], *widths[axes + 4 :]]


def _times(alpha: float, W: np.ndarray, name: str, path: Path) -> np.ndarray:
    """`alpha * W` without rounding: both are float32, or `alpha` is a power of two, or it is refused."""
    if alpha == 1.0:
        return W
    if W.dtype == np.float64 and abs(math.frexp(alpha)[0]) != 0.5:
        raise InvalidWeight(
            f"`{name}` in `{path}` is float64 and multiplied by alpha = {alpha}. Fold alpha into the weight."
        )
    return W.astype(np.float64) * alpha


LAYERS: dict[str, Callable[[Any, Known, Path], Iterator[Weight]]] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "Conv": conv,
}
