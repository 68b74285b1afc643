r"""A linear map at each frequency of small images, through products of matrices alone.

For images of a few hundred pixels the products are several times faster than fast Fourier transforms, whose results have to be
copied from "channels of frequencies" to "frequencies of channels" and back. Under autocast all of them are of real matrices, which
run in bfloat16; otherwise those at the frequencies are complex, with half as many numbers to lay out.
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


def transformed(
    kernel: Float[Tensor, "rows columns *taps"], image_size: tuple[int, int]
) -> Complex[Tensor, "height half_width rows columns"]:
    """`torch.fft.rfft2` of the kernel in front of zeros; of small images by one product with a real matrix."""
    height, width = image_size
    if height * width > LARGEST:
        return torch.fft.rfft2(kernel, image_size).movedim((0, 1), (-2, -1))
    rows, columns = kernel.shape[-2:]
    u, r, v, c = (torch.arange(n, device=kernel.device) for n in (height, rows, width // 2 + 1, columns))
    turns = (torch.outer(u, r) % height).double()[:, None, :, None] / height
    turns = turns + (torch.outer(v, c) % width).double()[None, :, None, :] / width
    angles = 2 * torch.pi * turns.reshape(len(u) * len(v), rows * columns)
    E = torch.stack([angles.cos(), -angles.sin()]).flatten(0, 1).to(kernel.dtype)
    real, imaginary = (E @ kernel.flatten(2).flatten(0, 1).mT).reshape(2, len(u), len(v), *kernel.shape[:2])
    return torch.complex(real, imaginary)


def filtered(
    x: Float[Tensor, "batch in_channels height width"],
    symbol: Complex[Tensor, "height half_width out_channels in_channels"],
) -> Float[Tensor, "batch out_channels height width"]:
    r"""$\hat y(\omega) = Q(\omega) \hat x(\omega)$, with $Q$ on the half grid of `torch.fft.rfft2`.

    Of the frequencies that are their own conjugates the real part counts, as in `torch.fft.irfft2`.
    """
    batch, size = len(x), (x.shape[-2], x.shape[-1])
    B = waves(size, symbol.real).flatten(0, 1)
    X = (B @ x.reshape(-1, B.shape[1]).mT).reshape(len(B) // 2, 2, batch, -1)
    if torch.is_autocast_enabled(x.device.type):
        Y = (X.transpose(1, 2).flatten(2) @ matrices(symbol)).reshape(len(X), batch, 2, -1).transpose(1, 2)
    else:  # cosine + i sine is the conjugate of the transform
        cosine, sine = X.unbind(1)
        Y = torch.view_as_real(torch.complex(cosine, sine) @ symbol.flatten(0, 1).mH).movedim(-1, 1)
    return (Y.reshape(len(B), -1).mT @ B).reshape(batch, symbol.shape[-2], *size)


def matrices(
    symbol: Complex[Tensor, "height half_width out_channels in_channels"],
) -> Float[Tensor, "frequencies twice_in twice_out"]:
    r"""Transposes of the real forms $\begin{pmatrix} X & -Y \\ Y & X \end{pmatrix}$ of all $Q(\omega) = X + i Y$, for cosines and sines as
    `waves` has them."""
    Q = symbol.flatten(0, 1).mT
    top, bottom = torch.stack([Q.real, -Q.imag], -2), torch.stack([Q.imag, Q.real], -2)
    return torch.stack([top, bottom], 1).flatten(-2).flatten(1, 2)


def convolved(
    x: Float[Tensor, "batch in_channels height width"],
    symbol: Complex[Tensor, "height half_width out_channels in_channels"],
) -> Float[Tensor, "batch out_channels height width"]:
    """`filtered`, on images of more than `LARGEST` pixels by fast Fourier transforms."""
    size = x.shape[-2], x.shape[-1]
    if size[0] * size[1] <= LARGEST:
        return filtered(x, symbol)
    with torch.autocast(x.device.type, enabled=False):
        X = torch.fft.rfft2(x)
        Y = (symbol @ X.permute(2, 3, 1, 0)).permute(3, 2, 0, 1)
        return torch.fft.irfft2(Y, size)
