r"""A convolution seen frequency by frequency: its matrix-valued symbol, and the largest singular value of all of them."""

from dataclasses import replace
from math import cos, pi, prod

import numpy as np
from jaxtyping import Complex, Float, Int

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
    P, grid = polyphase(K, axes), axes.period or ()
    xp = namespace(P)
    transform = xp.fft.fftn(wrap(P, grid), grid, tuple(range(3, P.ndim)))
    return xp.moveaxis(transform, (1, 2), (-2, -1)).conj()


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

    Gram iteration at the frequencies of a grid, times the factor of `frequency_grid` for those in between. Only the frequency
    with the largest bound is differentiated: the gradient of a maximum.
    """
    axes = layout(K, geometry).stationary
    P = polyphase(K, axes)
    grid, factor = frequency_grid(tuple(P.shape[3:]), axes, samples)
    cosine, sine = _waves(P, grid)
    fixed = P if isinstance(P, np.ndarray) else P.detach()
    worst = _worst_frequency(*_at(fixed, cosine, sine), iterations)[:, None]
    X, Y = _at(P, cosine[worst], sine[worst])
    return _gram_iteration(X[:, 0], Y[:, 0], iterations) * factor


def _waves(
    P: Float[Array, "groups out channels *taps"], grid: tuple[int, ...]
) -> tuple[Float[Array, "frequencies taps"], Float[Array, "frequencies taps"]]:
    r"""$\cos \omega\tau$ and $\sin \omega\tau$ on half of the grid: $G(-\omega)$ is the conjugate of $G(\omega)$."""
    half = (*grid[:-1], grid[-1] // 2 + 1)
    frequencies = np.indices(half).reshape(len(grid), -1).T / grid
    angles = 2 * np.pi * frequencies @ np.indices(P.shape[3:]).reshape(len(grid), -1)
    if isinstance(P, np.ndarray):
        return np.cos(angles).astype(P.dtype), np.sin(angles).astype(P.dtype)
    return P.new_tensor(np.cos(angles)), P.new_tensor(np.sin(angles))


def _at(
    P: Float[Array, "groups out channels *taps"],
    cosine: Float[Array, "*groups frequencies taps"],
    sine: Float[Array, "*groups frequencies taps"],
) -> tuple[Float[Array, "groups frequencies out channels"], Float[Array, "groups frequencies out channels"]]:
    r"""Real and imaginary part of the symbol $\sum_\tau K_\tau e^{i\omega\tau}$ at some frequencies."""
    flat = P.reshape(P.shape[0], -1, cosine.shape[-1]).mT
    shape = (P.shape[0], -1, *P.shape[1:3])
    return (cosine @ flat).reshape(shape), (sine @ flat).reshape(shape)


def _gram_iteration(
    X: Float[Array, "groups m n"], Y: Float[Array, "groups m n"], iterations: int
) -> Float[Array, " groups"]:
    r"""$\lVert G^p \rVert_F^{1/p} \ge \lambda_{\max}(G)$ of $G = C^* C$, $p = 2^k$, $k$ = `iterations` (Delattre et al. 2023)."""
    A, B = _gram(X, Y)
    upper = _nonzero(_frobenius(A, B))
    A, B = A / upper[:, None, None], B / upper[:, None, None]
    for k in range(1, iterations + 1):
        A, B, upper = _squared(A, B, upper, k)
    return upper


def _worst_frequency(
    X: Float[Array, "groups frequencies m n"], Y: Float[Array, "groups frequencies m n"], iterations: int
) -> Int[Array, " groups"]:
    r"""Index of the frequency with the largest bound of `_gram_iteration`, one a group.

    Frequencies that cannot be the largest are left out as soon as
    $(\lVert G^p \rVert_F^2 / \mathrm{tr}\, G^p)^{1/p} \le \lambda_{\max} \le \lVert G^p \rVert_F^{1/p}$ shows it.
    """
    xp = namespace(X)
    A, B = _gram(X, Y)
    scale = _nonzero(xp.amax(_frobenius(A, B), -1))[:, None, None, None]  # squares must not overflow
    A, B = A / scale, B / scale
    upper = _frobenius(A, B)
    A, B = A / _nonzero(upper)[..., None, None], B / _nonzero(upper)[..., None, None]
    left = xp.arange(X.shape[1])
    for k in range(1, iterations + 1):
        A, B, upper = _squared(A, B, upper, k)
        diagonal = range(A.shape[-1])
        lower = upper * _nonzero(A[..., diagonal, diagonal].sum(-1)) ** -(0.5**k)
        keep = (upper >= 0.999 * xp.amax(lower, -1)[:, None]).any(
            0
        )  # room for the rounding of single precision
        if not keep.all():
            A, B, upper, left = A[:, keep], B[:, keep], upper[:, keep], left[keep]
    return left[xp.argmax(upper, -1)]


def _gram(
    X: Float[Array, "*batch m n"], Y: Float[Array, "*batch m n"]
) -> tuple[Float[Array, "*batch k k"], Float[Array, "*batch k k"]]:
    """Real and imaginary part of $C^* C$ of $C = X + iY$, or of $C C^*$ if that is smaller; real products are half the work."""
    if X.shape[-1] > X.shape[-2]:
        X, Y = X.mT, -Y.mT
    cross = X.mT @ Y
    return X.mT @ X + Y.mT @ Y, cross - cross.mT


def _squared(
    A: Float[Array, "*batch n n"], B: Float[Array, "*batch n n"], upper: Float[Array, "*batch"], k: int
) -> tuple[Float[Array, "*batch n n"], Float[Array, "*batch n n"], Float[Array, "*batch"]]:
    """Step k of Gram iteration: $(A + iB)^2$ over its norm, and the bound. $A$ is symmetric and $B$ skew, so $BA = -(AB)^T$."""
    cross = A @ B
    A, B = A @ A - B @ B, cross - cross.mT
    norm = _nonzero(_frobenius(A, B))
    return A / norm[..., None, None], B / norm[..., None, None], upper * norm ** (0.5**k)


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


def _frobenius(A: Float[Array, "*batch n n"], B: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Frobenius norm of $A + iB$, with gradient 0 instead of NaN at a zero matrix."""
    square = (A * A).sum((-2, -1)) + (B * B).sum((-2, -1))
    return _nonzero(square) ** 0.5 * (square != 0)


def _nonzero(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`x` with every 0 replaced by 1, to divide by."""
    return x + (x == 0)
