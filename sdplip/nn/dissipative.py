r"""Layers of LipKernel networks: free tensors, and the weight that they make of the metric in front (Pauli et al., arXiv 2303.11835, 2410.22258)."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidWeight
from sdplip.nn.cayley import cayley
from sdplip.nn.given import count
from sdplip.nn.roesser import gramian_kernel, roesser_kernel, split

# Note [metrics]. Layer k is nonexpansive from the metric |L_k u|, summed over pixels, to |L_{k+1} z| behind its activation; L_0 = bound I, and the
# last layer maps L_K z to the outputs without stretching. Then the network is `bound`-Lipschitz, though no layer need be anything. A mean
# over p disjoint pixels multiplies L by sqrt p; flattening lays L beside itself, one for each pixel.
#
# Dense layer without state: with |N| <= 1, E E' = I - N'N and Gamma = e^g, W = sqrt(2) Gamma^-1 N' L and L_+ = sqrt(2) E' Gamma satisfy
# [L'L, -W' Lam; -Lam W, 2 Lam - L_+'L_+] >= 0 for Lam = Gamma^2: its Schur complement is 2 Gamma (I - E E' - N'N) Gamma = 0. Last: W = N' L.
#
# Nothing of this is trusted: `lipschitz` proves the kernels that run, with the multipliers Lam that come along, by the rule `frequency`.

Made = tuple[Tensor, Tensor, Tensor]
"""Weight, root of the metric behind it, multipliers."""


class AbstractLipKernel(nn.Module, ABC):
    """A layer of a `LipKernel` network: free tensors, and the weight that they make of the metric in front of it."""

    @abstractmethod
    def made(self, L: Float[Tensor, "n n"], pixels: int) -> Made:
        """In double precision. `pixels`: how often L stands beside itself in front of a dense layer."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Normal free tensors, uniform bias."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""

    @abstractmethod
    def plain(self) -> nn.Module:
        """The layer of torch that it becomes."""


