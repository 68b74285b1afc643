"""Rules of containers: how bounds compose."""

import numpy as np
from torch import nn

from sdplip.arithmetic.rounding import UNIT, up
from sdplip.geometry import Geometry
from sdplip.nn.bounds.affine import conv_geometry
from sdplip.nn.bounds.dispatch import Context, Shape, lipschitz
from sdplip.nn.bounds.tree import Bound, best, product_above, root_sum_square_above, shown, sum_above
from sdplip.nn.bounds.weights import convolution_bound, effective, exact, matrix_bound
from sdplip.nn.containers import BoundedScale, ChannelScale, Concatenate, Residual, Scale, Sum
from sdplip.nn.heads import LastLayerNormalised


@lipschitz.register(nn.Sequential)
def _(module: nn.Sequential, context: Context) -> Bound:
    parts, _ = sequence(module, context)
    return Bound(
        product_above(tuple(part.value for part in parts)), f"product of {len(parts)} parts", parts=parts
    )


def sequence(module: nn.Sequential, context: Context) -> tuple[tuple[Bound, ...], Shape | None]:
    """Bounds of the modules of a chain, and the shape of a sample after them."""
    parts, shape = [], context.input_shape
    for name, child in module._modules.items():  # `named_children` would leave out a module that occurs twice
        assert child is not None
        parts.append(context.bound(child, name, shape))
        shape = Context(f"{context.path}.{name}" if context.path else name, shape).output_shape(child)
    return tuple(parts), shape


@lipschitz.register(Concatenate)
def _(module: Concatenate, context: Context) -> Bound:
    if module.dim == 0:
        raise context.refuse(module, "`dim=0` is the batch axis. Use 1.")
    parts = _branches(module.branches, context)
    return Bound(
        root_sum_square_above(_values(parts)), "root of the sum of squares of the branches", parts=parts
    )


@lipschitz.register(Sum)
def _(module: Sum, context: Context) -> Bound:
    parts = _branches(module.branches, context)
    return Bound(sum_above(_values(parts)), "sum of the branches", parts=parts)


@lipschitz.register(Residual)
def _(module: Residual, context: Context) -> Bound:
    part = context.bound(module.branch, "branch", context.input_shape)
    by_triangle = Bound(sum_above((1.0, part.value)), "1 + the branch", parts=(part,))
    joint = _identity_plus(module.branch, context)
    return by_triangle if joint is None else best(by_triangle, joint)


def _identity_plus(branch: nn.Module, context: Context) -> Bound | None:
    """Norm of identity + linear branch as one linear map, where it is one and keeps the shape."""
    cls = lipschitz.registered(branch)
    if cls is nn.Linear:
        W = effective(branch, "weight", context)
        if W.shape[0] != W.shape[1]:
            return None
        return _summed(matrix_bound(W + np.eye(len(W)), "identity + weight"), W.diagonal())
    if cls not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return None
    K = effective(branch, "weight", context)
    size = None if context.input_shape is None else context.input_shape[1:]
    geometry = conv_geometry(branch, size).expand(K.shape)  # pyright: ignore[reportArgumentType]
    middle = _middle_tap(K.shape, geometry)
    if middle is None:
        return None
    delta = np.zeros_like(K)
    channel = np.arange(K.shape[0])
    delta[channel, channel % K.shape[1], *middle] = 1.0
    return _summed(
        convolution_bound(K + delta, geometry, "identity + kernel"),
        K[channel, channel % K.shape[1], *middle],
    )


def _middle_tap(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, ...] | None:
    """The tap that reads the pixel under the output, if input and output have the same shape."""
    expanded = geometry.expand(shape)
    out, per_group, *taps = shape
    reach = [d * (k - 1) for d, k in zip(expanded.dilation, taps, strict=True)]
    before = tuple(r // 2 for r in reach) if expanded.padding is None else expanded.padding
    same = all(
        s == 1 and (expanded.padding is None or 2 * p == r) and p % d == 0
        for s, r, p, d in zip(expanded.stride, reach, before, expanded.dilation, strict=True)
    )
    if not same or out != per_group * expanded.groups:
        return None
    return tuple(p // d for p, d in zip(before, expanded.dilation, strict=True))


def _summed(bound: Bound, diagonal: np.ndarray) -> Bound:
    """The bound of the exact sum: adding 1 to the `diagonal` rounded it, which is a diagonal perturbation."""
    error = 2 * UNIT * (1 + float(abs(diagonal).max()))
    return Bound(up(bound.value + error), bound.reason, certificate=bound.certificate)


@lipschitz.register(Scale)
def _(module: Scale, context: Context) -> Bound:
    factor = float(abs(effective(module, "factor", context)))
    return Bound(factor, f"multiplies by {shown(factor)} in absolute value")


@lipschitz.register(BoundedScale)
def _(module: BoundedScale, context: Context) -> Bound:
    factor = float(abs(exact(module.factor().detach(), module, "theta", context)))
    return Bound(factor, f"multiplies by {shown(factor)} in absolute value")


@lipschitz.register(ChannelScale)
def _(module: ChannelScale, context: Context) -> Bound:
    largest = float(abs(effective(module, "factors", context)).max())
    return Bound(largest, f"multiplies channels by at most {shown(largest)} in absolute value")


@lipschitz.register(LastLayerNormalised)
def _(module: LastLayerNormalised, context: Context) -> Bound:
    effective(module, "weight", context)
    bound = matrix_bound(exact(module.rows().detach(), module, "rows", context), "the normalised weight")
    reason = bound.reason + "; use `pairwise_lipschitz` for radii"
    return Bound(bound.value, reason, certificate=bound.certificate)


def _branches(branches: nn.ModuleList, context: Context) -> tuple[Bound, ...]:
    return tuple(
        context.bound(branch, f"branches.{i}", context.input_shape) for i, branch in enumerate(branches)
    )


def _values(parts: tuple[Bound, ...]) -> tuple[float, ...]:
    return tuple(part.value for part in parts)


@lipschitz.register(nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict, nn.Container)
def _(module: nn.Module, context: Context) -> Bound:
    raise context.refuse(
        module, "it has no forward pass of its own. Use `nn.Sequential`, or `sdplip.nn` containers."
    )
