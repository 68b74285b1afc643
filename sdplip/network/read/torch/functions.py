"""Rules of elementwise functions by their names, and of functions of groups."""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.groups import GROUPED
from sdplip.network.operators import Activation
from sdplip.network.read.arrays import Array, Tape, reshape, scale, shift
from sdplip.network.read.maps import activation, batch_norm, grouped, maximum_with, minimum_with
from sdplip.network.read.torch.table import DATA, JUMPS, PRODUCT, Call, function, rule

PLAIN = {
    "relu": "relu",
    "tanh": "tanh",
    "sigmoid": "sigmoid",
    "abs": "abs",
    "silu": "silu",
    "mish": "mish",
    "hardswish": "hardswish",
    "hardsigmoid": "hardsigmoid",
    "sin": "sin",
    "cos": "cos",
    "atan": "atan",
    "arctan": "atan",
    "erf": "erf",
    "asinh": "asinh",
}
"""torch's name -> ours, of functions without parameters."""


@rule(*PLAIN)
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), PLAIN[c.name.rstrip("_")])


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
    if c.name.startswith("leaky_relu"):
        return named(c.tape, c.array("x"), "leaky_relu", negative_slope=float(c["negative_slope"]))
    if c["training"]:
        raise c.tape.refusal("draws its slopes at random in training. Call `.eval()` first.")
    y = named(c.tape, c.array("x"), "leaky_relu", negative_slope=(float(c["lower"]) + float(c["upper"])) / 2)
    return y if not isinstance(c.out, tuple) else (y, None)


@rule("_prelu_kernel", "prelu")
def _(c: Call) -> Array:
    x, weight = c.array("x"), c.constant("weight")
    assert weight is not None
    if c.name == "prelu" and weight.size > 1:
        weight = weight.reshape(-1, *(1,) * (x.rank - 2))
    return named(c.tape, x, "leaky_relu", negative_slope=weight)


@rule("elu", "celu", "selu")
def _(c: Call) -> Array:
    x = c.array("x")
    name = c.name.rstrip("_")
    if name == "selu":
        return named(c.tape, x, "selu")
    alpha, scale_, inner = (float(c.get(key, 1)) for key in ("alpha", "scale", "input_scale"))
    if name == "celu":
        return named(c.tape, x, "celu", alpha=alpha)
    if (alpha, scale_) == SELU and inner == 1:
        return named(c.tape, x, "selu")
    if scale_ == 1 and abs(inner * alpha - 1) < 1e-12 and inner != 1:
        return named(c.tape, x, "celu", alpha=alpha)
    if inner != 1:
        raise c.tape.refusal(
            f"has the parameters {alpha}, {scale_}, {inner}, which are those of no known function."
        )
    y = named(c.tape, x, "elu", alpha=alpha)
    return y if scale_ == 1 else scale(y, np.array(scale_))


SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@rule("gelu")
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), "gelu" if c["approximate"] == "none" else "gelu_tanh")


@rule("softplus")
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), "softplus", beta=float(c["beta"]), threshold=float(c["threshold"]))


@rule("log_sigmoid", "log_sigmoid_forward")
def _(c: Call) -> Any:
    y = named(c.tape, c.array("x"), "log_sigmoid")
    return (y, None) if isinstance(c.out, tuple | list) else y


@rule("softshrink")
def _(c: Call) -> Array:
    return named(c.tape, c.array("x"), "softshrink", lambd=float(c["lambd"]))


@rule("hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "relu6")
def _(c: Call) -> Array:
    x = c.array("x")
    if c.name.startswith("relu6"):
        low, high = 0.0, 6.0
    else:
        low, high = c.get("min_val", c.get("min")), c.get("max_val", c.get("max"))
    if isinstance(low, Array) or isinstance(high, Array):
        raise c.tape.refusal(
            "clamps between ends that come from the input. Use `torch.maximum` and `torch.minimum`."
        )
    if low is not None and high is not None and np.all(np.asarray(low) <= np.asarray(high)):
        return named(c.tape, x, "hardtanh", low=low, high=high)
    x = x if low is None else maximum_with(x, np.asarray(low, np.float64))
    return x if high is None else minimum_with(x, np.asarray(high, np.float64))


@rule("threshold")
def _(c: Call) -> Array:
    if float(c["threshold"]) != float(c["value"]):
        raise c.tape.refusal(JUMPS)
    return maximum_with(c.array("x"), np.array(float(c["value"])))


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "logsumexp")
def _(c: Call) -> Array:
    x, name = c.array("x"), c.name.strip("_")
    if name not in GROUPED:
        raise c.tape.refusal(f"computes `{name}`, which is no function that sdplip knows.")
    return grouped(x, name, [c["dim"]])


@rule("native_layer_norm", "layer_norm")
def _(c: Call) -> Any:
    x, n = c.array("input"), len(c["normalized_shape"])
    y = scaled(grouped(x, "layer_norm", range(x.rank - n, x.rank), eps=float(c["eps"])), c)
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
    y = reshape(grouped(parts, "layer_norm", range(2, parts.rank), eps=float(c["eps"])), full)
    return scaled(y, c, (-1, *(1,) * (x.rank - 2))), None, None


@rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "cudnn_batch_norm",
    "batch_norm", "_batch_norm_no_update", "_batch_norm_with_update", "miopen_batch_norm", "_batch_norm_impl_index",
)  # fmt: skip
def _(c: Call) -> Any:
    x = c.array("input")
    mean, variance = c.constant("running_mean"), c.constant("running_var")
    eps = float(c.get("eps", c.get("epsilon")))
    if c.get("training", False) or mean is None or variance is None:
        if c.get("training", False) and mean is not None:
            raise c.tape.refusal(
                "changes its running statistics while it normalises by those of the batch. Call `.eval()` first."
            )
        y = grouped(x, "layer_norm", [0, *range(2, x.rank)], eps=eps)
        y = scaled(y, c, (-1, *(1,) * (x.rank - 2)))
    else:
        ones = np.ones_like(mean)
        weight, bias = c.constant("weight"), c.constant("bias")
        y = batch_norm(
            x, ones if weight is None else weight, 0 * ones if bias is None else bias, mean, variance, eps
        )
    return (y, *(None for _ in c.out[1:])) if isinstance(c.out, tuple | list) else y


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
    if "rms_norm" not in GROUPED or eps is None or not isinstance(input, Array):
        raise tape.refusal(
            "normalises by the root of a mean square, of which no bound is known without a positive `eps`."
        )
    y = grouped(input, "rms_norm", range(input.rank - len(normalized_shape), input.rank), eps=float(eps))
    return y if weight is None else scale(y, np.asarray(weight, np.float64))


@function(F.normalize)
def _(tape: Tape, *_: Any, **__: Any) -> Array:
    raise tape.refusal(
        "divides by a length, whose slopes near 0 have no bound that is worth stating. Leave the normalisation out of what is"
        " bounded, or bound the slopes on a region."
    )


@function(F.scaled_dot_product_attention, F.multi_head_attention_forward, F.bilinear, F.glu)
def _(tape: Tape, *_: Any, **__: Any) -> Array:
    raise tape.refusal(f"multiplies functions of the input: {PRODUCT}")


@function(
    torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__, torch.Tensor.data_ptr, torch.Tensor.__dlpack__,
    torch.Tensor.storage, torch.Tensor.untyped_storage, torch.Tensor.item, torch.Tensor.__bool__, torch.Tensor.__float__,
    torch.Tensor.__int__,
)  # fmt: skip
def _(tape: Tape, *_: Any, **__: Any) -> Array:
    raise tape.refusal(DATA.removeprefix("it "))
