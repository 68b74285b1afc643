r"""Sandwich layers of images: two convolutions with the activation between them, 1-Lipschitz together though neither is alone."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.nn import fourier
from sdplip.nn.abstract_scaling import precision
from sdplip.nn.cayley import cayley
from sdplip.nn.given import count
from sdplip.nn.memo import Memo
from sdplip.nn.orthogonal import orthogonal
from sdplip.nn.slopes import monotone_slope
from sdplip.shapes import said

# Note [sandwich of images]. Let A and B be convolutions with A A* + B B* <= I: of images on a torus at every frequency, with zeros around
# the image as blocks cut out of infinite ones, which only shortens. Psi = diag(psi) has one number a channel, the same at every pixel. The
# proof of the dense layer then holds word for word: with Lambda = Psi^2, F = sqrt(2) Psi^-1 B and G = sqrt(2) A* Psi the inequality
# 2 Lambda - G* G - Lambda F F* Lambda >= 0 reads 2 Psi (I - A A* - B B*) Psi >= 0. It speaks of both convolutions at once: the product of
# their norms is 2 |A* Psi| |Psi^-1 B|, as large as the psi lie apart.
#
# Stride s: `pixel_unshuffle` moves the s x s pixels of a patch into channels, an isometry, and the layer goes on with the patches.


class AbstractSandwichConv2d(nn.Module, ABC):
    r"""$x \mapsto \frac{\sqrt 2}{\beta} A^\top \Psi\, \sigma(\sqrt 2\, \Psi^{-1} B x + b)$ with convolutions $A$, $B$, see Note
    [sandwich of images].

    Args:
        kernel_size: taps, on the grid of patches where there is a stride.
        activation: elementwise with slopes in some $[0, \beta]$; ReLU if None.
        stride: side of the patches of pixels that become channels first; it must divide the image.

    Attributes:
        log_psi, bias: one entry an output channel, `bias` inside the activation; $\Psi = e^{\texttt{log\_psi}}$.
        activation, beta: $\sigma$, and its largest slope when the layer was built.

    Raises:
        InvalidWeight: sizes that are not whole and positive; in `forward`, another number of channels.
        UnsupportedConvolution: in `forward`, images that the stride does not divide.
        UnsupportedActivation: slopes not known to lie in some $[0, \beta]$.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        activation: nn.Module | None,
        stride: int,
        bias: bool,
    ) -> None:
        super().__init__()
        self.in_channels = count("in_channels", in_channels, 1, InvalidWeight)
        self.out_channels = count("out_channels", out_channels, 1, InvalidWeight)
        self.stride = count("stride", stride, 1, InvalidWeight)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.activation = nn.ReLU() if activation is None else activation
        self.beta = monotone_slope(self.activation)
        self.log_psi = nn.Parameter(torch.zeros(out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None

    @property
    def channels(self) -> int:
        """Of the patches that the convolutions see."""
        return self.in_channels * self.stride**2

    def reset_parameters(self) -> None:
        """Uniform bias; subclasses draw their free tensors."""
        if self.bias is not None:
            bound = 1 / math.sqrt(self.channels)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(
        self, x: Float[Tensor, "*batch in_channels height width"]
    ) -> Float[Tensor, "*batch out_channels rows columns"]:
        self._check(tuple(x.shape))
        convolutions = self.convolutions()
        v = self.activation(self.hidden(x.reshape(-1, *x.shape[-3:]), convolutions))
        after = self.diagonals()[1][:, None, None]
        y = convolutions[1]((v * after).to(precision(x)))
        return y.reshape(*x.shape[:-3], *y.shape[1:]).to(x.dtype)

    def hidden(
        self, x: Float[Tensor, "batch in_channels height width"], convolutions: tuple[Any, Any] | None = None
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """What the activation is given."""
        if self.stride > 1:
            x = F.pixel_unshuffle(x, self.stride)
        up, _ = convolutions or self.convolutions()
        v = up(x.to(precision(x))) * self.diagonals()[0][:, None, None]
        return v if self.bias is None else v + self.bias[:, None, None]

    @abstractmethod
    def convolutions(self) -> tuple[Any, Any]:
        r"""What computes $B x$ and $A^\top z$ of patches `(batch, channels, rows, columns)`."""

    def diagonals(self) -> tuple[Float[Tensor, " out_channels"], Float[Tensor, " out_channels"]]:
        r"""$\sqrt 2\, \Psi^{-1}$ and $\frac{\sqrt 2}{\beta} \Psi$ as forward multiplies with them."""
        psi = self.log_psi.to(precision(self.log_psi)).exp()
        return math.sqrt(2) / psi, math.sqrt(2) / self.beta * psi

    def multipliers(self) -> Float[Tensor, " out_channels"]:
        r"""$\Psi^2 / \beta$, with which the inequality of both convolutions holds."""
        return (2 * self.log_psi.double()).exp() / self.beta

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 3 or shape[-3] != self.in_channels:
            raise InvalidWeight(f"This layer takes images of {self.in_channels} channels, but got {shape}.")
        if any(h % self.stride for h in shape[-2:]):
            raise UnsupportedConvolution(
                f"The stride {self.stride} must divide the image, but got {shape[-2:]} pixels. Pad with zeros."
            )

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )


class SandwichConv2d(AbstractSandwichConv2d):
    r"""`AbstractSandwichConv2d` by circular convolutions, $(A(\omega)\ B(\omega)) = \mathrm{cayley}(\hat K(\omega))^*$ at each frequency of
    images of one size (Wang and Manchester, ICML 2023).

    $\hat K$ is the Fourier transform of the free kernel. So $A$ and $B$ are any circular convolutions with the frequencies of their
    kernel. Small images run by products of matrices, as in `CayleyConv2d`.

    Args:
        image_size: height and width of every input.

    Attributes:
        weight: free kernel, `(out + in * stride^2, out, *taps)`.

    Raises:
        InvalidWeight: also a kernel larger than the image.
        UnsupportedConvolution: a stride that does not divide `image_size`; in `forward`, images of another size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        image_size: int | tuple[int, int],
        activation: nn.Module | None = None,
        *,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, activation, stride, bias)
        self.image_size = pair("image_size", image_size)
        self._check((self.in_channels, *self.image_size))
        self.grid = self.image_size[0] // self.stride, self.image_size[1] // self.stride
        if any(k > h for k, h in zip(self.kernel_size, self.grid, strict=True)):
            raise InvalidWeight(
                f"A kernel of {self.kernel_size} taps does not fit into images of {self.grid} patches. Use fewer taps."
            )
        free = out_channels + self.channels, out_channels
        self.weight = nn.Parameter(torch.empty(*free, *self.kernel_size))
        self._memo = Memo()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier-normal free kernel, uniform bias."""
        nn.init.xavier_normal_(self.weight)
        super().reset_parameters()

    def symbol(self) -> Complex[Tensor, "height half_width out_plus_in out"]:
        r"""$(A(\omega)\ B(\omega))^*$ as forward multiplies with it, on the half grid of `torch.fft.rfft2`. In eval mode it is computed
        once, and more accurately: in training a rounding error of the Cayley transform is left as it is."""
        if self.training or torch.compiler.is_compiling():
            return self.now(self.weight)
        return self._memo(self.now, self.weight)

    def now(self, weight: Tensor) -> Tensor:
        """The symbol of the free kernel as it stands."""
        with torch.autocast(weight.device.type, enabled=False):
            K = fourier.transformed(weight.to(precision(weight)), self.grid)
            return cayley(K, polish=not self.training)

    def convolutions(self) -> tuple[Any, Any]:
        A, B = self.symbol().split([self.out_channels, self.channels], -2)
        return (lambda x: fourier.convolved(x, B.mH)), (lambda z: fourier.convolved(z, A))

    def _check(self, shape: tuple[int, ...]) -> None:
        super()._check(shape)
        if shape[-2:] != self.image_size:
            raise UnsupportedConvolution(
                f"This layer is 1-Lipschitz on images of {self.image_size} pixels, but got {shape[-2:]}. Build one for that size."
            )

    def train(self, mode: bool = True) -> "SandwichConv2d":
        self._memo.drop()
        return super().train(mode)


class CompactSandwichConv2d(AbstractSandwichConv2d):
    r"""`AbstractSandwichConv2d` by plain convolutions with zero padding, on images of every size.

    $(A\ B)$ is one orthogonal kernel, composed of projectors once a step (AOC, Boissin et al., ICML 2025): $A A^\top + B B^\top = I$ on infinite
    images, and zeros around an image cut blocks out of that. It costs little more than the two plain convolutions, in training too.

    Attributes:
        pair: the convolution whose parametrized weight is $(A\ B)$, `(out, out + in * stride^2, *taps)`.

    Raises:
        InvalidWeight: also an even `kernel_size`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        activation: nn.Module | None = None,
        *,
        stride: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, activation, stride, bias)
        if any(k % 2 == 0 for k in self.kernel_size):
            raise InvalidWeight(
                f"`kernel_size` must be odd, so that the zeros are the same on both sides, but is {self.kernel_size}."
            )
        both = nn.Conv2d(
            self.out_channels + self.channels, out_channels, self.kernel_size, padding="same", bias=False
        )
        self.pair = orthogonal(both)
        self.reset_parameters()

    def convolutions(self) -> tuple[Any, Any]:
        weight = self.pair.weight
        A, B = weight.to(precision(weight)).split([self.out_channels, self.channels], 1)
        around = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        return (lambda x: F.conv2d(x, B, padding=around)), (
            lambda z: F.conv_transpose2d(z, A, padding=around)
        )


def pair(name: str, value: Any) -> tuple[int, int]:
    """Two whole positive numbers, of one or of two.

    Raises:
        InvalidWeight: something else.
    """
    both = tuple(value) if isinstance(value, tuple | list | torch.Size) else (value, value)
    if len(both) != 2:
        raise InvalidWeight(f"`{name}` must be one or two whole numbers, but is {said(value)}.")
    return count(name, both[0], 1, InvalidWeight), count(name, both[1], 1, InvalidWeight)
