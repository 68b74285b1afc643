r"""A linear map at each frequency of small images, through products of real matrices alone.

For images of a few hundred pixels the products are several times faster than fast Fourier transforms, whose results have to be
copied from "channels of frequencies" to "frequencies of channels" and back, and they run in bfloat16 under autocast.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

LARGEST = 256
"""Pixels up to which this is the faster way."""


def waves(image_size: tuple[int, int], like: Tensor) -> Float[Tensor, "frequencies 2 pixels"]:
    r"""The matrix $B$ with rows $\cos \omega^\top p / \sqrt{N}$ and $\sin \omega^\top p / \sqrt{N}$, in double precision.

    On the half grid of `torch.fft.rfft2`, times $\sqrt 2$ where the conjugate frequency stands outside of it: $B^\top B = I$.
    """
    height, width = image_size
    u, r, v, c = (torch.arange(n, device=like.device) for n in (height, height, width // 2 + 1, width))
    turns = (torch.outer(u, r) % height).double()[:, None, :, None] / height
    turns = turns + (torch.outer(v, c) % width).double()[None, :, None, :] / width
    angles = 2 * torch.pi * turns.reshape(height * len(v), height * width)
    own = ((v == 0) | (2 * v == width)).repeat(height)
    scale = torch.where(own, 1.0, 2.0).double().sqrt()[:, None, None] / (height * width) ** 0.5
    return (torch.stack([angles.cos(), angles.sin()], 1) * scale).to(like.dtype)


def filtered(
    x: Float[Tensor, "batch in_channels height width"],
    symbol: Complex[Tensor, "height half_width out_channels in_channels"],
) -> Float[Tensor, "batch out_channels height width"]:
    r"""$\hat y(\omega) = Q(\omega) \hat x(\omega)$, with $Q$ on the half grid of `torch.fft.rfft2`.

    Of the frequencies that are their own conjugates the real part counts, as in `torch.fft.irfft2`.
    """
    batch, size = len(x), (x.shape[-2], x.shape[-1])
    B = waves(size, symbol.real).transpose(0, 1).flatten(0, 1)
    Q = symbol.flatten(0, 1).mT
    c, s = (B @ x.reshape(-1, B.shape[1]).mT).reshape(2, len(Q), batch, Q.shape[1])
    Y = torch.cat([c @ Q.real + s @ Q.imag, s @ Q.real - c @ Q.imag])
    return (Y.reshape(len(B), -1).mT @ B).reshape(batch, Q.shape[2], *size)
