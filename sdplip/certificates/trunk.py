r"""Certificates of a trunk of convolutions with stride 1: metrics that are one small matrix a frequency.

Images of every layer are put on one torus, with zeros around them. Where an image ends, the layer is followed by multiplication
by 0, which is a slope in $[0, \beta]$ like any other: so the inequality of `network.py` for the periodic network bounds the
zero-padded one, whatever its padding. With one multiplier a channel it falls apart into one for each frequency $\omega$,

    [ X_{k-1}(w)    -M_k(w)* diag(beta lambda) / 2 ]
    [     .            diag(lambda) - X_k(w)       ]  >= 0,       M_k the symbol of the kernel,

and with $\lVert z \rVert_X^2 = N^{-1} \sum_\omega \hat z^* X(\omega) \hat z$ every layer is nonexpansive. Behind the trunk stands
a matrix `head` or a last convolution; the trunk is then worth the matrix $R$ in front of what follows: $y = R v$ with
$\lVert v \rVert \le \lVert x \rVert$.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm, prod

import numpy as np
from jaxtyping import Float, Int

from sdplip.certificates.definite import proves_semidefinite
from sdplip.certificates.dense import root_above, square_below
from sdplip.certificates.metrics import slack
from sdplip.certificates.rounding import GENEROUS, TINY, gamma
from sdplip.certificates.twiddle import table

Pair = tuple[Float[np.ndarray, "f m n"], Float[np.ndarray, "f m n"]]
ROOM = 1e-9
"""Relative room in every metric: symbols may vanish at some frequencies, and their rounding does not."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """Kernels `(out, in, *taps)` with their dilations, upper slopes, the torus, and what stands behind.

    Attributes:
        kernels: of the layers with activations, first one first.
        dilations: one tuple a kernel.
        slopes: the largest slope of each layer; the smallest is 0 or more.
        torus: frequencies on each axis; not less than any image with the padding that its layer reads on one side.
        last: kernel and dilation of a convolution behind the trunk, or None.
        head: matrix `(m, channels, *pixels)` behind the trunk, or None.
    """

    kernels: tuple[np.ndarray, ...]
    dilations: tuple[tuple[int, ...], ...]
    slopes: tuple[float, ...]
    torus: tuple[int, ...]
    last: tuple[np.ndarray, tuple[int, ...]] | None = None
    head: np.ndarray | None = None

    @property
    def last_kernels(self) -> tuple[np.ndarray, ...]:
        """The kernel behind the trunk, if there is one."""
        return () if self.last is None else (self.last[0],)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def certify_trunk(trunk: Trunk, multipliers: Sequence[np.ndarray]) -> np.ndarray | None:
    """The matrix `R`, proven: square of the size of the head, `[[L]]` behind a last convolution. None if nothing was proven."""
    X = _metrics(trunk, multipliers)
    if X is None:
        return None
    if trunk.head is None:
        return _last(trunk, X, None)
    return _front(trunk, X, None)


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def trunk_holds(trunk: Trunk, multipliers: Sequence[np.ndarray], R: np.ndarray) -> bool:
    """True only if these very multipliers prove this very `R`."""
    X = _metrics(trunk, multipliers)
    if X is None:
        return False
    return (_last if trunk.head is None else _front)(trunk, X, R) is not None


def representatives(torus: tuple[int, ...]) -> tuple[Int[np.ndarray, "f axes"], Float[np.ndarray, " f"]]:
    """One frequency of each conjugate pair, and 2, or 1 where it is its own conjugate."""
    points = np.stack(np.meshgrid(*map(np.arange, torus), indexing="ij"), -1).reshape(-1, len(torus))
    own = np.ravel_multi_index(tuple(points.T), torus)
    mirror = np.ravel_multi_index(tuple((-points % torus).T), torus)
    kept = own <= mirror
    return points[kept], np.where(own == mirror, 1.0, 2.0)[kept]


def symbol(
    K: np.ndarray, dilation: tuple[int, ...], torus: tuple[int, ...], points: np.ndarray
) -> tuple[Pair, np.ndarray]:
    r"""Real and imaginary part of $\sum_q K_q e^{i \omega \cdot q}$, and a bound of the error of each."""
    taps = np.stack(np.meshgrid(*map(np.arange, K.shape[2:]), indexing="ij"), -1).reshape(-1, K.ndim - 2)
    flat = np.asarray(K, np.float64).reshape(*K.shape[:2], -1).transpose(2, 0, 1).reshape(len(taps), -1)
    size = lcm(*torus)
    cos, sin = table(size)
    steps = (points * (size // np.array(torus))) @ (taps * dilation).T % size
    shape = (len(points), *K.shape[:2])
    error = gamma(len(taps) + 4) * abs(flat).sum(0) * GENEROUS + 4 * len(taps) * TINY
    return ((cos[steps] @ flat).reshape(shape), (sin[steps] @ flat).reshape(shape)), error.reshape(
        K.shape[:2]
    )


def _metrics(trunk: Trunk, multipliers: Sequence[np.ndarray]) -> Pair | None:
    """The metric behind the trunk, every stage proven; None where a proof fails."""
    points, _ = representatives(trunk.torus)
    n = trunk.kernels[0].shape[1]
    X = np.broadcast_to(np.eye(n), (len(points), n, n)).copy(), np.zeros((len(points), n, n))
    for K, dilation, beta, lam in zip(trunk.kernels, trunk.dilations, trunk.slopes, multipliers, strict=True):
        lam = np.asarray(lam, np.float64)
        if lam.shape != K.shape[:1] or not (
            np.isfinite(lam).all() and (lam > 0).all() and 0 <= beta < np.inf
        ):
            return None
        (U, V), error = symbol(K, dilation, trunk.torus, points)
        weight = (-0.5 * beta * lam)[:, None]
        C = U * weight, V * weight
        lost = (
            abs(weight) * error * (1 + gamma(4))
            + gamma(4) * abs(weight) * (abs(U) + abs(V)).max(0)
            + 8 * TINY
        )
        S = _schur(X, C)
        if S is None:
            return None
        room = slack(2 * sum(K.shape[:2]))
        Y = -S[0] * (1 + 2 * room), -S[1] * (1 + 2 * room)
        k = range(len(lam))
        Y[0][:, k, k] = lam * (1 - ROOM) - S[0][:, k, k] * (1 + 4 * room)
        corner = -Y[0], -Y[1]
        corner[0][:, k, k] = lam - Y[0][:, k, k]
        rounded = gamma(2) * abs(corner[0][:, k, k]).max(0)
        if not _proves_blocks(X, C, corner, lost, rounded):
            return None
        X = Y
    return X


def _last(trunk: Trunk, X: Pair, R: np.ndarray | None) -> np.ndarray | None:
    assert trunk.last is not None
    K, dilation = trunk.last
    points, _ = representatives(trunk.torus)
    C, error = symbol(K, dilation, trunk.torus, points)
    m = len(K)

    def holds(kappa: float) -> bool:
        D = np.broadcast_to(kappa * np.eye(m), (len(points), m, m)).copy()
        return kappa > 0 and _proves_blocks(X, C, (D, np.zeros_like(D)), error, np.zeros(m))

    if R is not None:
        return R if R.shape == (1, 1) and holds(square_below(float(R[0, 0]), 0)) else None
    S = _schur(X, C)
    if S is None:
        return None
    room = slack(2 * sum(K.shape[:2]))
    largest = float(np.linalg.eigvalsh(S[0] + 1j * S[1]).max())
    for _ in range(12):
        kappa = largest * (1 + room)
        if np.isfinite(kappa) and holds(kappa):
            return np.array([[root_above(kappa, 0)]])
        room *= 8
    return None


def _front(trunk: Trunk, X: Pair, R: np.ndarray | None) -> np.ndarray | None:
    assert trunk.head is not None
    points, share = representatives(trunk.torus)
    C, error = symbol(trunk.head, (1,) * len(trunk.torus), trunk.torus, points)
    S = _schur(X, C)
    if S is None:
        return None
    m, count = len(trunk.head), prod(trunk.torus)
    k = range(m)
    mean = float((share[:, None] * S[0][:, k, k]).sum()) / count / m
    Y = S[0] * (1 + ROOM), S[1] * (1 + ROOM)
    Y[0][:, k, k] += 2 * ROOM * (S[0][:, k, k] + mean)
    if not _proves_blocks(X, C, Y, error, np.zeros(m)):
        return None
    T = (share[:, None, None] * Y[0]).sum(0) / count  # real vectors see the real part only
    lost = gamma(len(points) + 4) * (share[:, None, None] * abs(Y[0])).sum(0) / count * GENEROUS
    R = np.linalg.cholesky(T * (1 + ROOM) + np.diag(T.diagonal()) * ROOM) if R is None else R
    if R.shape != (m, m):
        return None
    A = R @ R.T
    lost = lost + gamma(m + 4) * (abs(R) @ abs(R).T) * GENEROUS + 4 * m * TINY
    M = A - T
    M = (M + M.T) / 2
    return R if _proves(M[None], (lost + gamma(4) * (abs(A) + abs(T)))[None]) else None


def _schur(X: Pair, C: Pair) -> Pair | None:
    r"""$C X^{-1} C^*$, exactly Hermitian; a proposal."""
    try:
        L = np.linalg.cholesky(X[0] + 1j * X[1])
    except np.linalg.LinAlgError:
        return None
    Y = np.linalg.solve(L, (C[0] + 1j * C[1]).conj().mT)
    S = Y.conj().mT @ Y
    return (S.real + S.real.mT) / 2, (S.imag - S.imag.mT) / 2


def _proves_blocks(X: Pair, C: Pair, D: Pair, error: np.ndarray, rounded: np.ndarray) -> bool:
    """True only if $[[X, C^*], [C, D]]$ is positive semidefinite at every frequency, for all C and diagonals of D that near."""
    (A, B), (U, V), (E, G) = X, C, D
    real = np.concatenate([np.concatenate([A, U.mT], -1), np.concatenate([U, E], -1)], -2)
    imaginary = np.concatenate([np.concatenate([B, -V.mT], -1), np.concatenate([V, G], -1)], -2)
    M = np.concatenate([np.concatenate([real, -imaginary], -1), np.concatenate([imaginary, real], -1)], -2)
    n, m = A.shape[-1], E.shape[-1]
    error = np.broadcast_to(error, (m, n))
    off = np.block([[np.zeros((n, n)), error.T], [error, np.zeros((m, m))]])
    own = off + np.diag(np.concatenate([np.zeros(n), rounded]))
    return _proves(M, np.block([[own, off], [off, own]])[None])


def _proves(M: Float[np.ndarray, "f n n"], R: Float[np.ndarray, "one n n"]) -> bool:
    r"""True only if every symmetric $M^*$ with $|M^* - M| \le R$ entrywise is positive semidefinite; as in `network.py`."""
    d = M.diagonal(0, -2, -1)
    if not (np.isfinite(M).all() and np.isfinite(R).all() and (d > 0).all()):
        return False
    e = -(np.frexp(d)[1] // 2)
    S = np.ldexp(M, e[:, :, None] + e[:, None, :])
    errors = np.ldexp(np.broadcast_to(R, M.shape), e[:, :, None] + e[:, None, :]).sum(-1).max(-1)
    errors = errors * GENEROUS + 4 * d.shape[-1] * TINY
    if not (np.isfinite(S).all() and np.isfinite(errors).all()):
        return False
    # One guard serves a whole batch, so frequencies of like errors go together: one of small entries would cost all others.
    levels = np.frexp(errors)[1]
    return all(
        _proves_alike(S[levels == level], float(errors[levels == level].max())) for level in np.unique(levels)
    )


def _proves_alike(S: Float[np.ndarray, "f n n"], error: float) -> bool:
    d = S.diagonal(0, -2, -1).copy()
    return proves_semidefinite(1.0, d, S, np.zeros(d.shape), error)
