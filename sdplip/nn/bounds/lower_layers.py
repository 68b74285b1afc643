"""Rules of `lower_lipschitz`, next to those of `lipschitz`."""

from math import isfinite, prod

import numpy as np
import torch
from torch import nn

from sdplip.arithmetic.decimals import below
from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import down
from sdplip.bounds.expands import expansion
from sdplip.errors import RefusedModule, SdplipError
from sdplip.kernel.linear import matrix
from sdplip.network import is_linear
from sdplip.network.read.torch import read_module
from sdplip.nn.activations import Abs, BetaAbs, GroupSort, Householder, MaxMin, NActivation
from sdplip.nn.bilipschitz import BiLipschitz
from sdplip.nn.bounds.activations import SINGLE
from sdplip.nn.bounds.affine import conv_geometry
from sdplip.nn.bounds.bilipschitz import centre_form
from sdplip.nn.bounds.containers import _identity_plus
from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.lower import (
    LowerBound,
    below_context,
    difference_below,
    lower_lipschitz,
    product_below,
    root_below,
    sum_below,
)
from sdplip.nn.bounds.normalisation import DROPOUTS
from sdplip.nn.bounds.shapes import CIRCULAR_PADS, CONSTANT_PADS, MOVES
from sdplip.nn.bounds.singular import goes_round, least_of_convolution, least_singular
from sdplip.nn.bounds.tree import product_above, shown, sum_above
from sdplip.nn.bounds.weights import effective, exact
from sdplip.nn.bounds.zero_padded import least_of_zero_padded
from sdplip.nn.containers import BoundedScale, ChannelScale, Concatenate, Residual, Scale, Sum
from sdplip.nn.heads import Normalise
from sdplip.nn.pooling import Center, FirstChannels
from sdplip.nn.residual import PadChannels
from sdplip.nn.shifted import PositionalBias, Shift2d
from sdplip.nn.slopes import slopes

DENSE = 2048
"""Inputs of the largest linear module that is proven as one matrix."""
JOINT = 400
"""Inputs and outputs of the largest other module without a rule that is tried by one inequality."""


@lower_lipschitz.register(BiLipschitz)
def _(module: BiLipschitz, context: Context) -> LowerBound:
    a, r, part = centre_form(module, context)
    reason = f"a - r c with a = {a:.8g}, r = {r:.8g} and c = {shown(part.value)} of the inner module"
    return LowerBound(difference_below(a, product_above((r, part.value))), reason, monotone=True)


@lower_lipschitz.register(nn.Sequential)
def _(module: nn.Sequential, context: Context) -> LowerBound:
    parts, shape = list[LowerBound](), context.input_shape
    for name, child in module._modules.items():
        assert child is not None
        parts.append(lower_lipschitz.part(context, child, name, shape))
        shape = below_context(context, name, shape).output_shape(child)
    value = product_below(tuple(part.value for part in parts))
    monotone = len(parts) == 1 and parts[0].monotone
    return LowerBound(value, f"product of {len(parts)} parts", monotone, parts=tuple(parts))


@lower_lipschitz.register(Residual)
def _(module: Residual, context: Context) -> LowerBound:
    part = context.bound(module.branch, "branch", context.input_shape)
    found = LowerBound(
        difference_below(1.0, part.value), f"1 - {shown(part.value)} of the branch", monotone=True
    )
    shape = context.input_shape
    if shape is None or prod(shape) > DENSE or _identity_plus(module.branch, context) is None:
        return found
    return max(found, _as_a_whole(module, context), key=lambda bound: bound.value)  # I + f as one matrix


@lower_lipschitz.register(Sum)
def _(module: Sum, context: Context) -> LowerBound:
    """The sum of monotone branches; or one branch minus the constants of the others, whichever that is."""
    branches = list(module.branches)
    least = [_or_none(branch, f"branches.{k}", context) for k, branch in enumerate(branches)]
    if all(part is not None and part.monotone for part in least):
        parts = tuple(part for part in least if part is not None)
        value = sum_below(tuple(part.value for part in parts))
        return LowerBound(value, "sum of monotone branches", monotone=True, parts=parts)
    most = [
        context.bound(branch, f"branches.{k}", context.input_shape).value for k, branch in enumerate(branches)
    ]
    values = [
        difference_below(part.value, sum_above((*most[:k], *most[k + 1 :])))
        for k, part in enumerate(least)
        if part is not None
    ]
    reason = "no branch expands more than the others together stretch"
    value = max(values, default=0.0)
    return LowerBound(value, "one branch minus the constants of the others" if value > 0 else reason)


