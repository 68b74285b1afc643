"""Convolutions by matrices at each frequency as three products of real matrices instead of fast Fourier transforms: what can be certified."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import UnsupportedConvolution
from sdplip.nn import fourier
from sdplip.nn.orthogonal import AbstractFourierConv2d, BROConv2d, CayleyConv2d
from sdplip.nn.plain import PlainSandwich
from sdplip.nn.sandwich_conv import SandwichConv2d

# Note [products]. Let B hold a row cos(w'p) / sqrt(N) and a row sin(w'p) / sqrt(N) of all N pixels p for each frequency of the
# half grid, times sqrt(2) where the conjugate frequency stands outside of it. Then B'B = I, and x -> B' M B x with a matrix M for
# each frequency, in the real form of Q(w), is the circular convolution with the symbol Q. As it runs, B and M are rounded: the
# layer is |B|^2 max |M|-Lipschitz whatever their numbers are.


class CayleyConv2dProducts(nn.Module):
    r"""$y = B^\top M B x$ plus a bias, see Note [products]: what a `CayleyConv2d` or `BROConv2d` computes, up to rounding.

    Attributes:
        waves: $B$, `(frequencies, 2, pixels)`.
        matrices: transposes of the matrices $M$, `(frequencies, 2 in_channels, 2 out_channels)`.
        bias: one entry an output channel, or None.
        image_size: height and width of every input.
    """

    waves: Tensor
    matrices: Tensor

    def __init__(self, symbol: Tensor, bias: nn.Parameter | None, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = image_size
        with torch.no_grad():
            self.register_buffer("matrices", fourier.matrices(symbol).contiguous())
            self.register_buffer("waves", fourier.waves(image_size, self.matrices))
        self.bias = bias

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        batch, channels, *size = x.shape
        if tuple(size) != self.image_size:
            raise UnsupportedConvolution(
                f"This layer is orthogonal on images of {self.image_size} pixels, but got {tuple(size)}. Build one"
                " for that size."
            )
        frequencies, inner, outer = self.matrices.shape
        X = (self.waves.flatten(0, 1) @ x.reshape(batch * channels, -1).mT).reshape(
            frequencies, 2, batch, channels
        )
        Y = X.transpose(1, 2).reshape(frequencies, batch, inner) @ self.matrices
        Y = Y.reshape(frequencies, batch, 2, outer // 2).transpose(1, 2).reshape(2 * frequencies, -1)
        y = (Y.mT @ self.waves.flatten(0, 1)).reshape(batch, -1, *size)
        return y if self.bias is None else y + self.bias[:, None, None]


Fourier = AbstractFourierConv2d | SandwichConv2d


@torch.no_grad()
def products(layer: Fourier) -> nn.Module:
    """What the layer computes, up to rounding, by products: of a sandwich layer two, with the activation between them and its diagonals in
    their matrices."""
    if isinstance(layer, AbstractFourierConv2d):
        return CayleyConv2dProducts(layer.symbol(), layer.bias, layer.image_size)
    outward, inward = layer.symbol().split([layer.out_channels, layer.channels], -2)
    before, after = layer.diagonals()
    up = CayleyConv2dProducts(before[:, None] * inward.mH, layer.bias, layer.grid)
    down = CayleyConv2dProducts(outward * after, None, layer.grid)
    plain = PlainSandwich(up, layer.activation, down, layer.multipliers().to(up.matrices))
    return plain if layer.stride == 1 else nn.Sequential(nn.PixelUnshuffle(layer.stride), plain)


def by_products(model: nn.Module) -> nn.Module:
    """`model` itself, each `CayleyConv2d`, `BROConv2d` and `SandwichConv2d` in it replaced by its products. What `lipschitz` refuses stays, to
    be refused."""
    if _is_plain(model):
        return products(model)  # pyright: ignore[reportArgumentType]
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if _is_plain(module):
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent)._modules[name] = products(module)  # pyright: ignore[reportArgumentType]
    return model


def _is_plain(module: nn.Module) -> bool:
    """Whether it is a layer by Fourier transforms of which nothing was changed."""
    patched = any(callable(getattr(type(module), name, None)) for name in vars(module))
    return type(module) in (CayleyConv2d, BROConv2d, SandwichConv2d) and not (
        module._forward_hooks or module._forward_pre_hooks or patched
    )
