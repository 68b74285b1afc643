"""Rules of elementwise functions by their names, and of functions of groups."""

from math import prod
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.groups import GROUPED
from sdplip.network.operators import Activation, Norms, pooling_windows
from sdplip.network.read.arrays import Array, Tape, fitted, mapped, noted, own, reshape, scale, shift
from sdplip.network.read.maps import activation, batch_norm, grouped
from sdplip.network.read.torch.table import FUNCTIONS as FUNCTIONS_OF_TORCH
from sdplip.network.read.torch.table import JUMPS, PRODUCT, Call, function, rule

PLAIN = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "abs": "abs",
    "silu": "silu",
    "mish": "mish",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "relu6": "relu6",
    "atan": "atan",
    "arctan": "atan",
    "erf": "erf",
}
"""torch's name -> ours, of functions without parameters."""


@rule(*PLAIN)
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), PLAIN[c.name])


def named(tape: Tape, x: Array, name: str, **parameters: Any) -> Array:
    """A function of the table.

    Raises:
        InvalidWeight: it is not there.
    """
    if name not in FUNCTIONS:
        raise tape.refusal(f"computes `{name}`, which is no function that sdplip knows.")
    return activation(x, name, **parameters)


@rule("leaky_relu", "rrelu_with_noise", "rrelu_with_noise_functional")
def _(c: Call) -> Any:
    if c.name == "leaky_relu":
        return named(c.tape, c.array("x"), "leaky_relu", negative_slope=c.number("negative_slope"))
    if c["training"]:
        raise c.tape.refusal("draws its slopes at random in training. Call `.eval()` first.")
    slope = float(c.numbers((float(c["lower"]) + float(c["upper"])) / 2))
    y = named(c.tape, c.array("x"), "leaky_relu", negative_slope=slope)
    return (y, None) if isinstance(c.out, tuple | list) else y


@rule("_prelu_kernel", "prelu")
def _(c: Call) -> Array:
    x, weight = c.array("x"), c.constant("weight")
    assert weight is not None
    if c.name == "prelu" and weight.size > 1:
        weight = weight.reshape(-1, *(1,) * (x.rank - 2))
    return named(c.tape, x, "prelu", slope=weight)


@rule("elu", "celu", "selu")
def _(c: Call) -> Array:
    x = c.array("x")
    name = c.name
    if name == "selu":
        return named(c.tape, x, "selu")
    alpha, scale_, inner = (float(c.get(key, 1)) for key in ("alpha", "scale", "input_scale"))
    if name == "celu":
        return named(c.tape, x, "celu", alpha=c.number("alpha"))
    if abs(alpha - SELU[0]) + abs(scale_ - SELU[1]) < 1e-12 and inner == 1:
        return named(c.tape, x, "selu")
    if scale_ == 1 and abs(inner * alpha - 1) < 1e-12 and inner != 1:
        return named(c.tape, x, "celu", alpha=c.number("alpha"))
    if inner != 1:
        raise c.tape.refusal(
            f"has the parameters {alpha}, {scale_}, {inner}, which are those of no known function."
        )
    y = named(c.tape, x, "elu", alpha=c.number("alpha"))
    return y if scale_ == 1 else scale(y, c.numbers(scale_))


SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@rule("gelu")
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), "gelu" if c["approximate"] == "none" else "gelu_tanh")


@rule("softplus")
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), "softplus", beta=c.number("beta"), threshold=float(c["threshold"]))


@rule("log_sigmoid", "log_sigmoid_forward")
def _(c: Call) -> Any:
    y = named(c.tape, c.array("x"), "logsigmoid")
    return (y, None) if isinstance(c.out, tuple | list) else y


@rule("softshrink")
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), "softshrink", lambd=c.number("lambd"))


@rule("hardtanh", "clamp", "clip", "clamp_min", "clamp_max")
def _(c: Call) -> Array:
    x = c.array("x")
    low, high = c.get("min_val", c.get("min")), c.get("max_val", c.get("max"))
    if isinstance(low, Array) or isinstance(high, Array):
        raise c.tape.refusal(
            "clamps between ends that come from the input. Use `torch.maximum` and `torch.minimum`."
        )
    if low is not None and high is not None and np.all(np.asarray(low) <= np.asarray(high)):
        if np.size(low) == np.size(high) == 1:
            return named(c.tape, x, "clip", low=float(np.ravel(low)[0]), high=float(np.ravel(high)[0]))
        x, low = fitted(x, np.asarray(low, np.float64))
        return named(c.tape, x, "clip", low=low, high=np.asarray(high, np.float64))
    x = x if low is None else largest(x, low)
    return x if high is None else smallest(x, high)


