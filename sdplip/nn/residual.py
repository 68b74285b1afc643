r"""Statement 2: residual layers $x \mapsto h x - (h + L)\, W T^{-1} \sigma(W^\top x + b)$, $L$-Lipschitz if $W^\top W \preceq T$.

With $h = L = 1$ they are the layers of SLL (Theorem 1.2; `scaling="sll"`), of CPL (`"spectral"`) and the residual form of AOL.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.condition import inverse_scaling
from sdplip.errors import InvalidScaling, InvalidWeight
from sdplip.geometry import Axes, Geometry
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.scaling import as_scaling
from sdplip.nn.shifts import Shifts, adjoint, analysis
from sdplip.nn.slopes import monotone_slope

# Note [general step]. Let sigma have slopes in [0, beta], T >= W'W and |h| <= L. With dv = d(sigma) / beta and s = W'dx, every
# dv_i (s_i - dv_i) >= 0. Put v = T^{-1/2} dv and a = T^{-1/2} s, so that a'v >= v'v. Then W'W <= T gives
#     ||h dx - (h + L) W T^{-1} dv||^2 <= h^2 ||dx||^2 - 2 h (h + L) a'v + (h + L)^2 v'v.
# Adding 2 L (h + L) (a'v - v'v) >= 0 turns it into h^2 ||dx||^2 + (L^2 - h^2) (2 a'v - v'v), which is at most
# h^2 ||dx||^2 + (L^2 - h^2) ||a||^2 <= L^2 ||dx||^2. Where t_i = 0, w_i = 0 as well: the unit contributes nothing at step 0.


class AbstractResidual(nn.Module, ABC):
    r"""Residual layer $x \mapsto h x - W S \sigma(W^\top x + b)$ with the diagonal step $S = \frac{h + L}{\beta} T^{-1}$.

    $\beta$ is the largest slope of $\sigma$, whose slopes must lie in $[0, \beta]$. The layer is $L$-Lipschitz in exact
    arithmetic (Note [general step]). What forward runs with, all of it:

    Attributes:
        weight: $W^\top$, hidden units first; the adjoint uses the same numbers.
        bias: $b$, one entry a hidden unit, or None.
        activation: $\sigma$.
        beta: largest slope of $\sigma$ when the layer was built.
        h: weight of the skip connection, $|h| \le L$.
        L: the Lipschitz constant aimed at. Nothing here is proven: `step()` and `weight` are what a proof has to look at.
        scaling: turns `weight` into `t`.
        axes: image axes, 0 for a dense layer.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    axes: int

    def __init__(
        self, scaling: str | AbstractScaling, activation: nn.Module | None, h: float, L: float
    ) -> None:
        super().__init__()
        self.activation = nn.ReLU() if activation is None else activation
        self.beta = monotone_slope(self.activation)
        if not (abs(h) <= L and 0 < L < math.inf):
            raise InvalidScaling(
                f"A residual layer needs `abs(h) <= L` and 0 < L, but has h = {h} and L = {L}: its skip connection alone"
                " would exceed L."
            )
        self.h, self.L = float(h), float(L)
        self.scaling = as_scaling(scaling)

    @property
    def t(self) -> Float[Tensor, " hidden"]:
        r"""Diagonal of $T$ that the next forward pass uses, in at least single precision."""
        return self.scaling(self.weight)

    @abstractmethod
    def analysis(self, x: Tensor) -> Tensor:
        r"""$W^\top x + b$."""

    @abstractmethod
    def adjoint(self, y: Tensor, image_size: tuple[int, ...]) -> Tensor:
        r"""$W y$, an image of that size."""

    def step(self) -> Float[Tensor, " hidden"]:
        r"""Diagonal of $S = \frac{h + L}{\beta} T^{-1}$ as forward multiplies with it."""
        return (self.h + self.L) / self.beta * inverse_scaling(self.t)

    def forward(self, x: Tensor) -> Tensor:
        v = self.activation(self.analysis(x))
        y = (v * -self.step().reshape(-1, *(1,) * self.axes)).to(v.dtype)
        update = self.adjoint(y, tuple(x.shape[x.ndim - self.axes :]))
        return torch.add(update, x, alpha=self.h).to(x.dtype)

    def reset_parameters(self) -> None:
        r"""Xavier-normal weights and uniform biases of the published code. `sdplip.nn.initialise` keeps signals alive instead."""
        nn.init.xavier_normal_(self.weight)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def _build(self, shape: tuple[int, ...], bias: bool, geometry: Geometry | None) -> None:
        if min(shape) < 1:
            raise InvalidWeight(
                f"The weight of a layer would have the shape {shape}. Every size must be at least 1."
            )
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        self.scaling.bind(self.weight, geometry, "residual")
        self.reset_parameters()


