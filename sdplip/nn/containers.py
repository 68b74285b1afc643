"""Modules that wire branches together, each with an exact rule for its Lipschitz constant."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Concatenate(nn.Module):
    r"""Outputs of all branches one after another along `dim`: $\sqrt{\sum L_i^2}$."""

    def __init__(self, branches: Sequence[nn.Module], dim: int = 1) -> None:
        super().__init__()
        self.branches, self.dim = nn.ModuleList(branches), dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], self.dim)


class Sum(nn.Module):
    r"""Sum of the outputs of all branches: $\sum L_i$.

    `Sum([Scale(1 - t), nn.Sequential(f, Scale(t))])` is the averaged operator $(1 - t) x + t f(x)$.
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        if not branches:
            raise ValueError("`branches` is empty. Give at least one module.")
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = self.branches
        y = first(x)
        for branch in rest:
            y = _add(y, branch(x))
        return y


class Residual(nn.Module):
    r"""$x + f(x)$: $1 + L_f$, and where $f$ is linear the norm of $I + f$ itself, which is often smaller (LiResNet)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return _add(x, self.branch(x))


class Scale(nn.Module):
    r"""Multiplies by a fixed number: $|\mathrm{factor}|$. It sets the constant of a network of 1-Lipschitz layers."""

    factor: Tensor

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(float(factor)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor.to(x.dtype)


def _add(x: Tensor, y: Tensor) -> Tensor:
    """Sum of two tensors of one shape. Broadcasting would copy entries, and copies stretch distances."""
    if x.shape != y.shape:
        raise ValueError(
            f"Branches must have one shape, but have {tuple(x.shape)} and {tuple(y.shape)}. Make them equal, or use"
            " `Concatenate`."
        )
    return x + y


class BoundedScale(nn.Module):
    r"""Multiplies by $\mathrm{most} \cdot \tanh(\theta)$ with a learned $\theta$: a constant that training chooses, at most `most`."""

    def __init__(self, most: float, start: float | None = None) -> None:
        super().__init__()
        start = most / 2 if start is None else start
        if not 0 <= abs(start) < most < math.inf:
            raise ValueError(
                f"`start` must be below `most` in absolute value, but they are {start} and {most}."
            )
        self.most = float(most)
        self.theta = nn.Parameter(torch.tensor(math.atanh(start / most)))

    def factor(self) -> Tensor:
        """The number that forward multiplies with."""
        return self.most * torch.tanh(self.theta)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor().to(x.dtype)

    def extra_repr(self) -> str:
        return f"most={self.most}"


class ChannelScale(nn.Module):
    r"""$s_i x_i$ for each channel $i$ (axis 1) with learned $s$: LayerScale, ActNorm without bias. The constant is $\max_i |s_i|$."""

    def __init__(self, channels: int, start: float = 1.0) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.full((channels,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != len(self.factors):
            raise ValueError(
                f"`ChannelScale` was built for {len(self.factors)} channels, but got the shape {tuple(x.shape)}."
            )
        return x * self.factors.reshape(-1, *(1,) * (x.ndim - 2))

    def extra_repr(self) -> str:
        return f"{len(self.factors)}"
