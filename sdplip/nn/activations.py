r"""Activations with Jacobians of norm 1: GroupSort and MaxMin, Householder, N-activation, absolute value."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GroupSort(nn.Module):
    """Sorts neighbouring channels in groups of `group_size`, in ascending order; 2 is the OPLU or GroupSort2 activation.

    A permutation at every input, so it keeps gradients' norms. Anil, Lucas and Grosse, ICML 2019. Within a residual
    block it is not allowed, because it does not act elementwise.
    """

    def __init__(self, group_size: int = 2, dim: int = 1) -> None:
        super().__init__()
        if group_size < 1:
            raise ValueError(f"`group_size` must be at least 1, but is {group_size}.")
        self.group_size, self.dim = group_size, dim

    def forward(self, x: Tensor) -> Tensor:
        _check_divides(self.group_size, x.shape[self.dim], "group_size")
        groups = x.unflatten(self.dim, (-1, self.group_size))
        dim = self.dim + 1 if self.dim >= 0 else self.dim
        if self.group_size != 2:
            return groups.sort(dim).values.flatten(dim - 1, dim)
        a, b = groups.unbind(dim)  # far cheaper than a sort
        return torch.stack((torch.minimum(a, b), torch.maximum(a, b)), dim).flatten(dim - 1, dim)

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}, dim={self.dim}"


class MaxMin(nn.Module):
    """Pairs the two halves of the channels, and returns all maxima, then all minima.

    The convention of SOC, LiResNet and orthogonium. (In deel-torchlip MaxMin doubles the channels to `relu(x), relu(-x)`.)
    """

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        _check_divides(2, x.shape[self.dim], "the size of a pair")
        if x.requires_grad and not torch.compiler.is_compiling():
            return _MaxMin.apply(x, self.dim)
        return _sorted_halves(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class _MaxMin(torch.autograd.Function):
    """`_sorted_halves` with a gradient that is a permutation at ties too, at a fifth of the cost of torch's own on a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int) -> Tensor:
        return _sorted_halves(x, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[0])
        ctx.dim = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _swapped(ctx.saved_tensors[0], gradient, ctx.dim), None


def _sorted_halves(x: Tensor, dim: int) -> Tensor:
    """All maxima of the pairs (first half, second half), then all minima."""
    a, b = x.chunk(2, dim)
    return torch.cat((torch.maximum(a, b), torch.minimum(a, b)), dim)


def _swapped(x: Tensor, g: Tensor, dim: int) -> Tensor:
    """The permutation that sorts the pairs of `x`, applied to `g`; it is its own inverse."""
    a, b = x.chunk(2, dim)
    p, q = g.chunk(2, dim)
    keep = a - b
    below_zero = -torch.finfo(keep.dtype).tiny
    p_kept = torch.ops.aten.threshold_backward(
        p, keep, below_zero
    )  # p where a >= b, otherwise 0: `where`, vectorised
    q_kept = torch.ops.aten.threshold_backward(q, keep, below_zero)
    return torch.cat((p_kept + (q - q_kept), q_kept + (p - p_kept)), dim)


class Householder(nn.Module):
    r"""Householder activation of order 1 with learned angles: $z \mapsto z + 2 v\,\mathrm{relu}(-v^\top z)$ on pairs of channels.

    A pair on the negative side of the mirror is reflected to the other side; the pair is (channel $i$ of the first half, channel
    $i$ of the second half) and $v = (\sin\frac\theta2, -\cos\frac\theta2)$. An isometry at every input, as it is; no factor
    $1 / \sqrt 2$ belongs here. $v$ is shortened by a few units in the last place, so that rounding never makes it longer than 1.
    Singla, Singla and Feizi, ICLR 2022. `theta = pi / 2` is MaxMin.
    """

    def __init__(self, channels: int, dim: int = 1) -> None:
        super().__init__()
        _check_divides(2, channels, "the size of a pair")
        self.dim = dim
        self.theta = nn.Parameter(torch.full((channels // 2,), math.pi / 2))

    def mirror(self) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """The two entries of `v` for each pair, at most 1 in length."""
        short = 1 - 4 * torch.finfo(self.theta.dtype).eps
        return torch.sin(self.theta / 2) * short, -torch.cos(self.theta / 2) * short

    def forward(self, x: Tensor) -> Tensor:
        _check_equal(2 * len(self.theta), x.shape[self.dim])
        a, b = x.chunk(2, self.dim)
        axes = (1,) * (x.ndim - 1 - self.dim % x.ndim)
        va, vb = (v.reshape(-1, *axes) for v in self.mirror())
        inner = 2 * torch.relu(-va * a - vb * b)
        return torch.cat((a + va * inner, b + vb * inner), self.dim)

    def extra_repr(self) -> str:
        return f"channels={2 * len(self.theta)}, dim={self.dim}"


class NActivation(nn.Module):
    r"""N-activation $x \mapsto x - 2\,\mathrm{clamp}(x, \theta_1, \theta_2)$: slopes 1, -1, 1, two learned knots a channel.

    1-Lipschitz scalar functions that MaxMin and ReLU networks cannot express are reached with it: Prach and Lampert, 2024.
    The knots start at $(-1, 0)$: near 0 an absolute value.
    """

    def __init__(self, channels: int, dim: int = 1, *, low: float = -1.0, high: float = 0.0) -> None:
        super().__init__()
        self.dim = dim
        self.knots = nn.Parameter(torch.tensor([low, high]).repeat(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        _check_equal(len(self.knots), x.shape[self.dim])
        axes = (1,) * (x.ndim - 1 - self.dim % x.ndim)
        low, high = self.knots.amin(-1).reshape(-1, *axes), self.knots.amax(-1).reshape(-1, *axes)
        return x - 2 * torch.minimum(torch.maximum(x, low), high)

    def extra_repr(self) -> str:
        return f"channels={len(self.knots)}, dim={self.dim}"


class Abs(nn.Module):
    """Absolute value of every entry."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


class BetaAbs(nn.Module):
    r"""Absolute value of the first $\lfloor \beta d \rfloor$ of $d$ channels, the others as they are: slopes of $\pm 1$ (LipNeXt).

    $\beta = 1/2$ is MaxMin between two rotations: $(a, b) \mapsto (|a - b|, a + b) / \sqrt 2$ is that of the maximum and minimum.
    """

    def __init__(self, beta: float = 0.5, dim: int = 1) -> None:
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"`beta` is a share of the channels, from 0 to 1, but is {beta}.")
        self.beta, self.dim = beta, dim

    def forward(self, x: Tensor) -> Tensor:
        d = x.shape[self.dim]
        first, rest = x.split([int(self.beta * d), d - int(self.beta * d)], self.dim)
        return torch.cat([first.abs(), rest], self.dim)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, dim={self.dim}"


def _check_divides(size: int, channels: int, name: str) -> None:
    if channels % size:
        raise ValueError(
            f"`{name}` {size} must divide the channels, but there are {channels}. Choose another width or size."
        )


def _check_equal(expected: int, channels: int) -> None:
    """Broadcasting a single channel would copy it, and copies stretch distances."""
    if channels != expected:
        raise ValueError(
            f"The activation was built for {expected} channels, but the input has {channels}. Build one for that width."
        )
