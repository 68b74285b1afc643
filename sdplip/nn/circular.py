"""The plain form of an orthogonal circular convolution: torch's own convolution with a kernel as large as the image."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from sdplip.errors import UnsupportedConvolution
from sdplip.nn.orthogonal import AbstractFourierConv2d


class CircularConv2d(nn.Conv2d):
    """`nn.Conv2d` with circular padding and a kernel as large as its images, which must have that one size.

    On images of another size the same kernel would be another map, of another norm: they are refused. It costs `height * width`
    products for each product of a convolution with one tap, `CayleyConv2d`, `BROConv2d` and `SandwichConv2d` far fewer.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: tuple[int, int],
        bias: bool = True,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            image_size,
            padding="same",
            bias=bias,
            padding_mode="circular",
            device=device,
            dtype=dtype,
        )

    def forward(
        self, input: Float[Tensor, "*batch in_channels height width"]
    ) -> Float[Tensor, "*batch out_channels height width"]:
        if tuple(input.shape[-2:]) != tuple(self.kernel_size):
            raise UnsupportedConvolution(
                f"This layer is a convolution of images of {tuple(self.kernel_size)} pixels, but got"
                f" {tuple(input.shape[-2:])}. Build one for that size."
            )
        return super().forward(input)


@torch.no_grad()
def circular(
    symbol: Complex[Tensor, "height half_width out_channels in_channels"],
    bias: Tensor | None,
    image_size: tuple[int, int],
    like: Tensor,
) -> CircularConv2d:
    """The convolution by what it answers to an impulse, which is all of it: it commutes with circular shifts. In the dtype of `like`."""
    out, channels = symbol.shape[-2:]
    layer = CircularConv2d(channels, out, image_size, bias is not None, like.device, like.dtype)
    answer = torch.fft.irfft2(symbol.movedim((0, 1), (-2, -1)).to(torch.complex128), image_size)
    rows, columns = (((h - 1) // 2 - torch.arange(h, device=like.device)) % h for h in image_size)
    layer.weight.copy_(answer[..., rows[:, None], columns])
    if bias is not None:
        assert layer.bias is not None
        layer.bias.copy_(bias)
    return layer


def plain_fourier(module: AbstractFourierConv2d) -> CircularConv2d:
    """The plain form of an orthogonal convolution by its frequencies."""
    return circular(module.symbol(), module.bias, module.image_size, module.weight)
