r"""How our layers become pieces of the network, where that says more than their operations do.

The way down of a residual layer is the transpose of the very map that goes up, so that a proof sees $W$ and $W^\top$; lengths and
reflections are what they are. All other layers are followed through their forward. The numbers are those that forward multiplies
with.
"""

from math import prod
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.operators import (
    LARGEST,
    AbstractLinear,
    Convolution,
    Dense,
    Diagonal,
    Equilibrium,
    Gather,
    Grouped,
    Norms,
    OnAxis,
    Scatter,
    Transposed,
    pooling_windows,
)
from sdplip.network.read.arrays import Array, added, concatenated, entries, noted, own, scale
from sdplip.network.read.maps import activation, grouped, on_axis
from sdplip.network.read.torch.layers import Follow, register
from sdplip.network.read.torch.shadows import numbers_of
from sdplip.nn.activations import BetaAbs, Householder, NActivation
from sdplip.nn.blocked import Blocked
from sdplip.nn.deep_residual import DeepResidualLinear, plain_deep
from sdplip.nn.equilibrium import EquilibriumLinear, function
from sdplip.nn.heads import UnitSphere
from sdplip.nn.lipkernel import LipKernel, plain_lipkernel
from sdplip.nn.orthogonal import AbstractFourierConv2d, BROConv2d, CayleyConv2d
from sdplip.nn.plain import plain_sandwich_conv
from sdplip.nn.pooling import GlobalL2Pool, L2Pool1d, L2Pool2d, L2Pool3d
from sdplip.nn.products import products
from sdplip.nn.propagate import Propagate
from sdplip.nn.residual import (
    AbstractResidual,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
)
from sdplip.nn.sandwich_conv import AbstractSandwichConv2d, CompactSandwichConv2d, SandwichConv2d
from sdplip.nn.shifts import Shifts


@register(ResidualLinear)
def _(module: ResidualLinear, x: Array, follow: Follow) -> Array:
    W, b = numbers_of(module.weight), None if module.bias is None else numbers_of(module.bias)
    if x.shape[-1] != W.shape[1]:
        raise InvalidWeight(f"is a layer of {W.shape[1]} features, but is given {x.shape[-1]}.")
    before = x.size // W.shape[1]
    A = Dense(W, b) if before == 1 else OnAxis(W, before, 1, None if b is None else np.tile(b, before))
    return residual(module, x, A, (*x.shape[:-1], len(W)), follow)


@register(ResidualConv1d, ResidualConv2d, ResidualConv3d)
def _(module: Any, x: Array, follow: Follow) -> Array:
    K, b, shifts = numbers_of(module.weight), module.bias, module.shifts
    assert isinstance(shifts, Shifts)
    if x.rank != module.axes + 2 or x.shape[0] != 1:
        raise InvalidWeight(f"takes images of {module.axes} axes, but is given {x.full}.")
    pads = tuple(zip(shifts.before, shifts.after, strict=True))
    A = Convolution(K, x.shape[2:], shifts.stride, pads, shifts.dilation, shifts.groups, shifts.circular)
    if b is not None:
        b = np.repeat(numbers_of(b), prod(A.output_size))
        A = Convolution(
            K, x.shape[2:], shifts.stride, pads, shifts.dilation, shifts.groups, shifts.circular, b
        )
    return residual(module, x, A, (1, *A.shape), follow)


