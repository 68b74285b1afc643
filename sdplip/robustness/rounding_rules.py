r"""Rules of `forward_error`, next to those of `lipschitz`. Modules that call functions such as tanh, exp, FFT have none."""

from math import prod
from typing import Any

import numpy as np
from torch import Tensor, nn

from sdplip.nn.activations import Abs, BetaAbs, GroupSort, MaxMin
from sdplip.nn.blocked import Blocked, unblocked
from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.factored import _diagonals
from sdplip.nn.bounds.normalisation import DROPOUTS
from sdplip.nn.bounds.pooling import AVERAGES, MAXIMA
from sdplip.nn.bounds.shapes import CIRCULAR_PADS, MOVES
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.bounds.weights import effective, exact
from sdplip.nn.circular import CircularConv2d
from sdplip.nn.containers import BoundedScale, ChannelScale, Concatenate, Residual, Scale, Sum
from sdplip.nn.heads import LastLayerNormalised, Normalise
from sdplip.nn.plain import CONVS, TRANSPOSED, PlainResidual, PlainSandwich
from sdplip.nn.pooling import Center, FirstChannels, ScaledAvgPool1d, ScaledAvgPool2d, ScaledAvgPool3d
from sdplip.nn.products import CayleyConv2dProducts
from sdplip.nn.residual import (
    AbstractResidual,
    PadChannels,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
)
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.shifted import PositionalBias, Shift2d
from sdplip.robustness.absolute import LinearMap, linear_map, tap_sums
from sdplip.robustness.rounding_flow import (
    Affine,
    RoundingContext,
    Step,
    chain,
    forward_error,
    lengths,
)
from sdplip.robustness.rounding_maps import affine, block
from sdplip.robustness.rounding_sums import sums


