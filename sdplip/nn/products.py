"""Orthogonal convolutions by three products of real matrices instead of fast Fourier transforms: what can be certified."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import UnsupportedConvolution
from sdplip.nn.fourier import waves
from sdplip.nn.orthogonal import AbstractFourierConv2d, BROConv2d, CayleyConv2d

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

    def __init__(self, layer: AbstractFourierConv2d) -> None:
        super().__init__()
        self.image_size = layer.image_size
        with torch.no_grad():
            Q = layer.symbol().resolve_conj().flatten(0, 1).mT
            top, bottom = torch.cat([Q.real, -Q.imag], -1), torch.cat([Q.imag, Q.real], -1)
            self.register_buffer("matrices", torch.cat([top, bottom], -2).contiguous())
            self.register_buffer("waves", waves(layer.image_size, self.matrices))
        self.bias = layer.bias

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


def by_products(model: nn.Module) -> nn.Module:
    """`model` itself, each `CayleyConv2d` and `BROConv2d` in it replaced by its products. What `lipschitz` refuses stays, to be refused."""
    if _is_plain(model):
        return CayleyConv2dProducts(model)  # pyright: ignore[reportArgumentType]
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if _is_plain(module):
            parent, _, name = path.rpartition(".")
            model.get_submodule(parent)._modules[name] = CayleyConv2dProducts(module)  # pyright: ignore[reportArgumentType]
    return model


def _is_plain(module: nn.Module) -> bool:
    """Whether it is an orthogonal convolution of which nothing was changed."""
    patched = any(callable(getattr(type(module), name, None)) for name in vars(module))
    return type(module) in (CayleyConv2d, BROConv2d) and not (
        module._forward_hooks or module._forward_pre_hooks or patched
    )
