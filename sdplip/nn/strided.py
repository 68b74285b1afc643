r"""A residual layer that changes the image size and the number of channels, 1-Lipschitz by composition."""

from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.geometry import Axes
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.rescaled import rescaled
from sdplip.nn.residual import PadChannels, ResidualConv2d


class StridedResidualConv2d(nn.Sequential):
    r"""$x \mapsto P (U x - 2 W T^{-1} \sigma(W^\top U x + b))$ with $U$ = `nn.PixelUnshuffle` and $\lVert P \rVert \le 1$.

    This is the strided SLL layer of AOC (Boissin et al. 2025), with $U$ in front of the block and $P$ behind it: hidden units
    stand only where the stride puts them, and $W^\top U$ is a convolution of that stride. $U$ only moves entries. $P$ changes the
    number of channels: a pointwise convolution rescaled by its spectral norm, with orthonormal rows at the start; zero channels
    that are appended; or nothing where the numbers agree. $P$ need not be orthogonal; the bound is the product of the parts'.

    It is an `nn.Sequential` of parts named `unshuffle`, `block` and `project`, so bounds, rounding and export are those of the
    parts.

    Args:
        channels: channels of the image that comes in.
        out_channels: channels of the image that goes out, whose sides are `stride` times shorter.
        hidden: hidden units at each pixel of the smaller image.
        kernel_size: taps on each axis of the smaller image.
        scaling, activation: as `ResidualConv2d`.
        stride: must divide the image.

    Raises:
        InvalidWeight: a size that is not positive.
        UnsupportedActivation: as `ResidualConv2d`.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        hidden: int,
        kernel_size: Axes = 3,
        scaling: str | AbstractScaling = "sll",
        activation: nn.Module | None = None,
        *,
        stride: int = 2,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if min(channels, out_channels, stride) < 1:
            raise InvalidWeight(
                "`channels`, `out_channels` and `stride` must be at least 1, but are"
                f" {channels}, {out_channels} and {stride}."
            )
        inner = channels * stride**2
        self.unshuffle = nn.PixelUnshuffle(stride)
        self.block = ResidualConv2d(inner, hidden, kernel_size, scaling, activation, bias=bias)
        if out_channels > inner:
            self.project = PadChannels(out_channels - inner)
        elif out_channels < inner:
            self.project = rescaled(nn.Conv2d(inner, out_channels, 1, bias=False), "spectral")
            start = nn.init.orthogonal_(self.project.weight.detach().clone().flatten(1))
            self.project.weight = start[..., None, None]