def largest(x: Array, floor: Any) -> Array:
    """$\\max(x, c)$ with a constant."""
    x, floor = fitted(x, np.asarray(floor, np.float64))
    return activation(x, "maximum", floor=floor)


def smallest(x: Array, ceiling: Any) -> Array:
    """$\\min(x, c)$ with a constant."""
    x, ceiling = fitted(x, np.asarray(ceiling, np.float64))
    return activation(x, "minimum", ceiling=ceiling)


@rule("threshold")
def _(c: Call) -> Array:
    if float(c["threshold"]) != float(c["value"]):
        raise c.tape.refusal(JUMPS)
    return largest(c.array("x"), c.numbers(c["value"]))


@rule("_softmax", "softmax", "_log_softmax", "log_softmax")
def _(c: Call) -> Array:
    x, name = c.array("x"), c.name.strip("_")
    if name not in GROUPED:
        raise c.tape.refusal(f"computes `{name}`, which is no function that sdplip knows.")
    return grouped(x, name, [c["dim"]])


@rule("native_layer_norm", "layer_norm")
def _(c: Call) -> Any:
    x, n = c.array("input"), len(c["normalized_shape"])
    y = scaled(grouped(x, "layer_norm", range(x.rank - n, x.rank), eps=c.least("eps")), c)
    return (y, None, None) if isinstance(c.out, tuple | list) else y


def scaled(y: Array, c: Call, along: tuple[int, ...] | None = None) -> Array:
    """Times `weight` plus `bias` of a call, in a shape that repeats."""
    weight, bias = c.constant("weight"), c.constant("bias")
    if weight is not None:
        y = scale(y, weight if along is None else weight.reshape(along))
    return y if bias is None else shift(y, bias if along is None else bias.reshape(along))


