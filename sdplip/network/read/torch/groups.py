"""Rules of functions of groups of entries: softmax and its kind, normalisation; and of dropout, which is nothing."""

from typing import Any

import numpy as np
from torch.nn import functional as F

from sdplip.arithmetic.groups import GROUPED
from sdplip.network.read.arrays import Array, Tape, reshape, scale, shift
from sdplip.network.read.maps import batch_norm, grouped
from sdplip.network.read.torch.table import Call, function, rule


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
