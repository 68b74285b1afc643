r"""Algebra of convolution kernels: polyphase form, Gram kernel, product, wrapping around a torus.

Every stride, dilation and group count is reduced to one plain case, the polyphase kernel: shape
`(groups, out, channels, *taps)` within a group, stride 1, dilation 1. All other formulas are written for it only.
"""

from itertools import product
from math import prod
from types import ModuleType

import numpy as np
from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.layout import EVERY_SIZE, Form, Layout, channels, layout
from sdplip.geometry import Geometry

AT_ONCE = 2**24
"""Numbers in the copies of a kernel, up to which an accelerator correlates all offsets in one product."""


def namespace(x: Array) -> ModuleType:
    """`numpy` for an array, `torch` for anything else; torch is imported only by those who bring a tensor."""
    if isinstance(x, np.ndarray):
        return np
    import torch

    return torch


def on_cpu(x: Array) -> bool:
    """Whether it is computed with by a processor with caches, not by an accelerator."""
    return isinstance(x, np.ndarray) or x.device.type == "cpu"


def _many_launches(x: Array) -> bool:
    """Whether the number of operations costs more than their work."""
    if isinstance(x, np.ndarray):
        return False
    import torch

    return x.device.type != "cpu" or torch.compiler.is_compiling()


def polyphase(
    K: Float[Array, "out channels *taps"], axes: Layout
) -> Float[Array, "groups out_in_group channels_times_phases *polyphase_taps"]:
    r"""Kernel of the same linear map with stride 1 and dilation 1, on inputs sorted by their phase modulo the stride.

    Pixel $u = s w + \varphi$ of channel $c$ becomes pixel $w$ of channel $(c, \varphi)$, and tap $\tau$ becomes tap
    $\lfloor d \tau / s \rfloor$ of phase $d \tau \bmod s$ (stride $s$, dilation $d$). It only permutes the inputs, so
    every norm stays.
    """
    grouped = K.reshape(axes.groups, -1, *K.shape[1:])
    if set(axes.stride) | set(axes.dilation) == {1}:
        return grouped
    sizes = [r // s + 1 for r, s in zip(axes.reach, axes.stride, strict=True)]
    shape = (*grouped.shape[:3], *axes.stride, *sizes)
    P = np.zeros(shape, K.dtype) if isinstance(K, np.ndarray) else K.new_zeros(shape)
    for tap in product(*map(range, axes.taps)):
        reach = [d * v for d, v in zip(axes.dilation, tap, strict=True)]
        phase = [r % s for r, s in zip(reach, axes.stride, strict=True)]
        place = [r // s for r, s in zip(reach, axes.stride, strict=True)]
        P[:, :, :, *phase, *place] = grouped[:, :, :, *tap]
    return P.reshape(*grouped.shape[:2], K.shape[1] * prod(axes.stride), *sizes)


def autocorrelation(
    K: Float[Array, "out channels *taps"], geometry: Geometry = EVERY_SIZE, *, form: Form = "linear"
) -> Float[Array, "groups n n *offsets"]:
    r"""Kernel $A$ of the Gram operator: $(G x)_{i,v} = \sum_{j,\delta} A_{ij\delta} x_{j,v+\delta}$ on the infinite image.

    `form="linear"`, $G = C^\top C$: $A_{ij\delta} = \sum_{o,u} K_{o,i,u} K_{o,j,u+\delta}$ over the input channels of a
    group; with a stride, over its (channel, phase) pairs, channel first.
    `form="residual"`, $G = C C^\top$: $A_{ij\delta} = \sum_{c,u} K_{i,c,u+\delta} K_{j,c,u}$ over the output channels of
    a group; with a stride, only offsets that are multiples of it.
    Offsets run from $1 - k$ to $k - 1$ on each axis of the polyphase kernel, and $A_{ij\delta} = A_{ji,-\delta}$. They count
    pixels of `Layout.stationary`: steps of the dilation, unless a known circular image fixes the pixels.
    """
    channels(K, geometry, form)
    P = polyphase(K, layout(K, geometry).stationary)
    if form == "residual":
        return correlate(P, P)
    P = P.swapaxes(1, 2)
    return correlate(P, P).swapaxes(1, 2)


def correlate(
    X: Float[Array, "groups n channels *taps"], Y: Float[Array, "groups n channels *taps2"]
) -> Float[Array, "groups n n *offsets"]:
    r"""Kernel $\sum_u X_{u+\delta} Y_u^\top$ of the operator $X Y^\top$, which must be symmetric: half of it is mirrored.

    One matrix product for each offset; one product for all of them, while the copies that it needs stay below `AT_ONCE` numbers,
    on an accelerator, where launching kernels is what costs, and in compiled graphs, which would grow with the offsets. A `torch`
    convolution would be faster on a CPU in single precision, slower in double, and rounded to TF32 (three digits) on GPUs by default.
    """
    groups, n = X.shape[:2]
    pairs = list(zip(X.shape[3:], Y.shape[3:], strict=True))
    if _many_launches(X) and prod((*X.shape[:3], *(b * (a + b - 1) for a, b in pairs))) <= AT_ONCE:
        return _correlate_at_once(X, Y)
    offsets = list(product(*[range(1 - b, a) for a, b in pairs]))
    half = []
    for offset in offsets[: len(offsets) // 2 + 1]:
        in_X = [slice(max(d, 0), b + d) for d, (_, b) in zip(offset, pairs, strict=True)]
        in_Y = [slice(max(-d, 0), a - d) for d, (a, _) in zip(offset, pairs, strict=True)]
        left, right = X[:, :, :, *in_X], Y[:, :, :, *in_Y]
        half.append(left.reshape(groups, n, -1) @ right.reshape(groups, n, -1).mT)
    mirrored = [A.mT for A in reversed(half[:-1])]
    return namespace(X).stack(half + mirrored, -1).reshape(groups, n, n, *[a + b - 1 for a, b in pairs])


def _correlate_at_once(
    X: Float[Array, "groups n channels *taps"], Y: Float[Array, "groups n channels *taps2"]
) -> Float[Array, "groups n n *offsets"]:
    """`correlate` of torch tensors: the windows of the padded first kernel, times the second one."""
    import torch

    groups, n = X.shape[:2]
    taps = tuple(Y.shape[3:])
    windows = torch.nn.functional.pad(X, [b - 1 for b in reversed(taps) for _ in range(2)])
    for axis, b in enumerate(taps, 3):
        windows = windows.unfold(axis, b, 1)
    offsets = tuple(windows.shape[3 : 3 + len(taps)])
    windows = windows.movedim(2, 2 + len(taps)).reshape(groups, n * prod(offsets), -1)
    A = (windows @ Y.reshape(groups, n, -1).mT).reshape(groups, n, *offsets, n)
    return A.movedim(-1, 2)


def wrap(
    X: Float[Array, "groups n m *taps"], size: tuple[int, ...] | None
) -> Float[Array, "groups n m *wrapped"]:
    """Kernel of `X` on a torus of that `size`: taps equal modulo the size are added. None is the infinite image."""
    xp = namespace(X)
    for axis, h in enumerate(size or (), 3):
        if h < X.shape[axis]:
            Y = xp.moveaxis(X, axis, 0)
            X = xp.moveaxis(xp.stack([Y[r::h].sum(0) for r in range(h)]), 0, axis)
    return X
