r"""A convolution seen frequency by frequency: its matrix-valued symbol, and the largest singular value of all of them."""

from dataclasses import replace

import numpy as np
from jaxtyping import Complex, Float, Int

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace, polyphase, wrap
from sdplip.convolution.layout import layout
from sdplip.geometry import Geometry

SOME = 16
"""Frequencies that are computed together."""


def symbol(
    K: Float[Array, "out channels *taps"], geometry: Geometry, image_size: tuple[int, ...]
) -> Complex[Array, "groups *frequencies out_in_group channels_times_phases"]:
    r"""Matrices $\hat C(\omega) = \sum_\tau K_\tau e^{i \omega \tau}$ of the circular convolution, one a frequency.

    The grid is `image_size / stride`; with a stride the columns are (channel, phase) pairs of the polyphase form. The
    singular values of all of them together are those of the circular convolution that drops no output.

    Raises:
        UnsupportedConvolution: the stride does not divide the image, so there is no symbol; see `Geometry.expand`.
    """
    axes = layout(K, replace(geometry, padding_mode="circular", padding=None, image_size=image_size))
    P, grid = polyphase(K, axes), axes.period or ()
    xp = namespace(P)
    transform = xp.fft.fftn(wrap(P, grid), grid, tuple(range(3, P.ndim)))
    return xp.moveaxis(transform, (1, 2), (-2, -1)).conj()


def symbol_at(
    K: Float[np.ndarray, "out channels *taps"],
    geometry: Geometry,
    image_size: tuple[int, ...],
    frequencies: tuple[Int[np.ndarray, " f"], ...],
) -> Complex[np.ndarray, "f groups out_in_group channels_times_phases"]:
    """`symbol` at some points of its grid, without the memory and the time of the others."""
    axes = layout(K, replace(geometry, padding_mode="circular", padding=None, image_size=image_size))
    P, grid = polyphase(K, axes), axes.period or ()
    taps = wrap(P, grid)
    places = np.indices(taps.shape[3:]).reshape(len(grid), -1)
    turns = sum((np.outer(f, i) % n) / n for f, i, n in zip(frequencies, places, grid, strict=True))
    waves, flat = np.exp(2j * np.pi * turns), taps.reshape(-1, places.shape[1])
    found = np.empty((len(waves), len(flat)), np.complex128)
    for a in range(0, len(waves), SOME):
        found.real[a : a + SOME] = np.real(waves[a : a + SOME]) @ flat.T
        found.imag[a : a + SOME] = np.imag(waves[a : a + SOME]) @ flat.T
    return found.reshape(-1, *taps.shape[:3])


def norm_circular(
    K: Float[np.ndarray, "out channels *taps"], geometry: Geometry, image_size: tuple[int, ...]
) -> float:
    r"""Spectral norm $\max_\omega \lVert \hat C(\omega) \rVert_2$ of the circular convolution, exact up to rounding.

    For a padding that drops outputs it is an upper bound. Sedghi, Gupta and Long, ICLR 2019.
    """
    return float(np.linalg.svdvals(symbol(K, geometry, image_size)).max())