@forward_error.register(
    nn.ReLU, nn.ReLU6, nn.Identity, Abs, BetaAbs, MaxMin, GroupSort, Shift2d, PadChannels, FirstChannels, nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d,
    *DROPOUTS, *MOVES, *CIRCULAR_PADS, *MAXIMA,
)  # fmt: skip
def _(module: nn.Module, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    """Entries are compared, moved, copied, negated: nothing is rounded."""
    return lambda z, norm, distance: (module(z), Affine.zero(z))  # noqa: ARG005


@forward_error.register(nn.LeakyReLU, Scale, BoundedScale, ChannelScale, Normalise, PositionalBias)
def _(module: nn.Module, bound: Bound, context: RoundingContext) -> Step:
    """At most two roundings of every entry of the result."""
    u, tiny = context.format.gamma(2), 4 * context.format.tiny

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        y = module(z)
        return y, (2 * u) * (bound.value * distance + lengths(y)) + tiny * y[0].numel()

    return step


@forward_error.register(nn.Linear, *CONVS, *TRANSPOSED, CircularConv2d)
def _(module: nn.Module, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    map = linear_map(module, context.path)
    return affine(map, module, context.format, sums(module, map.terms, context.format))


@forward_error.register(Blocked)
def _(module: Blocked, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    """A product takes part in few roundings, whatever happens within a block."""
    map = linear_map(module.layer, context.below("layer").path)
    found = sums(module, map.terms, context.format)
    return affine(map, module, context.format, found, roundings=module.roundings)


@forward_error.register(LastLayerNormalised)
def _(module: LastLayerNormalised, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    where = Context(context.path)
    U = abs(exact(module.rows().detach(), module, "rows", where))
    bias = None if module.bias is None else abs(effective(module, "bias", where))
    return affine(LinearMap(U, U.shape[1] + 1, bias, 0), module, context.format)


@forward_error.register(ScaledAvgPool1d, ScaledAvgPool2d, ScaledAvgPool3d, *AVERAGES)
def _(module: Any, bound: Bound, context: RoundingContext) -> Step:
    size = module.kernel_size
    axes = next(n for n in (1, 2, 3) if f"{n}d" in type(module).__name__)
    terms = prod(size) if isinstance(size, tuple) else size**axes
    return _averages(module, bound, context.format.gamma(terms + 4), context.format.tiny)


@forward_error.register(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
def _(module: nn.Module, bound: Bound, context: RoundingContext) -> Step:
    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        gamma = context.format.gamma(prod(z.shape[2:]) + 4)
        return _averages(module, bound, gamma, context.format.tiny)(z, norm, distance)

    return step


@forward_error.register(Center)
def _(module: Center, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        terms = prod(z.shape[dim] for dim in module.dims)
        return module(z), (2 * context.format.gamma(terms + 4)) * norm + 4 * z[
            0
        ].numel() * context.format.tiny

    return step


@forward_error.register(ResidualLinear, ResidualConv1d, ResidualConv2d, ResidualConv3d)
def _(module: AbstractResidual, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    where = Context(context.path)
    W = abs(effective(module, "weight", where))
    s = exact(module.step().detach(), module, "step", where)
    geometry = module.scaling.geometry
    groups = 1 if geometry is None else geometry.groups
    if geometry is not None and geometry.padding_mode == "circular" and geometry.padding is not None:
        raise context.refuse(module, "circular padding by a number may repeat pixels.")
    bias = None if module.bias is None else abs(effective(module, "bias", where))
    M = tap_sums(W, groups)
    up = LinearMap(M, prod(W.shape[1:]) + 1, bias, module.axes)
    down = LinearMap(
        M.T * s, W.shape[0] // groups * prod(W.shape[2:]) + 2 + 2 * module.axes, None, module.axes
    )
    return block(up, down, module.analysis, module, module.activation, module.h, context)


@forward_error.register(PlainResidual, PlainSandwich)
def _(module: PlainResidual | PlainSandwich, bound: Bound, context: RoundingContext) -> Step:
    if isinstance(module.up, CayleyConv2dProducts):
        return _in_a_row(module, bound, context)
    up, down = (
        linear_map(unblocked(part), context.below(name).path)
        for part, name in ((module.up, "up"), (module.down, "down"))
    )
    h = module.h if isinstance(module, PlainResidual) else 0.0
    return block(up, down, module.up, module, module.activation, h, context, (module.up, module.down))


@forward_error.register(Sandwich)
def _(module: Sandwich, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    where = Context(context.path)
    A, B = np.split(abs(exact(module.factors().detach(), module, "weight", where)), [module.out_features], 1)
    before, after = (exact(d.detach(), module, "log_psi", where) for d in _diagonals(module))
    bias = None if module.bias is None else abs(effective(module, "bias", where))
    up = LinearMap(B * before[:, None], B.shape[1] + 3, bias, 0)
    down = LinearMap(A.T * after, A.shape[0] + 3, None, 0)

    def hidden(z: Tensor) -> Tensor:
        _, B = module.factors().split([module.out_features, module.in_features], -1)
        v = nn.functional.linear(z, B) * _diagonals(module)[0]
        return v if module.bias is None else v + module.bias

    return block(up, down, hidden, module, module.activation, 0.0, context)


@forward_error.register(nn.Sequential)
def _(module: nn.Sequential, bound: Bound, context: RoundingContext) -> Step:
    flow = chain([*module], bound.parts, [context.below(name) for name in module._modules])

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        y, error, _ = flow(z, distance)
        return y, error

    return step


@forward_error.register(Residual, Sum, Concatenate)
def _(module: Residual | Sum | Concatenate, bound: Bound, context: RoundingContext) -> Step:
    """The errors of the branches, and those of the sum."""
    branches = [module.branch] if isinstance(module, Residual) else [*module.branches]
    names = ["branch"] if isinstance(module, Residual) else [f"branches.{i}" for i in range(len(branches))]
    parts = next(b.parts for b in (bound, *bound.others) if b.parts)
    flows = [
        chain([branch], [part], [context.below(name)])
        for branch, part, name in zip(branches, parts, names, strict=True)
    ]
    terms = 0 if isinstance(module, Concatenate) else len(branches) + 1

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        delta, size = Affine.zero(z), norm
        for flow in flows:
            y, error, apart = flow(z.clone(), distance)
            delta, size = delta + error, size + apart + lengths(y)
        return module(z), delta + context.format.gamma(terms) * size + 4 * context.format.tiny * z[0].numel()

    return step


def _in_a_row(module: PlainResidual | PlainSandwich, bound: Bound, context: RoundingContext) -> Step:
    """The errors of the parts of a plain layer one after another."""
    parts = next(b.parts for b in (bound, *bound.others) if len(b.parts) == 3)
    names = "up", "activation", "down"
    flow = chain([module.get_submodule(n) for n in names], parts, [context.below(n) for n in names])

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        y, error, _ = flow(z, distance)
        return y, error

    return step


def _averages(module: nn.Module, bound: Bound, gamma: float, tiny: float) -> Step:
    """Sums of nonnegative weights: the map of absolute values is the map itself."""

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        return module(z), (gamma * bound.value) * norm + 8 * z[0].numel() * tiny

    return step