class LipKernelLinear(AbstractLipKernel):
    r"""Dense layer, see Note [metrics]. Behind an image it reads `channels * pixels` features, as `nn.Flatten` orders them."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True) -> None:
        super().__init__()
        self.in_features = count("in_features", in_features, 1, InvalidWeight)
        self.out_features = count("out_features", out_features, 1, InvalidWeight)
        self.weight = nn.Parameter(torch.empty(in_features + out_features, out_features))
        self.log_gamma: nn.Parameter | None = nn.Parameter(torch.zeros(out_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_normal_(self.weight)
        _uniform(self.bias, self.in_features)

    def made(self, L: Float[Tensor, "n n"], pixels: int) -> Made:
        assert self.log_gamma is not None, "only the last layer has none"
        N, E = split(self.weight.double(), self.in_features)
        gamma = self.log_gamma.double().exp()
        W = math.sqrt(2) / gamma[:, None] * _beside(N.mT, L, pixels)
        return W, math.sqrt(2) * E.mT * gamma, gamma**2

    def last(self, L: Float[Tensor, "n n"], pixels: int) -> Tensor:
        """The weight of the last layer, behind which there is no activation."""
        return _beside(cayley(self.weight.double())[: self.in_features].mT, L, pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out_features, self.in_features

    def plain(self) -> nn.Linear:
        return nn.Linear(self.in_features, self.out_features, self.bias is not None)


class AbstractLipKernelConv(AbstractLipKernel):
    """What convolutions of one and two axes share. Strides regroup pixels into phases, one channel each."""

    axes: int

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = count("in_channels", in_channels, 1, InvalidWeight)
        self.out_channels = count("out_channels", out_channels, 1, InvalidWeight)
        self.stride, self.padding = (
            count("stride", stride, 1, InvalidWeight),
            count("padding", padding, 0, InvalidWeight),
        )
        self.kernel_size = count("kernel_size", kernel_size, 1, InvalidWeight)
        if self.kernel_size % self.stride:
            raise InvalidWeight(
                f"`kernel_size` must be a multiple of the stride {self.stride}, but is {self.kernel_size}."
            )
        self.free = nn.ParameterList(torch.empty(shape) for shape in self._shapes())
        self.log_gamma = nn.Parameter(torch.empty(out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    @property
    def phases(self) -> int:
        """Channels of the phases."""
        return self.in_channels * self.stride**self.axes

    @property
    def taps(self) -> int:
        """Of the kernel on the grid of phases, each axis."""
        return self.kernel_size // self.stride

    def reset_parameters(self) -> None:
        for free in self.free:
            if free.numel():
                nn.init.xavier_normal_(free)
        nn.init.constant_(self.log_gamma, self.start)
        _uniform(self.bias, self.in_channels * self.kernel_size**self.axes)

    def made(self, L: Float[Tensor, "n n"], pixels: int) -> Made:  # noqa: ARG002
        wide = torch.kron(L, torch.eye(self.stride**self.axes, dtype=L.dtype, device=L.device))
        free = [f.double() for f in self.free]
        K, after, multipliers = self._kernel(free, self.log_gamma.double(), wide)
        s, k = self.stride, self.taps
        K = K.reshape(self.out_channels, self.in_channels, *(s,) * self.axes, *(k,) * self.axes)
        order = [
            d for a in range(self.axes) for d in (2 + self.axes + a, 2 + a)
        ]  # taps, then phases of each axis
        return K.permute(0, 1, *order).reshape(*K.shape[:2], *(s * k,) * self.axes), after, multipliers

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels, *(self.kernel_size,) * self.axes

    def plain(self) -> nn.Module:
        conv: Any = (nn.Conv1d, nn.Conv2d)[self.axes - 1]
        return conv(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            bias=self.bias is not None,
        )

    start = 0.0

    @abstractmethod
    def _shapes(self) -> list[tuple[int, int]]:
        """Of the free matrices."""

    @abstractmethod
    def _kernel(self, free: list[Tensor], log_gamma: Tensor, L: Tensor) -> Made:
        """`(out, phases, *taps)`, the metric behind, and multipliers."""


class LipKernelConv1d(AbstractLipKernelConv):
    """Convolution of one axis by the Gramian of its shift register, see `roesser.gramian_kernel`."""

    axes = 1

    def _shapes(self) -> list[tuple[int, int]]:
        n = self.phases * (self.taps - 1)
        return [(n, n), (n + self.phases + self.out_channels, self.out_channels)]

    def _kernel(self, free: list[Tensor], log_gamma: Tensor, L: Tensor) -> Made:
        return gramian_kernel(free[0], free[1], log_gamma, L, self.taps)


class LipKernelConv2d(AbstractLipKernelConv):
    """Convolution of two axes by a Roesser system, see `roesser.roesser_kernel`."""

    axes, start = 2, -1.0

    def _shapes(self) -> list[tuple[int, int]]:
        inner, outer = self.phases * (self.taps - 1), self.out_channels * (self.taps - 1)
        last = self.out_channels + inner + self.phases
        return [
            (outer, inner),
            (outer, self.phases),
            (outer, outer),
            (inner, inner),
            (last, self.out_channels),
        ]

    def _kernel(self, free: list[Tensor], log_gamma: Tensor, L: Tensor) -> Made:
        return roesser_kernel(free, log_gamma, L, self.taps)


def _beside(U: Float[Tensor, "out n_times_pixels"], L: Float[Tensor, "m n"], pixels: int) -> Tensor:
    """U times L beside itself, one for each pixel, channels first."""
    return torch.einsum("omp,mn->onp", U.reshape(len(U), len(L), pixels), L).reshape(len(U), -1)


def _uniform(bias: Tensor | None, inputs: int) -> None:
    if bias is not None:
        nn.init.uniform_(bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
