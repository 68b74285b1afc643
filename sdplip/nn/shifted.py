r"""Networks that mix pixels by moving channels: the shift, positional bias, and the blocks of LipNeXt and LipShiFT."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.nn.activations import BetaAbs, MaxMin
from sdplip.nn.containers import ChannelScale, Residual
from sdplip.nn.given import count
from sdplip.nn.orthogonal import orthogonal
from sdplip.nn.pooling import CenterNorm
from sdplip.shapes import said

Images = Float[Tensor, "batch channels height width"]


class Shift2d(nn.Module):
    """Moves four groups of `each` channels by one pixel, down, up, right and left; the other channels stay.

    Circular shifts permute pixels. With "zeros" the pixels that leave the image are lost and zeros come in: a partial isometry. Either
    way the norm is 1. A norm-preserving depthwise circular convolution has one tap of 1 or -1, so LipNeXt loses nothing by shifts.

    Raises:
        InvalidWeight: fewer than `4 each` channels, or an unknown mode, or counts that are no whole numbers.
    """

    def __init__(self, channels: int, each: int, mode: Literal["circular", "zeros"] = "circular") -> None:
        super().__init__()
        channels, each = count("channels", channels, 1, InvalidWeight), count("each", each, 0, InvalidWeight)
        if 4 * each > channels or mode not in ("circular", "zeros"):
            raise InvalidWeight(
                f"`Shift2d` moves four groups of `each` channels in mode circular or zeros, but has `each` = {each} of {channels}"
                f" channels and the mode {mode!r}."
            )
        self.channels, self.each, self.mode = channels, each, mode

    def forward(self, x: Images) -> Images:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise InvalidWeight(
                f"`Shift2d` was built for images of {self.channels} channels, but got {tuple(x.shape)}."
            )
        down, up, right, left, rest = x.split([self.each] * 4 + [self.channels - 4 * self.each], 1)
        if self.mode == "circular":
            moved = [down.roll(1, -2), up.roll(-1, -2), right.roll(1, -1), left.roll(-1, -1)]
        else:
            row, column = torch.zeros_like(down[..., :1, :]), torch.zeros_like(down[..., :1])
            moved = [
                torch.cat([row, down[..., :-1, :]], -2),
                torch.cat([up[..., 1:, :], row], -2),
                torch.cat([column, right[..., :-1]], -1),
                torch.cat([left[..., 1:], column], -1),
            ]
        return torch.cat([*moved, rest], 1)

    def extra_repr(self) -> str:
        return f"{self.channels}, each={self.each}, mode={self.mode!r}"


class PositionalBias(nn.Module):
    """Adds a learned number to every pixel, the same in all channels (`channels=1`) or one a channel: a translation, norm 1."""

    def __init__(self, image_size: tuple[int, int], channels: int = 1) -> None:
        super().__init__()
        if not isinstance(image_size, tuple | list | torch.Size) or len(image_size) != 2:
            raise UnsupportedConvolution(
                f"`image_size` must be (height, width), but is {said(image_size)}. Pass both, also of a square."
            )
        self.bias = nn.Parameter(
            torch.zeros(channels, *(count("image_size", n, 1, UnsupportedConvolution) for n in image_size))
        )

    def forward(self, x: Images) -> Images:
        channels, *size = self.bias.shape
        if x.ndim < 3 or list(x.shape[-2:]) != size or channels not in (1, x.shape[-3]):
            raise UnsupportedConvolution(
                f"This bias has the shape {tuple(self.bias.shape)}, but the images have {tuple(x.shape[-3:])}. Build one for them."
            )
        return x + self.bias

    def extra_repr(self) -> str:
        return f"{tuple(self.bias.shape)}"


class LipNeXtBlock(nn.Sequential):
    r"""$x \mapsto \sigma(M S(R (x + p)) + b)$ with orthogonal $R$ and $M$, a shift $S$ and $\sigma$ = `BetaAbs`: norm 1 (LipNeXt, ICLR 2026).

    The paper writes $M R^\top$ for our $M$; both run over all orthogonal matrices (here: those of a Cayley transform), and this layer
    starts at its $M = I$. No convolution is needed: pixels meet through the shift. Parts: `position`, `mix`, `shift`, `turn`, `activation`.

    Args:
        channels: of the image, which keeps its shape.
        image_size: height and width, for the positional bias.
        each: channels that move in each of the four directions; a sixteenth of all, if None.
        beta: share of the channels whose absolute value is taken; 1/2 is MaxMin up to a rotation, which the next matrix takes up.
        method: of `orthogonal` for both matrices; "manifold" as in the paper, for the optimiser `Muon`.
    """

    def __init__(
        self,
        channels: int,
        image_size: tuple[int, int],
        each: int | None = None,
        *,
        beta: float = 0.5,
        method: Literal["aoc", "manifold"] = "aoc",
    ) -> None:
        super().__init__()
        self.position = PositionalBias(image_size)
        self.mix = orthogonal(nn.Conv2d(channels, channels, 1, bias=False), method)
        self.shift = Shift2d(channels, max(1, channels // 16) if each is None else each)
        self.turn = orthogonal(nn.Conv2d(channels, channels, 1), method)
        self.activation = BetaAbs(beta)
        with torch.no_grad():
            name = "weight" if method == "manifold" else "parametrizations.weight.original0"
            first, second = (m.get_parameter(name) for m in (self.mix, self.turn))
            second.copy_(
                first.transpose(0, 1) if first.ndim == 4 else first.mT
            )  # the Cayley transform of the transpose is the transpose
            assert self.turn.bias is not None
            self.turn.bias.zero_()


class LipShiFTBlock(nn.Sequential):
    r"""$x \mapsto y + s \circ \mathrm{MaxMin}(u + \alpha \circ \mathrm{conv}(u))$ with $y = S x$, $u = \mathrm{CenterNorm}(y)$ (LipShiFT,
    Menon et al. 2025).

    It is not 1-Lipschitz. `lipschitz` proves $1 + \max|s|\, (1 + \max|\alpha|\, \lVert \mathrm{conv} \rVert)\, \frac n {n - 1} \max|w|$
    from its parts. The published code multiplies the branch by the probability that DropPath keeps it, which holds for no forward
    pass: in eval mode the branch is always there. Losses have to keep the constant small (`EMMA`, `GloRo`).

    Args:
        channels: of the image, an even number, which keeps its shape.
        each: channels that move in each direction, a twelfth of all if None.
        start: first values of $s$ and $\alpha$.
    """

    def __init__(
        self, channels: int, each: int | None = None, *, kernel_size: int = 3, start: float = 0.1
    ) -> None:
        conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2)
        inner = Residual(nn.Sequential(conv, ChannelScale(channels, start)))
        branch = nn.Sequential(CenterNorm(channels), inner, MaxMin(), ChannelScale(channels, start))
        super().__init__(
            Shift2d(channels, max(1, channels // 12) if each is None else each, "zeros"), Residual(branch)
        )
