r"""Plain forms of residual and sandwich layers: two ordinary layers of torch around the activation."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import RefusedModule
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.circular import circular
from sdplip.nn.residual import AbstractResidual, ResidualLinear
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.sandwich_conv import AbstractSandwichConv2d, CompactSandwichConv2d, SandwichConv2d
from sdplip.nn.shifts import Shifts

CONVS: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: Any = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def applied(layer: nn.Module, v: Tensor, like: Tensor | None) -> Tensor:
    """The layer at `v`; a transposed convolution gives images of the size of `like`, if there is one."""
    return layer(v) if like is None or not isinstance(layer, TRANSPOSED) else layer(v, like.shape[2:])


class PlainResidual(nn.Module):
    r"""$h x - \mathrm{down}(\sigma(\mathrm{up}(x)))$, `nn.Linear`, `nn.Conv` or (`down` with a stride) `nn.ConvTranspose`.

    $L$ is what the layer aimed at, for the record: `lipschitz` reads the weights.
    """

    def __init__(self, up: nn.Module, activation: nn.Module, down: nn.Module, *, h: float, L: float) -> None:
        super().__init__()
        self.up, self.activation, self.down, self.h, self.L = up, activation, down, h, L

    def forward(self, x: Tensor) -> Tensor:
        v = self.activation(self.up(x))
        y = applied(self.down, v, x)
        return x * self.h - y if self.h != 1 else x - y


class PlainSandwich(nn.Module):
    r"""$\mathrm{down}(\sigma(\mathrm{up}(x)))$ with two linear layers or two convolutions, neither of which is 1-Lipschitz.

    Attributes:
        up, down: two `nn.Linear`; two `nn.Conv2d` with zero padding and no stride; two `CircularConv2d`; or two `CayleyConv2dProducts`.
        multipliers: positive numbers, one a hidden unit or channel, with which the bound of the pair is proven; any will do, good ones
            make it small. They are no part of the state dict.
    """

    multipliers: Tensor

    def __init__(self, up: nn.Module, activation: nn.Module, down: nn.Module, multipliers: Tensor) -> None:
        super().__init__()
        self.up, self.activation, self.down = up, activation, down
        self.register_buffer("multipliers", multipliers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


@torch.no_grad()
def plain_linear(weight: Float[Tensor, "out in"], bias: Tensor | None) -> nn.Linear:
    """An ordinary linear layer with these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, weight.device, weight.dtype)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer


@torch.no_grad()
def plain_residual(module: AbstractResidual) -> PlainResidual:
    """The plain form of a residual layer."""
    step = module.step()
    scaled = (module.weight * step.reshape(-1, *(1,) * (module.weight.ndim - 1))).to(module.weight.dtype)
    if isinstance(module, ResidualLinear):
        up, down = plain_linear(module.weight, module.bias), plain_linear(scaled.mT, None)
    else:
        shifts = module.shifts  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(shifts, Shifts)
        up, down = _convolutions(module.weight, scaled, module.bias, shifts)
    return PlainResidual(up, module.activation, down, h=module.h, L=module.L)


@torch.no_grad()
def plain_sandwich(module: Sandwich) -> PlainSandwich:
    """The plain form of a sandwich layer: its diagonals multiplied into the weights."""
    A, B = module.factors().split([module.out_features, module.in_features], -1)
    psi = module.log_psi.to(precision(module.log_psi)).exp()
    up = plain_linear((2**0.5 / psi[:, None] * B).to(B.dtype), module.bias)
    down = plain_linear((2**0.5 / module.beta * psi[:, None] * A).mT.to(A.dtype), None)
    return PlainSandwich(up, module.activation, down, psi * psi / module.beta)


