r"""Least singular values of the matrices and convolutions of layers, proven and rounded down."""

from itertools import product
from math import prod

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.arithmetic.semidefinite import slack
from sdplip.geometry import ExpandedGeometry, Geometry
from sdplip.kernel.expansion import expands
from sdplip.nn.bounds.lower import difference_below, root_below
from sdplip.nn.bounds.weights import certify_kernel

Kernel = Float[np.ndarray, "out in_per_group *taps"]
FINEST = 32
"""Frequencies of an axis at which the middle of the spectrum is estimated, at most; half as many where no image size is known."""


def least_singular(A: Enclosure) -> float:
    """A lower bound of the least singular value of every member, 0.0 where none is proven."""
    rows, columns = A.shape
    if rows < columns or not np.isfinite(A.mid).all():
        return 0.0
    s = np.linalg.svd(A.mid, compute_uv=False)
    if not s[-1] > 0:
        return 0.0
    room = slack(columns) * (float(s[0]) / float(s[-1])) ** 2 / 2 + 2 * A.error() / float(s[-1]) + 4 * UNIT
    while room < 1:
        tried = float(s[-1]) * (1 - room)
        if expands(A, tried):
            return tried
        room *= 4
    return 0.0


# Note [middle of the spectrum]. C'C of a circular convolution C is the circular convolution with the kernel G(tau) = sum_j K_j' K_(j + tau), on every
# image size. If |C'C - m| <= e for a number m, then C'C >= m - e, and m between both ends of the spectrum loses nothing. So the least singular value
# follows from the norm of one more convolution. With a stride s that divides the image, C is a convolution without stride of the s^d phases of each
# channel. A few roundings: G is off entry by entry by gamma times the sums of absolute values, whose norm is the root of the largest row sum times
# the largest column sum, and those are equal by symmetry.


def least_of_convolution(K: Kernel, geometry: ExpandedGeometry) -> float:
    """A lower bound of the least singular value of a circular convolution whose outputs go once round the image, 0.0 where none is proven."""
    K, dilation = _without_stride(K, geometry)
    groups, taps = geometry.groups, K.shape[2:]
    if K.shape[0] < K.shape[1] * groups or not np.isfinite(K).all():
        return 0.0
    middle, size = tuple(k - 1 for k in taps), geometry.image_size
    coarse = None if size is None else tuple(h // s for h, s in zip(size, geometry.stride, strict=True))
    G, absolute = _gram(K, groups), _gram(abs(K), groups)
    m = middle_of(G, groups, coarse)
    own = np.arange(len(G))
    G[own, own % G.shape[1], *middle] -= m
    once = Geometry(1, "circular", None, dilation, groups, coarse)
    apart = certify_kernel(G, np.ones(len(G)), once).c if G.any() else 0.0
    terms = K.shape[0] // groups * prod(taps)
    rows = float(absolute.sum(tuple(range(1, absolute.ndim))).max())
    lost = (gamma(terms + 2) * rows + 2 * UNIT * (rows + m) + 4 * terms * TINY) * GENEROUS
    square = difference_below(difference_below(m, apart), lost)
    return root_below(square) if square > 0 else 0.0


def goes_round(geometry: ExpandedGeometry, taps: tuple[int, ...]) -> bool:
    """Whether the outputs of a convolution are those of a circular one, all of them, on images that its stride divides."""
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, taps, strict=True)]
    if not any(reach) and geometry.padding in (None, (0,) * len(taps)):
        return True
    if geometry.padding_mode != "circular":
        return False
    if geometry.image_size is None and any(s > 1 for s in geometry.stride):
        return False
    before = [r / 2 for r in reach] if geometry.padding is None else geometry.padding
    return all(r - 2 * p < s for r, p, s in zip(reach, before, geometry.stride, strict=True))


def _without_stride(K: Kernel, geometry: ExpandedGeometry) -> tuple[Kernel, tuple[int, ...]]:
    """The kernel of the convolution of phases, and its dilation."""
    stride, dilation = geometry.stride, geometry.dilation
    if all(s == 1 for s in stride):
        return K, dilation
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, K.shape[2:], strict=True)]
    long = [-(-r // s) * s for r, s in zip(reach, stride, strict=True)]
    whole = np.zeros((*K.shape[:2], *long))
    whole[:, :, *(slice(0, r, d) for r, d in zip(reach, dilation, strict=True))] = K
    pairs = [n for r, s in zip(long, stride, strict=True) for n in (r // s, s)]
    parts = whole.reshape(*K.shape[:2], *pairs)
    axes = len(stride)
    order = [0, 1, *range(3, 3 + 2 * axes, 2), *range(2, 2 + 2 * axes, 2)]
    parts = parts.transpose(order).reshape(
        K.shape[0], -1, *(r // s for r, s in zip(long, stride, strict=True))
    )
    return parts, (1,) * axes


def _gram(K: Kernel, groups: int) -> Kernel:
    """G of the note, of shape `(in, in / groups, *(2 taps - 1))`."""
    out, each, *taps = K.shape
    K = K.reshape(groups, out // groups, each, *taps)
    G = np.zeros((groups, each, each, *(2 * k - 1 for k in taps)))
    for shift in product(*(range(1 - k, k) for k in taps)):
        here = tuple(slice(max(0, -t), k - max(0, t)) for t, k in zip(shift, taps, strict=True))
        there = tuple(slice(max(0, t), k - max(0, -t)) for t, k in zip(shift, taps, strict=True))
        A = K[:, :, :, *here].reshape(groups, out // groups, each, -1)
        B = K[:, :, :, *there].reshape(A.shape)
        at = tuple(t + k - 1 for t, k in zip(shift, taps, strict=True))
        G[:, :, :, *at] = np.einsum("goct,godt->gcd", A, B)
    return G.reshape(groups * each, each, *G.shape[3:])


def middle_of(G: Kernel, groups: int, size: tuple[int, ...] | None) -> float:
    """The middle between the ends of the spectrum that frequencies of the image show, or a few. Not trusted."""
    n, each, *taps = G.shape
    counts = [min(h, FINEST) for h in size] if size else [FINEST // 2] * len(taps)
    axes = [
        np.exp(2j * np.pi * np.outer(np.arange(h), np.arange(k) - k // 2) / h)
        for h, k in zip(counts, taps, strict=True)
    ]
    symbols = G.reshape(groups, n // groups, each, *taps).astype(complex)
    for wave in axes:
        symbols = np.tensordot(symbols, wave, ([3], [1]))
    values = np.linalg.eigvalsh(np.moveaxis(symbols, (1, 2), (-2, -1)))
    return float(values.min() + values.max()) / 2
