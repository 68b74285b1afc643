r"""The largest singular value of a convolution from above: Gram iteration at the frequencies of a grid."""

from collections.abc import Callable
from functools import lru_cache
from math import cos, pi, prod
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.kernels import correlate, namespace, on_cpu, polyphase
from sdplip.convolution.layout import Layout, layout
from sdplip.geometry import Geometry

# Note [Hartley]. A Hermitian matrix H = A + iB has a symmetric A and a skew B, so the real matrix S = A + B holds both. Then
# |H|_F = |S|_F, tr HN = sum(S * S_N), H^2 belongs to S^2 - (S - S')^2 / 2, and H N = N H to A S_N + B S_N'. The symbol of the
# Gram operator with kernel A_d is S(w) = sum_d A_d (cos wd + sin wd). Two real products a squaring, where complex ones are four.

Waves = Float[Array, "groups taps"]
Found = tuple[Float[Array, " groups"], Float[Array, "groups n n"], Waves, Waves]
Search = Callable[[Float[Array, "groups m n *taps"], tuple[int, ...], int], Found]
"""`(P, grid, iterations)` to the largest bound in each group, the matrix that its gradient is parallel to, and the cosines and
sines of the taps at its frequency."""

FEW = 3
"""Squarings after which the bounds of most frequencies lie below the last bound of the worst."""

BLOCK = 2**16
"""Entries of the matrices that a processor with caches squares at a time."""


def largest_eigenvalue(
    K: Float[Array, "out channels *taps"],
    geometry: Geometry,
    *,
    iterations: int,
    samples: int,
    search: Search | None = None,
) -> Float[Array, " groups"]:
    r"""Upper bound of $\lambda_{\max}(C^\top C)$ in each group of channels, on every image that `geometry` allows.

    Gram iteration at the frequencies of a grid, times the factor of `frequency_grid` for those in between. Only the frequency
    with the largest bound is differentiated: the gradient of a maximum. `search` finds it, `worst_frequency` by default.
    """
    axes = layout(K, geometry).stationary
    P = polyphase(K, axes)
    if P.shape[2] > P.shape[1]:
        P = P.swapaxes(
            1, 2
        )  # the adjoint at the opposite frequency: the same norm, and a smaller Gram matrix
    grid, factor = frequency_grid(tuple(P.shape[3:]), axes, samples)
    if isinstance(P, np.ndarray):
        return worst_frequency(P, grid, iterations)[0] * factor
    bound, power, cosine, sine = (search or worst_frequency)(P.detach(), grid, iterations)
    slope = (power * _gram_at(P, cosine, sine)).sum((-2, -1))
    fixed = slope.detach()
    return (bound + bound / nonzero(fixed) * (slope - fixed)) * factor


def worst_frequency(P: Float[Array, "groups m n *taps"], grid: tuple[int, ...], iterations: int) -> Found:
    r"""The largest of the bounds $\lVert G^p \rVert_F^{1/p} \ge \lambda_{\max}(G)$, $p = 2^k$, $k$ = `iterations`, over the
    frequencies of a grid (Delattre et al. 2023), with $G^{2p-1}$, to which its gradient is parallel, and the waves there.

    Bounds fall with $k$: the frequency that is worst after a `FEW` squarings is finished first, and of the others only those
    whose early bound lies above its last one.
    """
    xp, groups, n = namespace(P), P.shape[0], P.shape[2]
    A = correlate(P.swapaxes(1, 2), P.swapaxes(1, 2))
    cosine, sine = _waves(P, tuple(A.shape[3:]), tuple(1 - k for k in P.shape[3:]), grid)
    cas, A = cosine + sine, A.reshape(groups, n, n, -1)
    A = xp.stack([A[..., offset] for offset in range(A.shape[-1])], 1)
    first = min(FEW, iterations)
    blocks = [_squarings(*_symbols(A, waves), 0, first) for waves in _split(cas, A)]
    upper = xp.concatenate([upper for _, upper in blocks], 1)
    worst = xp.argmax(upper, -1)
    if first < iterations:
        last = _squarings(*_symbols(A, cas[worst][:, None]), 0, iterations)[1]
        upper = xp.concatenate([_finished(*block, last, first, iterations) for block in blocks], 1)
        worst = xp.argmax(upper, -1)
    bound, power = xp.amax(upper, -1), _power(_symbols(A, cas[worst][:, None])[0][:, 0], iterations)
    cosine, sine = _waves(P, tuple(P.shape[3:]), (0,) * len(grid), grid)
    return bound + (bound == 0), power, cosine[worst], sine[worst]


def _symbols(
    A: Float[Array, "groups offsets n n"], cas: Float[Array, "*groups frequencies offsets"]
) -> tuple[Float[Array, "groups frequencies n n"], Float[Array, "groups frequencies"]]:
    """The Gram operator at some frequencies as in Note [Hartley], divided by the Frobenius norm, and that norm."""
    groups, n = A.shape[0], A.shape[-1]
    S = (cas @ A.reshape(groups, -1, n * n)).reshape(groups, -1, n, n)
    norm = _frobenius(S)
    S /= nonzero(norm)[..., None, None]  # in place, here and below: fresh memory costs as much as a product
    return S, norm


