"""The lower side: how much a module provably stretches somewhere, up to the rounding of the forward pass."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import grad, vjp

Map = Callable[[Tensor], Tensor]


def estimate_lipschitz(
    module: nn.Module,
    samples: Float[Tensor, "batch *shape"],
    *,
    iterations: int = 20,
    ascent_steps: int = 10,
    step: float = 0.05,
    generator: torch.Generator | None = None,
) -> float:
    r"""Largest Jacobian norm found near `samples`: never above the Lipschitz constant, so `estimate <= lipschitz(module)`.

    At each sample, power iteration on $J^\top J$ by reverse derivatives; then the sample climbs along the gradient
    of $\lVert J v \rVert$ (where that vanishes, as in piecewise linear networks, at random), and
    the direction follows. The first stride is `step` times the length of the sample; it halves where it did not help. The
    result is lowered by 100 units in the last place, for the rounding of the derivatives.

    Args:
        module: in eval mode where that matters; samples of a batch must not depend on each other.
        samples: inputs to start from, in the dtype of the module; they are not changed.
        generator: random numbers for directions; torch's global ones by default.
    """

    def f(x: Tensor) -> Tensor:
        return module(x)

    x = samples.detach()
    v = _unit(torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype))
    v = _power(f, x, v, iterations)
    found = _stretch(f, x, v)
    stride = step * _lengths(x).clamp_min(1e-3)
    for _ in range(ascent_steps):
        direction = _climb(f, x, v, generator)
        y = x + _like(stride, x) * direction
        w = _power(f, y, v, 3)
        value = _stretch(f, y, w)
        better = value > found
        found = torch.where(better, value, found)
        x, v = torch.where(_like(better, x), y, x), torch.where(_like(better, x), w, v)
        stride = torch.where(better, stride, stride / 2)
    v = _power(f, x, v, iterations)
    best = float(torch.maximum(found, _stretch(f, x, v)).max())
    return best * (1 - 100 * torch.finfo(x.dtype).eps)


def _power(f: Map, x: Tensor, v: Tensor, iterations: int) -> Tensor:
    """Top right singular vector of the Jacobian at each sample, approached from `v`."""
    for _ in range(iterations):
        u = _directional(f, x, v)
        v = _unit(vjp(f, x)[1](u)[0].detach(), otherwise=v)
    return v


def _directional(f: Map, x: Tensor, v: Tensor) -> Tensor:
    r"""$J v$ as the derivative of $u \mapsto u^\top J$: reverse mode twice, which every module of torch supports."""
    y, pull, *_ = vjp(f, x)
    return vjp(lambda u: pull(u)[0], torch.zeros_like(y))[1](v)[0]


def _stretch(f: Map, x: Tensor, v: Tensor) -> Float[Tensor, " batch"]:
    """Length of the directional derivative along unit vectors."""
    return _lengths(_directional(f, x, v).detach()) / _lengths(v)


def _climb(f: Map, x: Tensor, v: Tensor, generator: torch.Generator | None) -> Tensor:
    """Unit directions in which the stretch along `v` grows; random where its gradient is 0."""
    gradient = grad(lambda y: _lengths(_directional(f, y, v)).sum())(x).detach()
    noise = _unit(torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype))
    return _unit(gradient, otherwise=noise)


def _lengths(x: Tensor) -> Float[Tensor, " batch"]:
    return x.flatten(1).norm(dim=1)


def _like(values: Float[Tensor, " batch"], x: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (x.ndim - 1))


def _unit(x: Tensor, otherwise: Tensor | None = None) -> Tensor:
    length = _like(_lengths(x), x)
    usable = (length > 0) & length.isfinite()
    unit = x / torch.where(usable, length, torch.ones_like(length))
    return unit if otherwise is None else torch.where(usable, unit, otherwise)
