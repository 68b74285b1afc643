r"""LipKernel networks: plain convolutions and dense layers whose joint constant is a free choice, see Note [metrics] in `dissipative`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import InvalidWeight
from sdplip.nn.dissipative import AbstractLipKernel, AbstractLipKernelConv, LipKernelLinear
from sdplip.nn.given import number
from sdplip.nn.memo import Memo
from sdplip.nn.slopes import monotone_slope
from sdplip.shapes import said


class LipKernel(nn.Module):
    r"""A network of `LipKernelConv1d/2d`, disjoint means, `nn.Flatten`, `LipKernelLinear`: `bound`-Lipschitz, plain layers at inference.

    The activation stands behind every layer but the last, which must be dense. Weights are made in double precision at every forward in
    training, once in eval mode, and run in the dtype of the free tensors.

    Attributes:
        stages: the layers.
        bound: the constant in exact arithmetic.
        activation, beta: $\sigma$, and its largest slope when the network was built.
        input_shape: one sample, `(channels, *pixels)` or `(features,)`.

    Raises:
        InvalidWeight: other layers, sizes that do not follow each other, a bound that is not positive; in `forward`, another shape.
        UnsupportedActivation: slopes not known to lie in some $[0, \beta]$.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        input_shape: tuple[int, ...],
        *,
        bound: float = 1.0,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.bound = number("bound", bound, InvalidWeight)
        if not 0 < self.bound < math.inf:
            raise InvalidWeight(f"`bound` must be positive and finite, but is {self.bound}.")
        self.activation = nn.ReLU() if activation is None else activation
        self.beta = monotone_slope(self.activation)
        self.stages, self.input_shape = nn.ModuleList(stages), tuple(input_shape)
        if not len(self.stages) or type(self.stages[-1]) is not LipKernelLinear:
            raise InvalidWeight("The last layer of a `LipKernel` network must be a `LipKernelLinear`.")
        self.stages[-1].register_parameter("log_gamma", None)  # no activation stands behind it
        self.shapes = _followed(self.stages, self.input_shape)
        self._memo = Memo()

    def weights(self) -> list[Float[Tensor, "out in *taps"]]:
        """Weights of all layers that have one, as forward multiplies with them; those behind an activation over its largest slope."""
        free = self._free()
        flat = (
            self.now(*free) if self.training or torch.compiler.is_compiling() else self._memo(self.now, *free)
        )
        shapes = [stage.shape for stage in _layers(self.stages)]
        parts = flat.split([math.prod(shape) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def multipliers(self) -> list[Float[Tensor, " channels"]]:
        r"""$2 \Lambda / (\beta\,\mathrm{bound})^2$ of every layer but the last: one number a channel or feature."""
        return [2 / (self.beta * self.bound) ** 2 * lam for _, lam in self._made()[:-1]]

    def now(self, *free: Tensor) -> Float[Tensor, " entries"]:
        """All weights as one vector, from the free tensors as they stand."""
        with torch.autocast(free[0].device.type, enabled=False):
            found = [W if k == 0 else W / self.beta for k, (W, _) in enumerate(self._made())]
            return torch.cat([W.flatten() for W in found]).to(free[0].dtype)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if tuple(x.shape[x.ndim - len(self.input_shape) :]) != self.input_shape:
            raise InvalidWeight(f"This network takes (..., {self.input_shape}), but got {tuple(x.shape)}.")
        before = x.shape[: x.ndim - len(self.input_shape)]
        x = x.reshape(-1, *self.input_shape)
        weights, layers = iter(self.weights()), _layers(self.stages)
        for stage in self.stages:
            if not isinstance(stage, AbstractLipKernel):
                x = stage(x)
                continue
            W = next(weights)
            if isinstance(stage, AbstractLipKernelConv):
                conv = F.conv1d if stage.axes == 1 else F.conv2d
                x = conv(x, W, stage.bias, stage.stride, stage.padding)
            else:
                assert isinstance(stage, LipKernelLinear)
                x = F.linear(x, W, stage.bias)
            x = x if stage is layers[-1] else self.activation(x)
        return x.reshape(*before, -1)

    def _free(self) -> list[Tensor]:
        """Tensors that the weights depend on."""
        return [p for name, p in self.stages.named_parameters() if not name.endswith("bias")]

    def _made(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and multipliers of every layer, for slopes in [0, 1]."""
        like, found = self._free()[0], list[tuple[Tensor, Tensor]]()
        L = self.bound * torch.eye(self.input_shape[0], dtype=torch.float64, device=like.device)
        for stage, shape in zip(self.stages, self.shapes, strict=True):
            if isinstance(stage, nn.AvgPool1d | nn.AvgPool2d):
                L = L * _window(stage) ** ((len(shape) - 1) / 2)
            elif stage is self.stages[-1]:
                assert isinstance(stage, LipKernelLinear)
                W = stage.last(L, stage.in_features // len(L))
                found.append((W, torch.ones(len(W), dtype=W.dtype, device=W.device)))
            elif isinstance(stage, AbstractLipKernel):
                pixels = stage.in_features // len(L) if isinstance(stage, LipKernelLinear) else 1
                W, L, lam = stage.made(L, pixels)
                found.append((W, lam))
        return found

    def train(self, mode: bool = True) -> "LipKernel":
        self._memo.drop()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"input_shape={self.input_shape}, bound={self.bound}"


class PlainLipKernel(nn.Module):
    """The plain form of a `LipKernel` network: layers of torch, and the multipliers with which they are proven together.

    Attributes:
        layers: convolutions, activations, means, dense layers.
        input_shape: one sample.
        multipliers: positive numbers, one a channel or feature of every layer but the last, one after another; any will do, good ones make
            the bound small. They are no part of the state dict.
    """

    multipliers: Tensor

    def __init__(self, layers: nn.Sequential, multipliers: Tensor, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers, self.input_shape = layers, tuple(input_shape)
        self.register_buffer("multipliers", multipliers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@torch.no_grad()
def plain_lipkernel(module: LipKernel) -> PlainLipKernel:
    """The plain form, with the very numbers that `module` computes with."""
    weights, layers, last = iter(module.weights()), list[nn.Module](), _layers(module.stages)[-1]
    for stage in module.stages:
        if not isinstance(stage, AbstractLipKernel):
            layers.append(stage)
            continue
        W, plain = next(weights), stage.plain()
        plain.to(W.device, W.dtype)
        plain.get_parameter("weight").copy_(W)
        if stage.bias is not None:
            plain.get_parameter("bias").copy_(stage.get_parameter("bias"))
        layers += [plain] if stage is last else [plain, module.activation]
    multipliers = torch.cat(module.multipliers()) if len(_layers(module.stages)) > 1 else torch.ones(0)
    like = module._free()[0]
    return PlainLipKernel(nn.Sequential(*layers), multipliers.to(like), module.input_shape).train(
        module.training
    )


def _layers(stages: nn.ModuleList) -> list[Any]:
    return [stage for stage in stages if isinstance(stage, AbstractLipKernel)]


def _window(stage: nn.AvgPool1d | nn.AvgPool2d) -> int:
    """The side of its windows."""
    sizes = stage.kernel_size if isinstance(stage.kernel_size, tuple) else (stage.kernel_size,)
    strides = stage.stride if isinstance(stage.stride, tuple) else (stage.stride,)
    padding = stage.padding if isinstance(stage.padding, tuple) else (stage.padding,)
    if len({*sizes, *strides}) != 1 or any(padding) or stage.ceil_mode:
        raise InvalidWeight("Means must be over disjoint square windows without padding.")
    return sizes[0]


def _followed(stages: nn.ModuleList, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape in front of every layer.

    Raises:
        InvalidWeight: layers that do not follow each other.
    """
    found = list[tuple[int, ...]]()
    for k, stage in enumerate(stages):
        found.append(shape)
        if isinstance(stage, AbstractLipKernelConv):
            fits = len(shape) == stage.axes + 1 and shape[0] == stage.in_channels
            around = 2 * stage.padding - stage.kernel_size
            shape = (stage.out_channels, *((h + around) // stage.stride + 1 for h in shape[1:]))
        elif isinstance(stage, LipKernelLinear):
            fits, shape = shape == (stage.in_features,), (stage.out_features,)
        elif isinstance(stage, nn.AvgPool1d | nn.AvgPool2d):
            fits, side = len(shape) == (2 if isinstance(stage, nn.AvgPool1d) else 3), _window(stage)
            shape = (shape[0], *(h // side for h in shape[1:]))
        else:
            fits, shape = type(stage) is nn.Flatten and stage.start_dim == 1, (math.prod(shape),)
        if not fits or min(shape, default=0) < 1:
            raise InvalidWeight(
                f"Layer {k} of this `LipKernel` network, {said(stage)}, does not fit {found[-1]}."
            )
    return found
