r"""A convolution seen frequency by frequency: its matrix-valued symbol, and the largest singular value of all of them."""

from dataclasses import replace
from math import cos, pi, prod

import numpy as np
from jaxtyping import Complex, Float

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace, polyphase, wrap
from sdplip.convolution.layout import Layout, layout
from sdplip.geometry import Geometry


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
    return _transform(polyphase(K, axes), axes.period or ()).conj()


def norm_circular(
    K: Float[np.ndarray, "out channels *taps"], geometry: Geometry, image_size: tuple[int, ...]
) -> float:
    r"""Spectral norm $\max_\omega \lVert \hat C(\omega) \rVert_2$ of the circular convolution, exact up to rounding.

    For a padding that drops outputs it is an upper bound. Sedghi, Gupta and Long, ICLR 2019.
    """
    return float(np.linalg.svdvals(symbol(K, geometry, image_size)).max())


def largest_eigenvalue(
    K: Float[Array, "out channels *taps"], geometry: Geometry, *, iterations: int, samples: int
) -> Float[Array, " groups"]:
    r"""Upper bound of $\lambda_{\max}(C^\top C)$ in each group of channels, on every image that `geometry` allows.

    Gram iteration at the frequencies of a grid, times the factor of `frequency_grid` for those in between. Frequencies that
    cannot be the largest are left out early; this changes no result, and only the rest is differentiated.
    """
    axes = layout(K, geometry).stationary
    P = polyphase(K, axes)
    grid, factor = frequency_grid(tuple(P.shape[3:]), axes, samples)
    C = _transform(P, grid, half=True)  # G(-w) is the conjugate of G(w)
    C = C.reshape(axes.groups, -1, *C.shape[-2:])
    xp, fixed = namespace(K), C if isinstance(C, np.ndarray) else C.detach()
    for k in range(2, iterations, 2):
        upper, lower = _gram_iteration(fixed, k)
        keep = (upper >= 0.999 * xp.amax(lower, -1)[:, None]).any(
            0
        )  # room for the rounding of single precision
        C, fixed = C[:, keep], fixed[:, keep]
    return _nonzero(xp.amax(_gram_iteration(C, iterations)[0], -1)) * factor


def _gram_iteration(
    C: Complex[Array, "groups frequencies m n"], iterations: int
) -> tuple[Float[Array, "groups frequencies"], Float[Array, "groups frequencies"]]:
    r"""Upper and lower bound of $\lambda_{\max}(C^* C)$ at each frequency; $G = C^* C$, $p = 2^k$, $k$ = `iterations`:

    $(\lVert G^p \rVert_F^2 / \mathrm{tr}\, G^p)^{1/p} \le \lambda_{\max} \le \lVert G^p \rVert_F^{1/p}$ (Delattre et al. 2023).
    """
    M = C.mT.conj() @ C if C.shape[-1] <= C.shape[-2] else C @ C.mT.conj()
    scale = _nonzero(namespace(C).amax(_frobenius(M), -1))[:, None]  # squares must not overflow
    M = M / scale[..., None, None]
    upper = _frobenius(M)
    M = M / _nonzero(upper)[..., None, None]
    for k in range(1, iterations + 1):
        M = M @ M
        norm = _nonzero(_frobenius(M))
        M, upper = M / norm[..., None, None], upper * norm ** (0.5**k)
    diagonal = range(M.shape[-1])
    trace = M[..., diagonal, diagonal].real.sum(-1)
    return upper * scale, upper * scale * _nonzero(trace) ** -(0.5**iterations)


def frequency_grid(
    polyphase_taps: tuple[int, ...], axes: Layout, samples: int
) -> tuple[tuple[int, ...], float]:
    r"""Grid sizes $N$, and the factor by which $\lambda_{\max}(G(\omega))$ may exceed its largest value on the grid.

    With an image size $h$ the exact grid has factor 1: $h / s$ frequencies if circular; $\lceil (h + k - 1) / s \rceil$ for zero
    padding, because the circular convolution of that size contains the padded one as a submatrix (nothing wraps around).
    For every image size: $N = {}$`samples`$\cdot D$ points with the factor $2 / (1 + \cos(\pi D / N))$, $D$ = polyphase taps - 1.
    The smaller of the two grids is taken on each axis. `axes` is stationary.

    Law: let $v$ be the top eigenvector at the best frequency $\omega^*$. $p(\omega) = v^* G(\omega) v \in [0, M]$ is a
    trigonometric polynomial of degree $D$ on each axis with $p(\omega^*) = M$. M. Riesz' lemma for $p - M/2$ gives
    $p \ge \tfrac{M}{2} (1 + \cos D(\omega - \omega^*))$ along one axis as far as $D |\omega - \omega^*| \le \pi$, and the
    next grid point is at most $\pi / N$ away. Fix that coordinate and go on with the next axis.
    """
    if samples < 2:
        raise ValueError(f"`samples` must be a whole number of at least 2, but is {samples}.")
    degrees = [k - 1 for k in polyphase_taps]
    grid = [max(samples * D, 1) for D in degrees]
    factors = [2 / (1 + cos(pi * D / N)) for D, N in zip(degrees, grid, strict=True)]
    for i, h in enumerate(axes.image_size or ()):
        exact = -(-(h if axes.circular else h + axes.taps[i] - 1) // axes.stride[i])
        if grid[i] >= exact:
            grid[i], factors[i] = exact, 1.0
    return tuple(grid), prod(factors)


def _transform(
    P: Float[Array, "groups out channels *taps"], grid: tuple[int, ...], *, half: bool = False
) -> Complex[Array, "groups *frequencies out channels"]:
    """Fourier transform of a kernel on a grid, wrapped if the grid is smaller; `half` leaves out conjugates."""
    xp = namespace(P)
    transform = xp.fft.rfftn if half else xp.fft.fftn
    return xp.moveaxis(transform(wrap(P, grid), grid, tuple(range(3, P.ndim))), (1, 2), (-2, -1))


def _frobenius(M: Complex[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Frobenius norm, with gradient 0 instead of NaN at a zero matrix."""
    square = (M.real * M.real + M.imag * M.imag).sum((-2, -1))
    return _nonzero(square) ** 0.5 * (square != 0)


def _nonzero(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`x` with every 0 replaced by 1, to divide by."""
    return x + (x == 0)
