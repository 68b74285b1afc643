"""What one ONNX node says about its weight: side, transposition, factor, and the geometry of a convolution."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.stored import widened
from sdplip.weights.content import Room
from sdplip.weights.onnx_constants import attributes, fold, folds
from sdplip.weights.onnx_constants import decode as decoded
from sdplip.weights.onnx_file import named
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
        version, room, path: of the operator set, of memory, and of the file, to compute nodes of constants with; a version of 0
            computes none.
    """

    arrays: dict[str, tuple[str, np.ndarray]]
    computed: dict[str, str]
    pads: dict[str, Any]
    version: int = 0
    room: Room | None = None
    path: Path = Path()

    def fold(self, node: Any) -> None:
        """Adds the outputs of `node`: its values where it can be computed from constants, else a remark that it was."""
        inputs = [name for name in node.input if name]
        if node.op_type == "Pad":
            self.pads[node.output[0]] = node
        elif node.op_type in ("Identity", "Dropout") and node.input[0] in self.pads:
            self.pads[node.output[0]] = self.pads[node.input[0]]
        if node.op_type == "Constant":
            array = _constant(node)
            if array is not None:
                self.arrays[node.output[0]] = (node.output[0], array)
        elif node.op_type in RELABEL and inputs[0] in self.arrays:
            name, array = self.arrays[inputs[0]]
            self.arrays[node.output[0]] = (name, RELABEL[node.op_type](array, attributes(node)))
        elif self.room and inputs and all(name in self.arrays for name in inputs) and folds(node):
            known = {name: self.arrays[name][1] for name in inputs}
            found = fold(node, known, self.version, self.room, self.path)
            self.arrays.update({name: (name, _plain(array)) for name, array in found.items()})
        elif inputs and all(name in self.arrays or name in self.computed for name in inputs):
            self.computed.update(dict.fromkeys(node.output, f"`{node.op_type}`"))


def decode(tensor: Any) -> np.ndarray:
    """The array of a TensorProto, bfloat16 widened to float32."""
    return _plain(decoded(tensor))


def _plain(array: np.ndarray) -> np.ndarray:
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

    return _plain(array.astype(helper.tensor_dtype_to_np_dtype(to)))


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
    auto = options.get("auto_pad", "NOTSET")
    own = options.get("pads", (0,) * 2 * axes) if auto == "NOTSET" else (0,) * 2 * axes
    reach = tuple(d * (k - 1) for d, k in zip(dilation, kernel.shape[2:], strict=True))
    mode, pads = _pad_node(known.pads.get(node.input[0]), known, axes, path)
    same = auto.startswith("SAME")
    if mode == "zeros":
        both = [(own[i] + pads[i], own[axes + i] + pads[axes + i]) for i in range(axes)]
        padding = None if same else _padding(both, reach)
    else:
        padding = _around(pads, own, same, reach, f"Conv `{named(node)}` of `{path}`")
    geometry = Geometry(
        stride=tuple(options.get("strides", (1,) * axes)),
        padding_mode=mode,
        padding=padding,
        dilation=dilation,
        groups=options.get("group", 1),
    )
    yield Weight(name, kernel, geometry)


def _padding(both: Sequence[tuple[int, int]], reach: tuple[int, ...]) -> tuple[int, ...] | None:
    """Padding with zeros of each side; of unequal sides None where they add up to "same", else the larger one.

    Zero padding of any amount is covered by the same certificate, so the choice cannot make a bound wrong.
    """
    if all(begin == end for begin, end in both) or tuple(map(sum, both)) != reach:
        return tuple(max(0, *sides) for sides in both)
    return None


def _around(
    pads: Sequence[int], own: Sequence[int], same: bool, reach: tuple[int, ...], where: str
) -> tuple[int, ...] | None:
    """Padding with pixels of the image itself, as a Pad node says; the convolution must not pad with zeros too.

    Raises:
        UnsupportedConvolution: it does, or the sides differ.
    """
    axes = len(reach)
    if any(own) or same:
        raise UnsupportedConvolution(
            f"{where} pads with zeros what a Pad node has padded around the image, which no certificate of the kernel covers."
            " Pad in one place."
        )
    begin, end = tuple(pads[:axes]), tuple(pads[axes:])
    if begin != end and tuple(a + b for a, b in zip(begin, end, strict=True)) == reach:
        return None
    if begin != end or min(begin) < 0:
        raise UnsupportedConvolution(
            f"{where} has {begin} pixels around the image before it and {end} behind, which no certificate of the kernel covers."
            " Pad both sides alike, or by the reach of the kernel in all."
        )
    return begin


def _pad_node(pad: Any, known: Known, axes: int, path: Path) -> tuple[str, Sequence[int]]:
    """Padding mode and pads that a Pad node before the convolution adds.

    Zeros are covered in any number, so that their widths need not be known.

    Raises:
        InvalidWeight: other pixels are added, in a number that the graph computes from its input, or to other axes.
    """
    none = (0,) * 2 * axes
    if pad is None:
        return "zeros", none
    options = attributes(pad)
    widths = options.get("pads")
    if widths is None and len(pad.input) > 1 and pad.input[1] in known.arrays:
        widths = known.arrays[pad.input[1]][1].reshape(-1).tolist()
    if widths is not None and len(pad.input) > 3 and pad.input[3]:
        widths = _all_axes(widths, known.arrays.get(pad.input[3]), axes + 2)
    mode = PADDING_MODES.get(options.get("mode", "constant"), "unknown")
    before = known.pads.get(pad.input[0])
    if before is not None and (mode, *_pad_node(before, known, axes, path)[:1]) != ("zeros", "zeros"):
        raise InvalidWeight(f"Pad `{named(pad)}` of `{path}` pads what is padded already. Pad in one place.")
    if widths is None or len(widths) != 2 * (axes + 2):
        if mode == "zeros":
            return mode, none
        raise InvalidWeight(
            f"How many pixels Pad `{named(pad)}` of `{path}` adds is not a constant of the graph. Export it with constant widths."
        )
    if mode != "zeros" and any((*widths[:2], *widths[axes + 2 : axes + 4])):
        raise InvalidWeight(f"Pad `{named(pad)}` of `{path}` pads samples or channels, not pixels alone.")
    if mode != "zeros" and not any(widths):
        return "zeros", none
    return mode, [*widths[2 : axes + 2], *widths[axes + 4 :]]


def _all_axes(widths: Sequence[int], axes: tuple[str, np.ndarray] | None, rank: int) -> list[int] | None:
    """The widths of all axes, where a Pad node names some."""
    if axes is None:
        return None
    found = [0] * (2 * rank)
    places = [int(k) % rank for k in axes[1].reshape(-1)]
    for i, k in enumerate(places):
        found[k], found[rank + k] = widths[i], widths[len(places) + i]
    return found


def _times(alpha: float, W: np.ndarray, name: str, path: Path) -> np.ndarray:
    """`alpha * W` without rounding: both are float32, or `alpha` is a power of two, or it is refused."""
    if alpha == 1.0:
        return W
    if W.dtype == np.float64 and abs(math.frexp(alpha)[0]) != 0.5:
        raise InvalidWeight(
            f"`{name}` in `{path}` is float64 and multiplied by alpha = {alpha}. Fold alpha into the weight."
        )
    return widened(W) * alpha


LAYERS: dict[str, Callable[[Any, Known, Path], Iterator[Weight]]] = {
    "Gemm": gemm,
    "MatMul": matmul,
    "Conv": conv,
}
