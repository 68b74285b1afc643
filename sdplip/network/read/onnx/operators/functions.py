"""Activations, limits, and functions of groups of entries."""

from collections.abc import Mapping

import numpy as np

from sdplip.network.read import maps
from sdplip.network.read.arrays import Array, reshape, scale, shift
from sdplip.network.read.onnx.operators.entry import Operator
from sdplip.network.read.onnx.step import Step


def _function(name: str, **defaults: float) -> Operator:
    """An activation whose attributes are parameters: attribute name and default, the parameter after "__" where it differs."""
    pairs = {key.split("__")[0]: (key.split("__")[-1], default) for key, default in defaults.items()}

    def read(step: Step) -> Array:
        found = {to: step.number(key, default) for key, (to, default) in pairs.items()}
        return maps.activation(step.array(), name, **found)

    return Operator(read, tuple(pairs))


def _gelu(step: Step) -> Array:
    tanh = step.options.get("approximate", "none") == "tanh"
    return maps.activation(step.array(), "gelu_tanh" if tanh else "gelu")


def _swish(step: Step) -> Array:
    return maps.silu(step.array(), step.number("alpha", 1.0))


def _hard_sigmoid(step: Step) -> Array:
    """$\\min(1, \\max(0, \\alpha x + \\beta))$."""
    alpha, beta = step.number("alpha", 0.2), step.number("beta", 0.5)
    return maps.clip(shift(scale(step.array(), np.array(alpha)), np.array(beta)), 0.0, 1.0)


def _prelu(step: Step) -> Array:
    return maps.activation(step.array(0), "leaky_relu", negative_slope=step.constant(1))


def _clip(step: Step) -> Array:
    low = step.constant(1) if step.has(1) else np.array(step.number("min", -np.inf))
    high = step.constant(2) if step.has(2) else np.array(step.number("max", np.inf))
    huge = float(np.finfo(np.float32).max)
    return maps.clip(
        step.array(),
        -np.inf if low.item() <= -huge else low.item(),
        np.inf if high.item() >= huge else high.item(),
    )


def _extreme(smallest: bool) -> Operator:
    def read(step: Step) -> Array:
        arrays = [value for value in step.values if isinstance(value, Array)]
        y = (maps.minimum if smallest else maps.maximum)(arrays) if len(arrays) > 1 else arrays[0]
        for k in range(len(step.values)):
            if step.is_constant(k):
                with_constant = maps.minimum_with if smallest else maps.maximum_with
                y = with_constant(y, step.constant(k))
        return y

    return Operator(read, (), "constants and branches, any broadcasting")


def _softmax(name: str) -> Operator:
    def read(step: Step) -> Array:
        x = step.array()
        if step.version >= 13:
            return maps.grouped(x, name, (int(step.options.get("axis", -1)),))
        return maps.grouped(x, name, maps.last_axes(x, int(step.options.get("axis", 1))))

    return Operator(read, ("axis",))


def _layer_norm(step: Step) -> Array:
    x = step.array()
    if step.outputs > 1:
        step.refuse("gives the mean or the deviation too, which are not covered.")
    axes = maps.last_axes(x, int(step.options.get("axis", -1)))
    y = maps.grouped(x, "layer_norm", axes, eps=step.number("epsilon", 1e-5))
    return _scaled(step, y)


def _rms_norm(step: Step) -> Array:
    x = step.array()
    axes = maps.last_axes(x, int(step.options.get("axis", -1)))
    return _scaled(step, maps.grouped(x, "rms_norm", axes, eps=step.number("epsilon", 1e-5)))


def _scaled(step: Step, y: Array) -> Array:
    if step.has(1):
        y = scale(y, step.constant(1))
    return shift(y, step.constant(2)) if step.has(2) else y


def _instance_norm(step: Step) -> Array:
    """Layer normalisation of the pixels of each channel."""
    x = step.array()
    y = maps.grouped(x, "layer_norm", range(2, x.rank), eps=step.number("epsilon", 1e-5))
    along = (-1, *(1,) * (x.rank - 2))
    return shift(scale(y, step.constant(1).reshape(along)), step.constant(2).reshape(along))


def _group_norm(step: Step) -> Array:
    """Layer normalisation of groups of channels; before operator set 21 scale and shift are one a group, then one a channel."""
    x, groups = step.array(), int(step.options["num_groups"])
    channels = x.full[1]
    if groups < 1 or channels % groups:
        step.refuse(f"makes {groups} groups of {channels} channels.")
    wide = reshape(x, (x.full[0], groups, channels // groups, *x.full[2:]))
    y = maps.grouped(wide, "layer_norm", range(2, wide.rank), eps=step.number("epsilon", 1e-5))
    if step.version < 21:
        along = (-1, *(1,) * (wide.rank - 2))
        y = shift(scale(y, step.constant(1).reshape(along)), step.constant(2).reshape(along))
        return reshape(y, x.full)
    along = (-1, *(1,) * (x.rank - 2))
    y = reshape(y, x.full)
    return shift(scale(y, step.constant(1).reshape(along)), step.constant(2).reshape(along))


def _shrink(step: Step) -> Array:
    """Soft shrinkage, where both numbers agree; else it jumps."""
    lambd, bias = step.number("lambd", 0.5), step.number("bias", 0.0)
    if lambd != bias or lambd < 0:
        step.refuse(f"jumps by {lambd} - {bias} at {lambd}, so it has no Lipschitz constant.")
    return maps.activation(step.array(), "softshrink", lambd=lambd)


FUNCTIONS: Mapping[str, Operator] = {
    "Relu": _function("relu"),
    "LeakyRelu": _function("leaky_relu", alpha__negative_slope=0.01),
    "PRelu": Operator(_prelu, (), "constant slopes, any broadcasting"),
    "Elu": _function("elu", alpha=1.0),
    "Selu": _function("selu", alpha=1.67326319217681884765625, gamma=1.05070102214813232421875),
    "Celu": _function("celu", alpha=1.0),
    "Gelu": Operator(_gelu, ("approximate",)),
    "Swish": Operator(_swish, ("alpha",)),
    "HardSwish": _function("hardswish"),
    "HardSigmoid": Operator(_hard_sigmoid, ("alpha", "beta")),
    "Clip": Operator(_clip, ("max", "min"), "constant limits"),
    "Max": _extreme(smallest=False),
    "Min": _extreme(smallest=True),
    "Sigmoid": _function("sigmoid"),
    "Tanh": _function("tanh"),
    "Softplus": _function("softplus"),
    "Softsign": _function("softsign"),
    "Erf": _function("erf"),
    "Mish": _function("mish"),
    "Abs": _function("abs"),
    "Atan": _function("atan"),
    "Sin": _function("sin"),
    "Cos": _function("cos"),
    "Shrink": Operator(_shrink, ("bias", "lambd"), "soft shrinkage (`bias` = `lambd`)"),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "LayerNormalization": Operator(_layer_norm, ("axis", "epsilon", "stash_type")),
    "RMSNormalization": Operator(_rms_norm, ("axis", "epsilon", "stash_type")),
    "InstanceNormalization": Operator(_instance_norm, ("epsilon",)),
    "GroupNormalization": Operator(_group_norm, ("epsilon", "num_groups", "stash_type")),
}