def _squarings(
    S: Float[Array, "groups frequencies n n"],
    upper: Float[Array, "groups frequencies"],
    done: int,
    iterations: int,
) -> tuple[Float[Array, "groups frequencies n n"], Float[Array, "groups frequencies"]]:
    r"""$G^p$ over its norm, and the bound, after `iterations` squarings of which some are `done`. It is divided by its norm now
    and then: between, $\lVert G \rVert_F = 1$ keeps $\lVert G^8 \rVert_F^2 \ge n^{-8}$ within single precision."""
    for k in range(done + 1, iterations + 1):
        S = _squared(S)
        if k % FEW == 0 or k == iterations:
            norm = nonzero(_frobenius(S))
            S /= norm[..., None, None]
            upper = upper * norm ** (0.5**k)
    return S, upper


def _finished(
    S: Float[Array, "groups frequencies n n"],
    upper: Float[Array, "groups frequencies"],
    last: Float[Array, "groups 1"],
    done: int,
    iterations: int,
) -> Float[Array, "groups frequencies"]:
    """The bounds of a block, those above `last` after all iterations; an accelerator squares all rather than wait for which."""
    if not on_cpu(S):
        return _squarings(S, upper, done, iterations)[1]
    left = (upper > last).any(0)
    if left.any():
        upper[:, left] = _squarings(S[:, left], upper[:, left], done, iterations)[1]
    return upper


def _squared(S: Float[Array, "*batch n n"]) -> Float[Array, "*batch n n"]:
    """The square of a Hermitian matrix, see Note [Hartley]."""
    M = S.reshape(-1, *S.shape[-2:])
    D = M - M.mT
    M = M @ M - D @ D / 2 if isinstance(M, np.ndarray) else (M @ M).baddbmm_(D, D, alpha=-0.5)
    return M.reshape(S.shape)


def _power(S: Float[Array, "groups n n"], iterations: int) -> Float[Array, "groups n n"]:
    r"""$G^{2p - 1} = G \, G^2 \, G^4 \cdots G^p$ up to a factor, see Note [Hartley]."""
    product = S
    for _ in range(iterations):
        S = _squared(S)
        S = S / nonzero(_frobenius(S))[..., None, None]
        A = (product + product.mT) / 2
        product = A @ S + (product - A) @ S.mT
        product = product / nonzero(_frobenius(product))[..., None, None]
    return product


def _gram_at(P: Float[Array, "groups m n *taps"], cosine: Waves, sine: Waves) -> Float[Array, "groups n n"]:
    """The matrix of `_symbols` at one frequency a group, from the kernel itself and not divided by its norm."""
    flat = P.reshape(*P.shape[:3], -1)
    X, Y = ((flat @ wave[:, None, :, None])[..., 0] for wave in (cosine, sine))
    both = X + Y
    return both.mT @ both - 2 * X.mT @ Y


def _angles(
    taps: tuple[int, ...], start: tuple[int, ...], grid: tuple[int, ...]
) -> Float[np.ndarray, "frequencies taps"]:
    r"""$\omega\tau$ of taps from `start` on, at one frequency of each conjugate pair of the grid."""
    index = np.indices(grid).reshape(len(grid), -1)
    opposite = -index % np.array(grid)[:, None]
    one = np.ravel_multi_index(tuple(index), grid) <= np.ravel_multi_index(tuple(opposite), grid)
    places = np.indices(taps).reshape(len(grid), -1) + np.array(start)[:, None]
    return 2 * pi * (index[:, one].T / grid) @ places


def _split(
    cas: Float[Array, "frequencies offsets"], A: Float[Array, "groups offsets n n"]
) -> list[Float[Array, "block offsets"]]:
    """Blocks of frequencies whose matrices fit into caches; all of them at once on an accelerator."""
    size = max(1, BLOCK // (A.shape[0] * A.shape[-1] ** 2)) if on_cpu(A) else len(cas)
    return [cas[start : start + size] for start in range(0, len(cas), size)]


def _waves(
    P: Array, taps: tuple[int, ...], start: tuple[int, ...], grid: tuple[int, ...]
) -> tuple[Float[Array, "frequencies taps"], Float[Array, "frequencies taps"]]:
    """Cosines and sines of `_angles` in the type of `P`."""
    if isinstance(P, np.ndarray):
        angles = _angles(taps, start, grid)
        return np.cos(angles).astype(P.dtype), np.sin(angles).astype(P.dtype)
    return _kept_waves(taps, start, grid, P.dtype, P.device)


@lru_cache(maxsize=64)
def _kept_waves(
    taps: tuple[int, ...], start: tuple[int, ...], grid: tuple[int, ...], dtype: Any, device: Any
) -> tuple[Float[Array, "frequencies taps"], Float[Array, "frequencies taps"]]:
    """On their device: a copy at every step would make the host wait for it."""
    import torch

    angles = _angles(taps, start, grid)
    with torch.inference_mode(False):
        cosine, sine = (torch.from_numpy(wave).to(device, dtype) for wave in (np.cos(angles), np.sin(angles)))
    return cosine, sine


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


def _frobenius(S: Float[Array, "*batch n n"]) -> Float[Array, "*batch"]:
    """Frobenius norm."""
    return (S * S).sum((-2, -1)) ** 0.5


def nonzero(x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`x` with every 0 replaced by 1, to divide by."""
    return x + (x == 0)