class ResidualLinear(AbstractResidual):
    r"""Dense residual layer on the last axis. `weight` is `(hidden, features)`: the matrix of the condition is its transpose.

    Raises:
        UnsupportedActivation: slopes not known to lie in some $[0, \beta]$, such as MaxMin, GELU, SiLU, the absolute value.
        InvalidScaling: `abs(h) > L`.
    """

    axes = 0

    def __init__(
        self,
        features: int,
        hidden: int,
        scaling: str | AbstractScaling = "sll",
        activation: nn.Module | None = None,
        *,
        h: float = 1.0,
        L: float = 1.0,
        bias: bool = True,
    ) -> None:
        super().__init__(scaling, activation, h, L)
        self.features, self.hidden = features, hidden
        self._build((hidden, features), bias, None)

    def analysis(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch hidden"]:
        return nn.functional.linear(x, self.weight, self.bias)

    def adjoint(
        self,
        y: Float[Tensor, "*batch hidden"],
        image_size: tuple[int, ...] = (),  # noqa: ARG002
    ) -> Float[Tensor, "*batch features"]:
        return nn.functional.linear(y, self.weight.mT)

    def extra_repr(self) -> str:
        return f"features={self.features}, hidden={self.hidden}, h={self.h}, L={self.L}"


class _ResidualConv(AbstractResidual):
    """Everything that the three numbers of image axes share."""

    def __init__(
        self,
        channels: int,
        hidden: int,
        kernel_size: Axes = 3,
        scaling: str | AbstractScaling = "sll",
        activation: nn.Module | None = None,
        *,
        h: float = 1.0,
        L: float = 1.0,
        bias: bool = True,
        geometry: Geometry = Geometry(),
    ) -> None:
        super().__init__(scaling, activation, h, L)
        self.channels, self.hidden = channels, hidden
        if channels % geometry.groups or hidden % geometry.groups:
            raise InvalidWeight(
                f"`groups` must divide `channels` and `hidden`, but is {geometry.groups} for {channels} and {hidden}."
            )
        taps = (kernel_size,) * self.axes if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(taps) != self.axes:
            raise InvalidWeight(
                f"`kernel_size` must be one number or {self.axes} of them, but is {kernel_size}."
            )
        shape = (hidden, channels // geometry.groups, *taps)
        self.shifts = Shifts.of(geometry.expand(shape), taps)
        self._build(shape, bias, geometry)

    @property
    def geometry(self) -> Geometry:
        """How the convolution moves over its image."""
        assert self.scaling.geometry is not None
        return self.scaling.geometry

    def analysis(self, x: Float[Tensor, "batch channels *image"]) -> Float[Tensor, "batch hidden *image2"]:
        return analysis(x, self.weight, self.bias, self.shifts)

    def adjoint(
        self, y: Float[Tensor, "batch hidden *image2"], image_size: tuple[int, ...]
    ) -> Float[Tensor, "batch channels *image"]:
        return adjoint(y, self.weight, image_size, self.shifts)

    def extra_repr(self) -> str:
        taps = tuple(self.weight.shape[2:])
        return f"{self.channels}, hidden={self.hidden}, kernel_size={taps}, h={self.h}, L={self.L}"


class ResidualConv1d(_ResidualConv):
    r"""Residual layer $x \mapsto h x - C^\top S \sigma(C x + b)$ with the convolution $C$ by `weight`, shaped `(hidden,
    channels / groups, taps)`. $C^\top$ is the exact adjoint, so the image keeps its size with every kernel size, padding and
    stride.

    Args:
        channels: channels of the image.
        hidden: output channels of $C$; `t` has one number for each.
        kernel_size: taps on each image axis; even sizes too.
        geometry: stride, dilation, groups, zero or circular padding; "same" zero padding by default.

    Raises:
        UnsupportedConvolution: no theorem covers the geometry.
        UnsupportedActivation, InvalidScaling: as `ResidualLinear`.
    """

    axes = 1


class ResidualConv2d(_ResidualConv):
    """`ResidualConv1d` on images with two axes."""

    axes = 2


class ResidualConv3d(_ResidualConv):
    """`ResidualConv1d` on images with three axes."""

    axes = 3


class PadChannels(nn.Module):
    """Appends `extra` zero channels (axis 1), an isometry: the way from 3 channels to the width of a residual network."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        if extra < 0:
            raise InvalidWeight(f"`extra` must be a number of channels, but is {extra}.")
        self.extra = extra

    def forward(self, x: Float[Tensor, "batch channels *image"]) -> Float[Tensor, "batch more *image"]:
        return torch.cat([x, x.new_zeros(x.shape[0], self.extra, *x.shape[2:])], 1)