def residual(
    module: AbstractResidual, x: Array, A: AbstractLinear, shape: tuple[int, ...], follow: Follow
) -> Array:
    r"""$h x - A^\top S \sigma(A x + b)$ with the step $S$ as a map of its own, so that no product is rounded."""
    v = follow(module.activation, noted(x, A, shape))
    step = numbers_of(module.step())
    every = np.repeat(step, A.outputs // len(step)) if module.axes else np.tile(step, A.outputs // len(step))
    update = noted(noted(v, Diagonal(every)), Transposed(A), x.shape)
    return added((scale(x, np.array(module.h)), update), (1, -1))


@register(DeepResidualLinear)
def _(module: DeepResidualLinear, x: Array, follow: Follow) -> Array:
    """With its weights as they run, in place of the factorisations that they come from."""
    return follow(plain_deep(module), x)


@register(LipKernel)
def _(module: LipKernel, x: Array, follow: Follow) -> Array:
    """With its weights as they run, in place of the factorisations that they come from."""
    return follow(plain_lipkernel(module), x)


@register(EquilibriumLinear)
def _(module: EquilibriumLinear, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    """The equation that its outputs solve, with the weights that its forward multiplies with."""
    if x.size != module.features or x.shape[-1] != module.features:
        raise InvalidWeight(f"takes {module.features} numbers, but is given {x.full}.")
    W, U, G = (numbers_of(A) for A in module.weights())
    c = noted(x, Dense(U, numbers_of(module.bias)), (*x.shape[:-1], module.hidden))
    z = noted(c, Equilibrium(W, *function(module.activation)))
    return noted(z, Dense(G, numbers_of(module.shift)), (*x.shape[:-1], module.out))


@register(Householder)
def _(module: Householder, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    dim, pairs = module.dim % x.rank, len(module.theta)
    if x.shape[dim] != 2 * pairs:
        raise InvalidWeight(f"takes {2 * pairs} channels, but is given {x.shape[dim]}.")
    own(x, dim)
    groups = np.moveaxis(entries(x), dim, 0).reshape(2, pairs, -1).transpose(1, 2, 0).reshape(-1, 2)
    each = len(groups) // pairs
    a, b = (np.repeat(numbers_of(v), each) for v in module.mirror())
    return noted(x, Grouped("householder", groups, x.size, {"a": a, "b": b}))


@register(NActivation)
def _(module: NActivation, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    knots, axes = numbers_of(module.knots), (1,) * (x.rank - 1 - module.dim % x.rank)
    low, high = knots.min(-1).reshape(-1, *axes), knots.max(-1).reshape(-1, *axes)
    return activation(x, "nactivation", low=low, high=high)


@register(BetaAbs)
def _(module: BetaAbs, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    """Slopes of one activation, so that a proof sees $d$ numbers and no cut."""
    dim = module.dim % x.rank
    own(x, dim)
    slope = np.ones(x.shape[dim])
    slope[: int(module.beta * len(slope))] = -1
    return activation(x, "prelu", slope=slope.reshape(-1, *(1,) * (x.rank - 1 - dim)))


@register(GlobalL2Pool)
def _(module: GlobalL2Pool, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    if x.rank < 3:
        raise InvalidWeight(f"takes images, but is given {x.full}.")
    groups = entries(x).reshape(prod(x.shape[:2]), -1)
    return noted(x, Norms(groups, x.size), x.shape[:2])


@register(L2Pool1d, L2Pool2d, L2Pool3d)
def _(module: Any, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    window, none = tuple(module.kernel_size), ((0, 0),) * module.axes
    if x.rank != module.axes + 2:
        raise InvalidWeight(f"takes images of {module.axes} axes, but is given {x.full}.")
    groups = pooling_windows(prod(x.shape[:2]), x.shape[2:], window, window, none)
    size = tuple(h // k for h, k in zip(x.shape[2:], window, strict=True))
    return noted(x, Norms(groups, x.size), (*x.shape[:2], *size))


@register(UnitSphere)
def _(module: UnitSphere, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    """Beside the height no length is below it: the division is `normalize`, which counts lengths from `eps` on."""
    if not module.height:
        raise InvalidWeight("divides by the length, which has no constant near 0. Use a positive `height`.")
    own(x, 1)
    beside = np.full((x.shape[0], 1, *x.shape[2:]), module.height)
    return grouped(concatenated((x, beside), 1), "normalize", (1,), eps=module.height)


@register(CayleyConv2d, BROConv2d)
def _(module: AbstractFourierConv2d, x: Array, follow: Follow) -> Array:
    """By products of matrices, in place of fast Fourier transforms, whose numbers are no doubles."""
    return follow(products(module), x)


@register(SandwichConv2d, CompactSandwichConv2d)
def _(module: AbstractSandwichConv2d, x: Array, follow: Follow) -> Array:
    """As two convolutions, so that a proof sees both with what stands between them."""
    return follow(plain_sandwich_conv(module), x)


@register(Blocked)
def _(module: Blocked, x: Array, follow: Follow) -> Array:
    return follow(module.layer, x)


@register(Propagate)
def _(module: Propagate, x: Array, follow: Follow) -> Array:  # noqa: ARG001
    """One matrix on the axis of the nodes; a graph too large for that edge by edge: read, weighed, added up."""
    own(x, 1)
    rows, columns = module.edges.cpu().numpy()
    values = numbers_of(module.values)
    if x.rank < 2 or x.shape[:2] != (1, module.nodes):
        raise InvalidWeight(f"takes (batch, {module.nodes} nodes, *features), but is given {x.full}.")
    if module.nodes**2 <= LARGEST:
        A = np.zeros((module.nodes, module.nodes))
        A[rows, columns] = values
        return on_axis(x, A, 1)
    each = prod(x.shape[2:])
    x.tape.need(len(values) * each)
    places = np.arange(x.size).reshape(module.nodes, each)
    read = noted(x, Gather(places[columns].reshape(-1), x.size), (1, len(values), *x.shape[2:]))
    weighed = noted(read, Diagonal(np.repeat(values, each)))
    return noted(weighed, Scatter(places[rows].reshape(-1), x.size), x.shape)
