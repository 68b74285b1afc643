"""Rules of `forward_error` for centred and pooled lengths, for residual layers with several inner layers, for bi-Lipschitz and
recurrent ones."""

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.nn.bilipschitz import BiLipschitz
from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.tree import Bound, product_above
from sdplip.nn.bounds.weights import effective, exact
from sdplip.nn.deep_residual import DeepResidualLinear, PlainDeepResidual, plain_deep
from sdplip.nn.lipkernel import LipKernel, PlainLipKernel, plain_lipkernel
from sdplip.nn.normalisation import ActNorm, BatchLipNorm
from sdplip.nn.pooling import CenterNorm, GlobalL2Pool, L2Pool1d, L2Pool2d, L2Pool3d
from sdplip.nn.recurrent import Recurrent
from sdplip.nn.sandwich_conv import CompactSandwichConv2d
from sdplip.robustness.absolute import LinearMap, tap_sums
from sdplip.robustness.rounding_flow import (
    REACH,
    Affine,
    RoundingContext,
    Step,
    chain,
    forward_error,
    lengths,
)
from sdplip.robustness.rounding_maps import block, within_range


@forward_error.register(CenterNorm)
def _(module: CenterNorm, bound: Bound, context: RoundingContext) -> Step:
    """The mean and its subtraction, then two roundings of every entry of the result."""

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        format, y = context.format, module(z)
        centred = (2 * format.gamma(z.shape[1] + 4)) * norm + 4 * z[0].numel() * format.tiny
        outer = (2 * format.gamma(3)) * (bound.value * (norm + distance) + lengths(y))
        return y, (2 * bound.value) * centred + outer + 4 * format.tiny * y[0].numel()

    return step


@forward_error.register(BatchLipNorm, ActNorm)
def _(module: BatchLipNorm | ActNorm, bound: Bound, context: RoundingContext) -> Step:
    """Two roundings of the scaled entries, which are the result less the shift, and one of the result."""
    shift = float(module.bias.detach().double().norm())

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        format, y = context.format, module(z)
        outer = bound.value * distance + lengths(y) + shift * sqrt(prod(z.shape[2:])) * GENEROUS
        return y, (2 * format.gamma(3)) * outer + 4 * format.tiny * y[0].numel()

    return step


# Note [lengths]. A sum of k squares has a relative error of gamma_k, its root half of that, and the root rounds once. Squares below
# the least normal number may vanish: at most k tiny in all, which the root makes sqrt(k tiny). Overflow: squares below `large`.


@forward_error.register(GlobalL2Pool, L2Pool1d, L2Pool2d, L2Pool3d)
def _(module: nn.Module, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    """See Note [lengths]; the average of a window and its size are two roundings more."""

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        format, y = context.format, module(z)
        terms = prod(z.shape[2:])
        small = 2 * sqrt(2 * terms * format.tiny) * sqrt(y[0].numel())
        delta = format.gamma(terms + 6) * norm + small
        square = Affine(norm.constant**2 * GENEROUS * 4, 0.0) + (4 * (norm.slope * REACH) ** 2)
        return y, within_range(delta, square, format)

    return step


@forward_error.register(DeepResidualLinear, PlainDeepResidual)
def _(module: DeepResidualLinear | PlainDeepResidual, bound: Bound, context: RoundingContext) -> Step:
    """The errors of the branch, of the product with h, and of the sum."""
    plain = plain_deep(module) if isinstance(module, DeepResidualLinear) else module
    parts = next(b.parts for b in (bound, *bound.others) if b.parts)
    below = context.below("branch")
    flow = chain([*plain.branch], parts, [below.below(name) for name in plain.branch._modules])

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        y, delta, apart = flow(z.clone(), distance)
        size = abs(module.h) * norm + apart + lengths(y)
        return module(z), delta + (2 * context.format.gamma(3)) * size + 4 * context.format.tiny * z[
            0
        ].numel()

    return step


@forward_error.register(BiLipschitz)
def _(module: BiLipschitz, bound: Bound, context: RoundingContext) -> Step:
    """The error of the inner module, and three roundings of the two products and their sum."""
    flow = chain([module.inner], bound.parts, [context.below("inner")])
    a, r, format = module.centre, module.radius, context.format

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        y, delta, apart = flow(z.clone(), distance)
        size = a * norm + r * (apart + lengths(y))
        delta = r * delta + (2 * format.gamma(3)) * size + 4 * format.tiny * z[0].numel()
        return module(z), within_range(delta, size, format)

    return step


@forward_error.register(LipKernel, PlainLipKernel)
def _(module: LipKernel | PlainLipKernel, bound: Bound, context: RoundingContext) -> Step:
    """The errors of the layers one after another."""
    plain = plain_lipkernel(module) if isinstance(module, LipKernel) else module
    parts = next(b.parts for b in (bound, *bound.others) if b.parts)
    below = context.below("layers")
    flow = chain([*plain.layers], parts, [below.below(name) for name in plain.layers._modules])

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        y, error, _ = flow(z, distance)
        return y, error

    return step


@forward_error.register(CompactSandwichConv2d)
def _(module: CompactSandwichConv2d, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    where = Context(context.path)
    AB = abs(effective(module.pair, "weight", where))
    A, B = np.split(AB, [module.out_channels], 1)
    before, after = (exact(d.detach(), module, "log_psi", where) for d in module.diagonals())
    bias = None if module.bias is None else abs(effective(module, "bias", where))
    up = LinearMap(tap_sums(B, 1) * before[:, None], prod(B.shape[1:]) + 3, bias, 2)
    down = LinearMap(tap_sums(A, 1).T * after, prod(A.shape[2:]) * len(A) + 3, None, 2)
    return block(up, down, module.hidden, module, module.activation, 0.0, context)


@forward_error.register(Recurrent)
def _(module: Recurrent, bound: Bound, context: RoundingContext) -> Step:
    parts = bound.parts
    flow = chain(
        [module.cell, module.activation], parts, [context.below("cell"), context.below("activation")]
    )
    once = product_above(tuple(part.value for part in parts))

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        state = z.new_zeros(len(z), module.hidden)
        error = total = apart = Affine.zero(z)
        states = []
        for x in z.unbind(1):
            if module.decay != 1:  # one rounding more of what a state is, at the sequence and around it
                size = module.decay * (apart + lengths(state))
                lost = (2 * context.format.gamma(1)) * size + 4 * context.format.tiny * module.hidden
                state, apart = module.decay * state, module.decay * apart
                error = module.decay * error + lost
            state, delta, apart = flow(torch.cat([x, state], 1), distance + apart)
            error = once * error + delta
            total = total + error
            states.append(state)
        return (torch.stack(states, 1), total) if module.all_states else (state, error)

    return step
