r"""Pooling with norm exactly 1, and other ways to change the shape of an image without stretching it.

Windows do not overlap (stride = kernel size), so that the pixels of the windows are disjoint. Max pooling is torch's own
(`nn.MaxPool2d`), as is space-to-depth (`nn.PixelUnshuffle`); `lipschitz` knows both.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = int | tuple[int, ...]


class _Windows(nn.Module):
    """Pooling over disjoint windows on the last `axes` axes; trailing pixels without a full window are dropped."""

    axes: int

    def __init__(self, kernel_size: Size) -> None:
        super().__init__()
        sizes = (kernel_size,) * self.axes if isinstance(kernel_size, int) else tuple(kernel_size)
        if len(sizes) != self.axes or min(sizes) < 1:
            raise ValueError(
                f"`kernel_size` must be a positive number, or {self.axes} of them, but is {kernel_size}."
            )
        self.kernel_size = sizes

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}"


def _average(x: Tensor, kernel_size: tuple[int, ...]) -> Tensor:
    return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel_size) - 1](x, kernel_size)


def root_below(n: int) -> float:
    r"""$\sqrt n$ rounded down to single precision, so that every precision that runs holds it exactly or computes with it."""
    root = np.float32(math.sqrt(n))
    exceeds = float(root) ** 2 > n
    return float(np.nextafter(root, np.float32(0)) if exceeds else root)


class _ScaledAvgPool(_Windows):
    def forward(self, x: Tensor) -> Tensor:
        return _average(x, self.kernel_size) * root_below(math.prod(self.kernel_size))


class ScaledAvgPool1d(_ScaledAvgPool):
    r"""Window sum divided by $\sqrt k$: rows of length 1, norm 1. (The average itself has norm $1 / \sqrt k$.)"""

    axes = 1


class ScaledAvgPool2d(_ScaledAvgPool):
    r"""Window sum divided by $\sqrt{k_1 k_2}$: rows of length 1, norm 1. The pooling of SLL and CPL for $k = 4$."""

    axes = 2


class ScaledAvgPool3d(_ScaledAvgPool):
    r"""Window sum divided by $\sqrt{k_1 k_2 k_3}$: rows of length 1, norm 1."""

    axes = 3


class _L2Pool(_Windows):
    def forward(self, x: Tensor) -> Tensor:
        square = _average(x * x, self.kernel_size) * math.prod(self.kernel_size)
        zero = square == 0  # masked before the root: its gradient is 0 there instead of NaN
        return (square + zero).sqrt() * ~zero


class L2Pool1d(_L2Pool):
    """Euclidean norm of each window; 1-Lipschitz."""

    axes = 1


class L2Pool2d(_L2Pool):
    """Euclidean norm of each window; 1-Lipschitz."""

    axes = 2


class L2Pool3d(_L2Pool):
    """Euclidean norm of each window; 1-Lipschitz."""

    axes = 3


class GlobalL2Pool(nn.Module):
    """Euclidean norm of each channel over all positions, `(batch, channels, *pixels)` to `(batch, channels)`; 1-Lipschitz (LipNeXt)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3:
            raise ValueError(f"`GlobalL2Pool` takes a batch of images, but got the shape {tuple(x.shape)}.")
        square = (x * x).flatten(2).sum(-1)
        zero = square == 0  # masked before the root: its gradient is 0 there instead of NaN
        return (square + zero).sqrt() * ~zero


class CenterNorm(nn.Module):
    r"""$w \circ \frac n {n - 1} (x - \bar x) + b$ with the mean over the $n$ channels (LipsFormer, LipShiFT).

    The constant is $\frac n {n - 1} \max |w|$: an orthogonal projection, then a diagonal.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"The mean over {channels} channel leaves nothing. Use at least 2.")
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def scale(self) -> Tensor:
        """The diagonal that forward multiplies with, one number a channel."""
        n = len(self.weight)
        return self.weight * (n / (n - 1))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != len(self.weight):
            raise ValueError(
                f"`CenterNorm` was built for {len(self.weight)} channels, but got the shape {tuple(x.shape)}."
            )
        axes = (-1, *(1,) * (x.ndim - 2))
        return (x - x.mean(1, keepdim=True)) * self.scale().reshape(axes) + self.bias.reshape(axes)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"


class Center(nn.Module):
    r"""Subtracts from each sample its mean over `dims` (axes of a batch): an orthogonal projection, norm 1."""

    def __init__(self, dims: tuple[int, ...] = (1,)) -> None:
        super().__init__()
        if not dims or 0 in dims:
            raise ValueError(
                f"`dims` must name axes of one sample, from 1 on or negative, but is {dims}. A mean over the batch would"
                " let samples depend on each other."
            )
        self.dims = tuple(dims)

    def forward(self, x: Tensor) -> Tensor:
        if any(dim % x.ndim == 0 for dim in self.dims):
            raise ValueError(f"`dims` {self.dims} includes the batch axis of an input with {x.ndim} axes.")
        return x - x.mean(self.dims, keepdim=True)

    def extra_repr(self) -> str:
        return f"dims={self.dims}"


class FirstChannels(nn.Module):
    """Keeps the first `channels` channels: an orthogonal projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.channels]

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
