"""Convolutions, pooling and padding of arrays `(samples, channels, *pixels)`."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np

from sdplip.errors import Misfit
from sdplip.network.operators import Average, Convolution, Maximum, Transposed, pooling_windows
from sdplip.network.read.arrays import Array, entries, mapped, noted, own, shift
from sdplip.shapes import Float

Pads = tuple[tuple[int, int], ...]
Numbers = tuple[int, ...]
Mode = Literal["constant", "wrap", "reflect", "edge"]


def pad(x: Array, widths: Sequence[tuple[int, int]], mode: Mode = "constant", c: float = 0.0) -> Array:
    """The array with entries added (or, where negative, left out) before and after each axis, as `np.pad` does it.

    Raises:
        InvalidWeight: padding of the batch.
    """
    widths = tuple((int(a), int(b)) for a, b in widths)
    if len(widths) != x.rank:
        raise Misfit(f"{x.tape.subject} pads {len(widths)} axes of an array of shape {x.full}.")
    own(x, *(k for k, (a, b) in enumerate(widths) if a or b))
    if not any(map(any, widths)):
        return x
    x.tape.need(prod(n + max(a, 0) + max(b, 0) for n, (a, b) in zip(x.shape, widths, strict=True)))
    index = entries(x)
    for k, (a, b) in enumerate(widths):
        n = index.shape[k]
        if n + min(a, 0) + min(b, 0) < 1 or (mode == "reflect" and max(a, b) >= n):
            raise Misfit(f"{x.tape.subject} pads an axis of {n} entries by {a} and {b} ({mode}).")
    cropped = index[
        tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, index.shape, strict=True))
    ]
    more = [(max(a, 0), max(b, 0)) for a, b in widths]
    new = (
        np.pad(cropped, more, constant_values=-1) if mode == "constant" else np.pad(cropped, more, mode=mode)
    )
    y = mapped(x, new)
    if mode == "constant" and c:
        y = shift(y, np.where(new < 0, c, 0.0))
    elif cropped.size == index.size:
        x.tape.padded[y.value] = (x, widths, mode)
    return y


def convolution(
    x: Array,
    K: Float[np.ndarray, "out in_per_group *taps"],
    b: Float[np.ndarray, " out"] | None,
    *,
    stride: Numbers,
    pads: Pads,
    dilation: Numbers,
    groups: int = 1,
) -> Array:
    """A convolution with zero padding. Padding in front of it (zeros, or the other side of the image) becomes part of it."""
    _images(x, K.shape[1] * groups, K.ndim)
    x, pads, circular = _taken_over(x, K, stride, pads, dilation)
    samples = x.shape[0]
    x.tape.need(samples * K.size)
    op = Convolution(
        np.tile(K, (samples, *(1,) * (K.ndim - 1))),
        x.shape[2:],
        stride,
        pads,
        dilation,
        groups * samples,
        circular,
    )
    x.tape.need(op.outputs)
    op = replace(op, b=_every_pixel(b, samples, op.output_size))
    return noted(x, op, (samples, len(K), *op.output_size))


def transposed_convolution(
    x: Array,
    K: Float[np.ndarray, "in out_per_group *taps"],
    b: Float[np.ndarray, " out"] | None,
    *,
    stride: Numbers,
    pads: Pads,
    dilation: Numbers,
    groups: int = 1,
    output_size: Numbers,
) -> Array:
    """The transpose of the convolution that takes images of `output_size` to those of `x`, and a bias a channel."""
    _images(x, len(K), K.ndim)
    samples = x.shape[0]
    x.tape.need(samples * max(K.size, K.shape[1] * groups * prod(output_size)))
    kernels = np.tile(K, (samples, *(1,) * (K.ndim - 1)))
    # What the forward convolution does not read at the end of each axis is padding that is not there.
    of = Convolution(
        kernels,
        output_size,
        stride,
        _exact(pads, output_size, x, K, stride, dilation),
        dilation,
        groups * samples,
    )
    if of.output_size != x.shape[2:]:
        raise Misfit(f"{x.tape.subject} cannot make images of {output_size} pixels of {x.shape[2:]}.")
    out = K.shape[1] * groups
    op = Transposed(of, _every_pixel(b, samples, output_size))
    return noted(x, op, (samples, out, *output_size))


def maximum_pool(
    x: Array,
    window: Numbers,
    *,
    stride: Numbers,
    pads: Pads,
    dilation: Numbers,
    output_size: Numbers | None = None,
) -> Array:
    """The maximum of every window; padding is left out."""
    _images(x, None, len(window) + 2)
    x.tape.need(prod((*x.shape[:2], *window, *_pooled(x, output_size, window, stride, pads, dilation))))
    index = pooling_windows(
        prod(x.shape[:2]), x.shape[2:], window, stride, pads, dilation, output_size=output_size
    )
    return noted(
        x,
        Maximum(index, x.size),
        (*x.shape[:2], *_pooled(x, output_size, window, stride, pads, dilation)),
    )


def average_pool(
    x: Array,
    window: Numbers,
    *,
    stride: Numbers,
    pads: Pads,
    dilation: Numbers,
    count_padding: bool,
    output_size: Numbers | None = None,
) -> Array:
    """The mean of every window. Padding counts as zeros (`count_padding`) or not at all; what is behind it, where windows end
    outside of both, never counts."""
    _images(x, None, len(window) + 2)
    x.tape.need(prod((*x.shape[:2], *window, *_pooled(x, output_size, window, stride, pads, dilation))))
    channels, size = prod(x.shape[:2]), x.shape[2:]
    index = pooling_windows(channels, size, window, stride, pads, dilation, output_size=output_size)
    divisor = (index >= 0).sum(1).astype(np.float64)
    if count_padding:
        padded = tuple(h + sum(p) for h, p in zip(size, pads, strict=True))
        none = ((0, 0),) * len(pads)
        within = pooling_windows(1, padded, window, stride, none, dilation, output_size=output_size)
        divisor = np.tile((within >= 0).sum(1), channels).astype(np.float64)
    shape = (*x.shape[:2], *_pooled(x, output_size, window, stride, pads, dilation))
    return noted(x, Average(index, divisor, x.size), shape)


def _pooled(
    x: Array, output_size: Numbers | None, window: Numbers, stride: Numbers, pads: Pads, dilation: Numbers
) -> Numbers:
    axes = zip(x.shape[2:], window, stride, pads, dilation, strict=True)
    return output_size or tuple((h + sum(p) - d * (k - 1) - 1) // s + 1 for h, k, s, p, d in axes)


def _images(x: Array, channels: int | None, rank: int) -> None:
    """Raises:
    Misfit: no images of that many channels.
    InvalidWeight: the batch stands on channels or pixels.
    """
    if x.rank != rank or channels not in (None, x.shape[1]):
        raise Misfit(
            f"{x.tape.subject} takes images of {rank - 2} axes and {channels} channels, but is given {x.full}."
        )
    own(x, *range(1, rank))


def _taken_over(
    x: Array, K: Float[np.ndarray, "out in *taps"], stride: Numbers, pads: Pads, dilation: Numbers
) -> tuple[Array, Pads, bool]:
    """The array before a padding that the convolution can do itself, and its padding then."""
    if x.value not in x.tape.padded:
        return _rolled_in(x, K, stride, pads, dilation)
    source, widths, mode = x.tape.padded[x.value]
    if any(map(any, widths[:2])) or x.shape[2:] != tuple(
        n + sum(w) for n, w in zip(source.shape[2:], widths[2:], strict=False)
    ):
        return x, pads, False
    if mode == "constant":
        both = tuple((a + c, b + d) for (a, b), (c, d) in zip(widths[2:], pads, strict=True))
        return source, both, False
    if mode == "wrap" and not any(map(any, pads)) and _is_circulant(source, widths[2:], K, stride, dilation):
        return source, widths[2:], True
    return x, pads, False


def _is_circulant(
    x: Array, widths: Pads, K: Float[np.ndarray, "out in *taps"], stride: Numbers, dilation: Numbers
) -> bool:
    """Whether `Convolution` takes circular padding of these widths."""
    axes = zip(x.shape[2:], widths, K.shape[2:], stride, dilation, strict=True)
    return all(sum(w) <= d * (k - 1) < h and h % s == 0 for h, w, k, s, d in axes)


def _rolled_in(
    x: Array, K: Float[np.ndarray, "out in *taps"], stride: Numbers, pads: Pads, dilation: Numbers
) -> tuple[Array, Pads, bool]:
    """Circular padding that is written as slices side by side: an index map that is what `pad` would make of an image."""
    value, index = x.tape.read_through(x.value)
    shape = x.tape.builder.shape(value)
    if (
        index is None
        or any(map(any, pads))
        or x.shape[0] != 1
        or len(shape) != x.rank - 1
        or shape[0] != x.shape[1]
    ):
        return x, pads, False
    source = replace(x, value=value, shape=(1, *shape))
    more = [n - h for n, h in zip(x.shape[2:], shape[1:], strict=True)]
    if not any(more) or min(more) < 0 or index[0] < 0:
        return x, pads, False
    _, *first = np.unravel_index(
        index[0], shape
    )  # the first pixel of the padded image says how many are before it
    before = [int(-at % h) for at, h in zip(first, shape[1:], strict=True)]
    widths = tuple((a, n - a) for a, n in zip(before, more, strict=True))
    if min(map(min, widths)) < 0 or not _is_circulant(source, widths, K, stride, dilation):
        return x, pads, False
    wrapped = np.pad(entries(source), ((0, 0), (0, 0), *widths), mode="wrap")
    return (source, widths, True) if (wrapped.reshape(-1) == index).all() else (x, pads, False)


def _exact(pads: Pads, size: Numbers, x: Array, K: np.ndarray, stride: Numbers, dilation: Numbers) -> Pads:
    """The padding after each axis such that the convolution makes exactly the pixels of `x`."""
    axes = zip(pads, size, x.shape[2:], K.shape[2:], stride, dilation, strict=True)
    return tuple((a, max(0, (n - 1) * s + d * (k - 1) + 1 - a - h)) for (a, _), h, n, k, s, d in axes)


def _every_pixel(
    b: Float[np.ndarray, " out"] | None, samples: int, size: Numbers
) -> Float[np.ndarray, " outputs"] | None:
    return None if b is None else np.tile(np.repeat(np.asarray(b, np.float64), prod(size)), samples)
