"""Products with constants, sums, and the layers made of them: Gemm, MatMul, Conv, ConvTranspose, BatchNormalization."""

from collections.abc import Mapping
from math import frexp

import numpy as np

from sdplip.network.read import images, maps
from sdplip.network.read.arrays import Array, added, scale, shift, transpose
from sdplip.network.read.onnx.operators.entry import Operator
from sdplip.network.read.onnx.operators.windows import geometry, padding
from sdplip.network.read.onnx.step import Step
from sdplip.shapes import Float


def _times(step: Step, k: int, factor: float) -> tuple[Float[np.ndarray, "..."], float]:
    """Constant k times a factor of 32 bits where that product is exact, and the factor that is left."""
    exact = abs(frexp(factor)[0]) == 0.5 or step.raw(k).dtype.itemsize <= 4
    return (step.constant(k) * factor, 1.0) if exact and factor else (step.constant(k), factor)


def _gemm(step: Step) -> Array:
    alpha, beta = step.number("alpha", 1.0), step.number("beta", 1.0)
    turned = bool(step.options.get("transA")), bool(step.options.get("transB"))
    place = int(step.is_constant(1))
    if place == 0 and not step.is_constant(0):
        step.raw(1)
    W, left = _times(step, place, alpha)
    x = step.array(1 - place)
    if x.rank != 2 or W.ndim != 2:
        step.refuse(f"needs matrices, but is given shapes {x.full} and {W.shape}.")
    x = transpose(x, (1, 0)) if turned[1 - place] else x
    y = maps.matmul(x, W.T if turned[place] else W, left=place == 0)
    y = scale(y, np.array(left))
    if not step.has(2) or beta == 0:
        return y
    if not step.is_constant(2):
        return added([y, scale(step.array(2), np.array(beta))])
    C, rest = _times(step, 2, beta)
    if rest != 1:
        step.refuse(f"has a shift in float64 and `beta` {beta}. Fold it into the shift.")
    return shift(y, C)


def _matmul(step: Step) -> Array:
    left = step.is_constant(0)
    return maps.matmul(step.array(1), step.constant(0), left=True) if left else _right(step)


def _right(step: Step) -> Array:
    return maps.matmul(step.array(0), step.constant(1))


def _conv(step: Step) -> Array:
    x, K = step.array(0), step.constant(1)
    stride, dilation, groups = geometry(step, K.shape[2:])
    if "kernel_shape" in step.options and tuple(step.options["kernel_shape"]) != K.shape[2:]:
        step.refuse(f"says `kernel_shape` {step.options['kernel_shape']}, but its kernel is {K.shape}.")
    pads, _ = padding(step, x.shape[2:], K.shape[2:], stride, dilation)
    if step.has(2) and step.constant(2).ndim != 1:
        step.refuse(f"needs a vector as its bias, but is given shape {step.constant(2).shape}.")
    return images.convolution(
        x, K, step.vector(2), stride=stride, pads=pads, dilation=dilation, groups=groups
    )


def _conv_transpose(step: Step) -> Array:
    x, K = step.array(0), step.constant(1)
    stride, dilation, groups = geometry(step, K.shape[2:])
    axes = len(stride)
    more = tuple(step.options.get("output_padding", (0,) * axes))
    own = step.options.get("pads", (0,) * 2 * axes)
    pads = tuple(zip(own[:axes], own[axes:], strict=True))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, K.shape[2:], strict=True)]
    auto = step.options.get("auto_pad", "NOTSET")
    size = step.options.get("output_shape")
    if auto.startswith("SAME") and size is None:
        size = tuple(n * s for n, s in zip(x.shape[2:], stride, strict=True))
    if auto == "VALID":
        pads = ((0, 0),) * axes
    if size is None:
        numbers = zip(x.shape[2:], stride, pads, reach, more, strict=True)
        size = tuple((n - 1) * s - sum(p) + r + o for n, s, p, r, o in numbers)
    else:
        numbers = zip(x.shape[2:], stride, reach, more, size[-axes:], strict=True)
        total = [(n - 1) * s + r + o - h for n, s, r, o, h in numbers]
        if min(total) < 0:
            step.refuse(f"makes images of {tuple(size)} pixels that are larger than what the kernel reaches.")
        upper = auto == "SAME_UPPER"
        pads = tuple((t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in total)
    if min(map(min, pads)) < 0 or min(more) < 0:
        step.refuse(f"has negative padding {pads}, {more}.")
    return images.transposed_convolution(
        x,
        K,
        step.vector(2),
        stride=stride,
        pads=pads,
        dilation=dilation,
        groups=groups,
        output_size=tuple(size[-axes:]),
    )


def _batch_norm(step: Step) -> Array:
    if step.options.get("training_mode") or step.outputs > 1 or step.options.get("spatial", 1) != 1:
        step.refuse(
            "is in training mode or normalises without sharing pixels. Export the network in evaluation mode."
        )
    vectors = (step.constant(k) for k in range(1, 5))
    return maps.batch_norm(step.array(0), *vectors, eps=step.number("epsilon", 1e-5))


def _add(step: Step) -> Array:
    return _sum(step)


def _sum(step: Step) -> Array:
    arrays = [value for value in step.values if isinstance(value, Array)]
    y = added(arrays) if len(arrays) > 1 else arrays[0]
    for k in range(len(step.values)):
        if step.is_constant(k):
            y = shift(y, step.constant(k))
    return y


def _sub(step: Step) -> Array:
    if step.is_constant(1):
        return shift(step.array(0), -step.constant(1))
    if step.is_constant(0):
        return shift(maps.negated(step.array(1)), step.constant(0))
    return added([step.array(0), step.array(1)], (1, -1))


def _mul(step: Step) -> Array:
    place = int(step.is_constant(1))
    return scale(step.array(1 - place), step.constant(place))


def _div(step: Step) -> Array:
    if step.is_constant(0):
        step.refuse("divides a constant by what the graph computes, which has no Lipschitz constant.")
    return maps.divided(step.array(0), step.constant(1))


def _mean(step: Step) -> Array:
    return maps.divided(_sum(step), np.array(float(len(step.values))))


PRODUCTS: Mapping[str, Operator] = {
    "Gemm": Operator(
        _gemm, ("alpha", "beta", "transA", "transB"), "one constant factor, on either side; any shift"
    ),
    "MatMul": Operator(_matmul, (), "one constant factor, on either side; stacks of matrices"),
    "Conv": Operator(
        _conv,
        ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"),
        "constant kernel, one to three image axes, any zero padding",
    ),
    "ConvTranspose": Operator(
        _conv_transpose,
        (
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ),
        "constant kernel, one to three image axes",
    ),
    "BatchNormalization": Operator(
        _batch_norm, ("epsilon", "momentum", "spatial", "training_mode"), "evaluation mode"
    ),
    "Add": Operator(_add, (), "constants and branches, any broadcasting"),
    "Sum": Operator(_sum, (), "constants and branches, any broadcasting"),
    "Sub": Operator(_sub, (), "constants and branches, any broadcasting"),
    "Mean": Operator(_mean, (), "constants and branches, any broadcasting"),
    "Mul": Operator(_mul, (), "by a constant, any broadcasting; SiLU, GELU, Mish, ... written out"),
    "Div": Operator(_div, (), "by a constant, any broadcasting; normalisations written out"),
    "Neg": Operator(lambda step: maps.negated(step.array())),
}
