r"""Least singular values of convolutions with zero padding, proven for images of every size."""

from dataclasses import replace

import numpy as np

from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, down, gamma, up
from sdplip.geometry import ExpandedGeometry, Geometry
from sdplip.nn.bounds.lower import difference_below
from sdplip.nn.bounds.singular import Kernel, least_of_convolution, middle_of
from sdplip.nn.bounds.weights import certify_kernel

# Note [zeros around an image]. Without stride, C cuts a block P L P' out of the convolution L of infinite images, and cutting may lower the least
# singular value: orthogonal kernels of 3 x 3 taps come down to 0.07. Two things survive.
#   All outputs kept: with a padding as long as the kernel reaches, P' x has the image L P' x, of which nothing is cut off: |C x| = |L P' x|.
#   The numerical range: for any matrix U of channels, <U x, C x> = <P' U x, L P' x>, because U commutes with P. Let H be the Hermitian part of U'C, a
#   convolution with the kernel (U'K(t) + K(-t)'U) / 2. If |H - m| <= e, then |U| |x| |C x| >= <x, H x> >= (m - e) |x|^2, whatever the size of the
#   image. U is the polar factor of the middle tap. This needs a middle tap that outweighs the others, as in x + f(x); other kernels get nothing.


def least_of_zero_padded(K: Kernel, geometry: ExpandedGeometry) -> float:
    """A lower bound of the least singular value on images of every size, 0.0 where none is proven, as with every stride."""
    taps, out = K.shape[2:], K.shape[0]
    if out < K.shape[1] * geometry.groups or not np.isfinite(K).all() or any(s > 1 for s in geometry.stride):
        return 0.0
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, taps, strict=True)]
    pads = geometry.pads(K.shape)
    every = replace(geometry, padding=None, image_size=None)
    if all(min(pad) >= r for pad, r in zip(pads, reach, strict=True)):
        return least_of_convolution(K, replace(every, padding_mode="circular"))
    if any(pad != (r / 2, r / 2) for pad, r in zip(pads, reach, strict=True)) or not all(k % 2 for k in taps):
        return 0.0
    return _numerical_range(K, every)


def _numerical_range(K: Kernel, geometry: ExpandedGeometry) -> float:
    """(m - e) / |U| of the note."""
    groups, taps = geometry.groups, K.shape[2:]
    centre = tuple(k // 2 for k in taps)
    parts = K.reshape(groups, -1, *K.shape[1:])
    left, _, right = np.linalg.svd(parts[:, :, :, *centre], full_matrices=False)
    U = left @ right
    H, absolute = _hermitian(U, parts), _hermitian(abs(U), abs(parts))
    m = middle_of(H, groups, None)
    own = np.arange(len(H))
    H[own, own % H.shape[1], *centre] -= m
    once = Geometry(1, "zeros", None, geometry.dilation, groups)
    apart = certify_kernel(H, np.ones(len(H)), once).c if H.any() else 0.0
    terms = parts.shape[1]
    rows = float(absolute.sum(tuple(range(1, absolute.ndim))).max())
    lost = (gamma(terms + 3) * rows + 2 * UNIT * (rows + abs(m)) + 4 * terms * H[0].size * TINY) * GENEROUS
    size = float(
        (abs(U).mT @ abs(U)).sum(-1).max()
    )  # |U|^2 is at most the largest row sum of |U'U|, off by gamma times this
    square = up(float(abs(U.mT @ U).sum(-1).max()) + gamma(terms + U.shape[-1] + 2) * size * GENEROUS)
    least = difference_below(difference_below(m, apart), lost)
    return down(least / up(float(np.sqrt(square)))) if least > 0 else 0.0


def _hermitian(U: np.ndarray, K: np.ndarray) -> Kernel:
    """(U'K(t) + K(-t)'U) / 2 of every group, `(in, in / groups, *taps)`."""
    product = np.einsum("goc,god...->gcd...", U, K)
    back = np.flip(product, tuple(range(3, product.ndim))).swapaxes(1, 2)
    return ((product + back) / 2).reshape(-1, *product.shape[2:])
