"""Rules of elementwise functions by their names."""

from typing import Any

import numpy as np
from torch.nn import functional as F

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.network.operators import Activation
from sdplip.network.read.arrays import Array, Tape, fitted, scale
from sdplip.network.read.maps import activation
from sdplip.network.read.torch.table import JUMPS, Call, function, rule

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
    "sin": "sin",
    "cos": "cos",
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