@rule("native_group_norm")
def _(c: Call) -> Any:
    x, groups = c.array("input"), int(c["group"])
    full = x.full
    parts = reshape(x, (full[0], groups, full[1] // groups, *full[2:]))
    y = reshape(grouped(parts, "layer_norm", range(2, parts.rank), eps=c.least("eps")), full)
    return scaled(y, c, (-1, *(1,) * (x.rank - 2))), None, None


@rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "batch_norm", "_batch_norm_no_update", "_batch_norm_with_update", "miopen_batch_norm", "_batch_norm_impl_index",
)  # fmt: skip
def _(c: Call) -> Any:
    x = c.array("input")
    mean, variance = c.constant("running_mean"), c.constant("running_var")
    eps = c.least("eps" if "eps" in c.given else "epsilon")
    if c.get("training", False) or mean is None or variance is None:
        if c.get("training", False) and mean is not None:
            raise c.tape.refusal(
                "changes its running statistics while it normalises by those of the batch. Call `.eval()` first, or build"
                " the layer without running statistics."
            )
        y = grouped(x, "layer_norm", [0, *range(2, x.rank)], eps=eps)
        y = scaled(y, c, (-1, *(1,) * (x.rank - 2)))
    else:
        full = x.full
        if x.batch is not None and x.batch.axis == 1:  # an instance norm, which puts samples side by side
            x = reshape(x, (x.tape.batch, full[1] // x.tape.batch, *full[2:]))
        statistics = [c.constant(key) for key in ("running_mean", "running_var", "weight", "bias")]
        mean, variance, weight, bias = (None if v is None else alike(c, v, x.full[1]) for v in statistics)
        assert mean is not None and variance is not None
        ones = np.ones_like(mean)
        y = batch_norm(
            x, ones if weight is None else weight, 0 * ones if bias is None else bias, mean, variance, eps
        )
        y = reshape(y, full)
    return (y, *(None for _ in c.out[1:])) if isinstance(c.out, tuple | list) else y


def alike(c: Call, vector: np.ndarray, channels: int) -> np.ndarray:
    """One sample's share of statistics that are repeated for each."""
    rows = vector.reshape(-1, channels)
    if not (rows == rows[0]).all():
        raise c.tape.refusal("takes statistics that are others for each sample of a batch.")
    return rows[0]


@rule("dropout", "native_dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def _(c: Call) -> Any:
    if c.get("train", False) and float(c.get("p", 0)) > 0:
        raise c.tape.refusal("drops entries at random in training. Call `.eval()` first.")
    y = c.array("input")
    return (y, None) if isinstance(c.out, tuple | list) else y


def product_known(x: Array, y: Array) -> Array | None:
    """The product of two arrays where it is a known function: $x \\cdot \\mathrm{sigmoid}(x)$ and its kind."""
    for a, b in ((x, y), (y, x)):
        node = None if b.value == 0 else b.tape.builder.nodes[b.value - 1]
        if (
            node is None
            or not isinstance(node.op, Activation)
            or node.inputs != (a.value,)
            or a.shape != b.shape
        ):
            continue
        if node.op.name == "sigmoid":
            return activation(a, "silu")
        if node.op.name == "hardsigmoid":
            return activation(a, "hardswish")
    return None


@function(F.softsign)
def _(tape: Tape, input: Array) -> Array:
    return named(tape, input, "softsign")


@function(F.tanhshrink)
def _(tape: Tape, input: Array) -> Array:
    return named(tape, input, "tanhshrink")


@function(F.rms_norm)
def _(tape: Tape, input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    if eps is None:
        raise tape.refusal(
            "normalises without `eps`, which lets torch choose it by the type of the input. Pass a number."
        )
    least = min(float(eps), float(np.float32(eps)))
    y = grouped(input, "rms_norm", range(input.rank - len(normalized_shape), input.rank), eps=least)
    return y if weight is None else scale(y, np.asarray(weight, np.float64))


@function(F.normalize)
def _(tape: Tape, input: Array, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Any = None) -> Array:  # noqa: ARG001
    if p != 2:
        raise tape.refusal(f"divides by a norm of order {p}. Known is 2.")
    return grouped(input, "normalize", [dim], eps=min(float(eps), float(np.float32(eps))))


@function(F.softmin)
def _(tape: Tape, input: Array, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Array:  # noqa: ARG001
    if dim is None:
        raise tape.refusal("takes `softmin` over an axis that is not named. Pass `dim`.")
    return grouped(input, "softmin", [dim])


@function(F.scaled_dot_product_attention, F.multi_head_attention_forward, F.bilinear, F.glu)
def _(tape: Tape, *_: Any, **__: Any) -> Array:
    raise tape.refusal(f"multiplies functions of the input: {PRODUCT}")


LEAVING = (
    torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__, torch.Tensor.data_ptr, torch.Tensor.__dlpack__,
    torch.Tensor.storage, torch.Tensor.untyped_storage, torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.__float__,
    torch.Tensor.__int__, torch.Tensor.__index__,
)  # fmt: skip
"""What hands numbers to Python, where nobody follows them."""
FUNCTIONS_OF_TORCH.update(dict.fromkeys(LEAVING))


@function(F.lp_pool1d, F.lp_pool2d)
def _(
    tape: Tape, input: Array, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Array:
    axes = input.rank - 2
    window = (kernel_size,) * axes if isinstance(kernel_size, int) else tuple(kernel_size)
    steps = window if not stride else (stride,) * axes if isinstance(stride, int) else tuple(stride)
    if norm_type != 2 or ceil_mode or axes not in (1, 2):
        raise tape.refusal(
            f"pools by a norm of order {norm_type}. Known is 2, of images with a batch, without `ceil_mode`."
        )
    own(input, *range(1, input.rank))
    index = pooling_windows(prod(input.shape[:2]), input.shape[2:], window, steps, ((0, 0),) * axes)
    every = mapped(input, index.reshape(1, -1))
    size = tuple((h - k) // s + 1 for h, k, s in zip(input.shape[2:], window, steps, strict=True))
    return noted(
        every, Norms(np.arange(index.size).reshape(index.shape), index.size), (*input.shape[:2], *size)
    )