@torch.no_grad()
def plain_sandwich_conv(module: AbstractSandwichConv2d) -> nn.Module:
    """The plain form of a sandwich layer of images: two convolutions with its diagonals in their kernels, behind `nn.PixelUnshuffle` where
    there is a stride."""
    before, after = (d[:, None, None, None] for d in module.diagonals())
    if isinstance(module, SandwichConv2d):
        outward, inward = module.symbol().split([module.out_channels, module.channels], -2)
        up = circular(before[..., 0, 0] * inward.mH, module.bias, module.grid, module.weight)
        down = circular(outward * after[..., 0, 0].mT, None, module.grid, module.weight)
    else:
        assert isinstance(module, CompactSandwichConv2d)
        weight = module.pair.weight
        A, B = weight.split([module.out_channels, module.channels], 1)
        up, down = (
            nn.Conv2d(
                n, m, module.kernel_size, padding="same", bias=b, device=weight.device, dtype=weight.dtype
            )
            for n, m, b in (
                (module.channels, module.out_channels, module.bias is not None),
                (module.out_channels, module.out_channels, False),
            )
        )
        up.weight.copy_(before * B)
        down.weight.copy_(reversed_kernel(after * A, 1))
        if module.bias is not None:
            assert up.bias is not None
            up.bias.copy_(module.bias)
    plain = PlainSandwich(up, module.activation, down, module.multipliers().to(up.weight))
    return plain if module.stride == 1 else nn.Sequential(nn.PixelUnshuffle(module.stride), plain)


def _convolutions(
    K: Tensor, scaled: Tensor, bias: Tensor | None, shifts: Shifts
) -> tuple[nn.Module, nn.Module]:
    r"""A convolution by `K`, and the adjoint of the one by `scaled`: transposed, or, without stride, an ordinary one with the
    taps in reverse order. "same" padding of an even kernel becomes symmetric with one more tap, which is zero."""
    axes = len(shifts.reach)
    before, taps = shifts.before, tuple(K.shape[2:])
    odd = tuple(a - b for a, b in zip(shifts.after, before, strict=True))
    if any(odd):
        if any(o != d for o, d in zip(odd, shifts.dilation, strict=True) if o):
            raise _no_plain_form(f'"same" padding of an even kernel with dilation {shifts.dilation}')
        front = [side for o in reversed(odd) for side in (int(o > 0), 0)]
        K, scaled = F.pad(K, front), F.pad(scaled, front)
        before, taps = shifts.after, tuple(K.shape[2:])
    reach = tuple(d * (k - 1) for d, k in zip(shifts.dilation, taps, strict=True))
    strided = max(shifts.stride) > 1
    if shifts.circular and (strided or any(2 * p != r for p, r in zip(before, reach, strict=True))):
        raise _no_plain_form("circular padding with a stride, or of less than the reach of the kernel")
    mode = "circular" if shifts.circular else "zeros"
    groups, hidden, channels = shifts.groups, K.shape[0], K.shape[1] * shifts.groups
    common = {"dilation": shifts.dilation, "groups": groups, "device": K.device, "dtype": K.dtype}
    up = CONVS[axes - 1](
        channels, hidden, taps, shifts.stride, before, bias=bias is not None, padding_mode=mode, **common
    )
    up.weight.copy_(K)
    if bias is not None:
        assert up.bias is not None
        up.bias.copy_(bias)
    if strided:
        down = TRANSPOSED[axes - 1](hidden, channels, taps, shifts.stride, before, bias=False, **common)
        down.weight.copy_(scaled)
        return up, down
    rest = tuple(r - p for r, p in zip(reach, before, strict=True))
    if min(rest) < 0:
        raise _no_plain_form("more padding than the reach of the kernel")
    down = CONVS[axes - 1](hidden, channels, taps, 1, rest, bias=False, padding_mode=mode, **common)
    down.weight.copy_(reversed_kernel(scaled, groups))
    return up, down


def reversed_kernel(
    K: Float[Tensor, "out in_per_group *taps"], groups: int
) -> Float[Tensor, "in out_per_group *taps"]:
    """Kernel of the adjoint of a convolution without stride: channels exchanged within each group, taps in reverse order.

    Applied twice it gives back `K`.
    """
    grouped = K.reshape(groups, -1, *K.shape[1:]).transpose(1, 2)
    return grouped.flip(tuple(range(3, grouped.ndim))).flatten(0, 1)


def _no_plain_form(what: str) -> RefusedModule:
    return RefusedModule(
        f"A residual convolution with {what} has no plain form: the adjoint is no layer of torch."
        " Use zero padding with an odd kernel."
    )