@lower_lipschitz.register(Concatenate)
def _(module: Concatenate, context: Context) -> LowerBound:
    if module.dim == 0:
        raise context.refuse(module, "`dim=0` is the batch axis. Use 1.")
    found = [_or_none(branch, f"branches.{k}", context) for k, branch in enumerate(module.branches)]
    parts = tuple(part for part in found if part is not None)
    squares = tuple(product_below((part.value, part.value)) for part in parts)
    return LowerBound(
        root_below(sum_below(squares)), "root of the sum of squares of what expands", parts=parts
    )


def _or_none(module: nn.Module, name: str, context: Context) -> LowerBound | None:
    try:
        return lower_lipschitz.part(context, module, name, context.input_shape)
    except RefusedModule:
        return None


@lower_lipschitz.register(nn.Linear)
def _(module: nn.Linear, context: Context) -> LowerBound:
    W = effective(module, "weight", context)
    if len(W) < W.shape[1]:
        raise _wide(module, context, *W.shape[::-1])
    return LowerBound(
        least_singular(Enclosure.exact(W)), f"W^T W >= m^2 I proven for the {len(W)} x {W.shape[1]} weight"
    )


@lower_lipschitz.register(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _(module: nn.Conv2d, context: Context) -> LowerBound:
    size = None if context.input_shape is None else context.input_shape[1:]
    K = effective(module, "weight", context)
    geometry = conv_geometry(module, size).expand(K.shape)
    if goes_round(geometry, K.shape[2:]):
        inside = K.shape[1] * module.groups * int(np.prod(geometry.stride))
        if len(K) < inside:
            raise _wide(module, context, inside, len(K))
        where = "every image size" if size is None else f"images of {' x '.join(map(str, size))} pixels"
        return LowerBound(
            least_of_convolution(K, geometry), f"|C^T C - m| <= e proven frequency by frequency, {where}"
        )
    if size is not None and prod(context.input_shape or ()) <= DENSE:
        return _as_a_whole(module, context)
    if geometry.padding_mode == "zeros" and (value := least_of_zero_padded(K, geometry)) > 0:
        return LowerBound(value, "<U x, C x> >= m |x|^2 proven frequency by frequency, every image size")
    raise context.refuse(
        module,
        "with zero padding, or a stride, its least singular value depends on the image, and its middle tap does not outweigh the others, from"
        f" which one for every size would follow. Pass the `input_shape` of images with at most {DENSE} entries.",
    )


def _wide(module: nn.Module, context: Context, inputs: int, outputs: int) -> RefusedModule:
    return context.refuse(
        module,
        f"it maps {inputs} numbers to {outputs}, so different inputs have one output and no lower bound of its expansion holds. Make it as wide at the"
        " output as at the input.",
    )


@lower_lipschitz.register(
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Tanhshrink, nn.Softshrink, nn.Softsign, nn.LogSigmoid, nn.CELU, nn.Identity,
    nn.Sigmoid, nn.Hardsigmoid, nn.SELU, nn.LeakyReLU, nn.ELU, nn.Softplus,
)  # fmt: skip
def _(module: nn.Module, context: Context) -> LowerBound:
    least, largest = slopes.dispatch(lipschitz.registered(module) or object)(module)
    if not (least > 0 and isfinite(largest)):
        raise _flat(module, context, f"its slopes lie in [{below(least, 6)}, {largest:.6g}]")
    return LowerBound(_single(least), f"slopes of at least {below(least, 6)}", monotone=True)


@lower_lipschitz.register(nn.PReLU)
def _(module: nn.PReLU, context: Context) -> LowerBound:
    least = float(effective(module, "weight", context).min())
    if least <= 0:
        raise _flat(module, context, f"its least slope is {least:.6g}")
    return LowerBound(min(1.0, least), f"slopes 1 and at least {below(least, 6)}", monotone=True)


@lower_lipschitz.register(
    MaxMin, GroupSort, Abs, BetaAbs, NActivation, Householder, Center, FirstChannels, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Threshold, nn.Softmax, nn.Softmin, nn.Softmax2d, nn.LogSoftmax,
)  # fmt: skip
def _(module: nn.Module, context: Context) -> LowerBound:
    raise _flat(module, context, "it sorts, folds or drops entries")


def _flat(module: nn.Module, context: Context, why: str) -> RefusedModule:
    return context.refuse(
        module,
        f"{why}, so no lower bound of its expansion holds: different inputs have one output, or nearly so. Use `nn.LeakyReLU`, or put it inside"
        " `BiLipschitz` or `Residual`.",
    )


@lower_lipschitz.register(Scale, BoundedScale, ChannelScale, Normalise)
def _(module: nn.Module, context: Context) -> LowerBound:
    name = {Scale: "factor", BoundedScale: "theta", ChannelScale: "factors", Normalise: "inverse_std"}[
        lipschitz.registered(module) or object
    ]
    if isinstance(module, BoundedScale):
        factors = exact(module.factor().detach(), module, name, context)
    else:
        factors = effective(module, name, context)
    return LowerBound(
        float(abs(factors).min()),
        f"multiplies by at least {below(float(abs(factors).min()), 8)} in absolute value",
        monotone=bool((factors > 0).all()),
    )


@lower_lipschitz.register(PositionalBias, *DROPOUTS)
def _(module: nn.Module, context: Context) -> LowerBound:
    context.own(module)  # refuses training mode
    return LowerBound(1.0, "a translation, or the identity in eval mode", monotone=True)


@lower_lipschitz.register(*MOVES)
def _(module: nn.Module, context: Context) -> LowerBound:
    context.own(module)  # refuses the axis of the batch
    return LowerBound(1.0, "moves entries")


@lower_lipschitz.register(PadChannels, *CONSTANT_PADS, *CIRCULAR_PADS)
def _(module: nn.Module, context: Context) -> LowerBound:
    if not isinstance(module, PadChannels) and min(module.padding) < 0:  # pyright: ignore[reportArgumentType]
        raise _flat(module, context, "it crops the image")
    return LowerBound(1.0, "keeps every entry, and adds others")


@lower_lipschitz.register(Shift2d)
def _(module: Shift2d, context: Context) -> LowerBound:
    if module.mode != "circular":
        raise _flat(module, context, "pixels leave the image")
    return LowerBound(1.0, "moves pixels")


@lower_lipschitz.otherwise
def _as_a_whole(module: nn.Module, context: Context) -> LowerBound:
    """One matrix where the module is linear, else one inequality of all its increments."""
    shape = context.input_shape
    if shape is None:
        raise context.refuse(
            module,
            "no lower bound of its expansion is known for every input shape. Pass `input_shape` of one sample, so that it can be tried as a whole.",
        )
    context.own(module)  # whatever has no finite constant is refused
    with torch.no_grad():
        network = read_module(module, shape)
    if network.outputs < network.inputs:
        raise _wide(module, context, network.inputs, network.outputs)
    if all(is_linear(node.op) for node in network.nodes):
        if network.inputs > DENSE:
            raise context.refuse(
                module, f"{network.inputs} inputs are more than the {DENSE} that are proven as one matrix."
            )
        return LowerBound(
            least_singular(matrix(network)), "A^T A >= m^2 I proven for the matrix of the module"
        )
    if network.inputs + sum(node.op.outputs for node in network.nodes) > JOINT:
        raise context.refuse(
            module,
            f"no lower bound of its expansion has a rule, and more than {JOINT} values are too many for one inequality. Register a rule with"
            " `lower_lipschitz.register`.",
        )
    try:
        found = expansion(network)
    except SdplipError as error:
        raise context.refuse(module, str(error)) from error
    return LowerBound(found.lower, "one inequality of all increments proven")


def _single(slope: float) -> float:
    """The slope as a kernel may round it."""
    return slope if float(np.float32(slope)) == slope else down(slope / SINGLE)
