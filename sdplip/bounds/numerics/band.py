r"""The best multiplier of every neuron of a convolutional network, without its unrolled matrices: a barrier method on a band.

Minimise $\tau / \mu - \log\det M(\lambda, \tau)$ over the multipliers and $\tau = L^2$, M of `kernel.strip` with the corner
$\tau I$, for a decreasing $\mu$. In the logarithms of the variables, by L-BFGS. A step costs a factorization of the band and the
blocks of $M^{-1}$ on it: $\sum n_b^3$ over the rows of the image, where the dense inequality costs $(\sum n_b)^3$. All points are
feasible, so each is a bound; the last is $\mu N$ above the optimum at most, N the order, and usually much nearer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from sdplip.bounds.numerics.lbfgs import Point, lbfgs
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal
from sdplip.kernel.strip import Band, Placed
from sdplip.network import Convolution, chain
from sdplip.proposals.norm import propose_norm

LARGEST = 4e9
"""Sum of the cubes of the blocks up to which a band is tried: a step takes a second or two there."""
WORK = 1.5e13
"""Floating-point operations after which the search ends: about ten minutes on one core."""
STEPS = 400
"""Most steps at one mu."""
GAP = 1e-3
"""Relative gap of L^2 that the last mu stands for, at most."""

Vector = np.ndarray


def cubes(band: Placed) -> float:
    """What a factorization costs: the sum of the cubes of the blocks."""
    return float(sum(n**3 for n in band.sizes))


def best_multipliers(band: Placed, task: Task) -> tuple[list[Vector], float]:
    """Multipliers and tau, strictly feasible, and near the best unless `WORK` is done before."""
    x, order = _start(band), sum(band.sizes) + (0 if band.strip.head is None else len(band.strip.head))
    left = max(60, int(WORK / (12 * cubes(band))))
    mu, steps = 10 * float(np.exp(x[-1])) / order, 0
    while left > 0:
        barrier = Barrier(band, mu)
        here = barrier(x)
        if here is None:
            raise NotProvable(
                "The first multipliers of the band are not feasible. Rescale the kernels by powers of two."
            )
        for point in lbfgs(barrier, here, min(left, STEPS), 1e-4):
            x, left, steps = point.x, left - 1, steps + 1
            tau = float(np.exp(x[-1]))
            if not task.goes_on(steps, tau**0.5, max(tau - order * mu, 0.0) ** 0.5):
                return split(band, x)
        if order * mu < GAP * np.exp(x[-1]):
            break
        left, mu = left - 1, mu / 4
    return split(band, x)


def _start(band: Placed) -> Vector:
    """Equal multipliers in each layer, by the recursion of norms, and half as much again as the tau that goes with them."""
    strip, x, found = band.strip, 1.0, list[Vector]()
    for layer, beta, n in zip(strip.layers, strip.slopes, strip.neurons(), strict=True):
        x = x / max(beta * _norm(layer), 1e-100) ** 2
        found.append(np.full(n, np.log(x)))
    last, head = strip.last, strip.head
    if last is not None:
        end = _norm(last)
    else:
        assert head is not None
        end = np.linalg.norm(head.mid, 2)
    return np.concatenate([*found, [np.log(1.5 * max(float(end), 1e-100) ** 2 / x)]])


def worths(band: Placed, lams: list[Vector], tau: float) -> Iterator[np.ndarray]:
    """What the strip may be worth with these multipliers, ever a little more."""
    rooms = (1e-10, 1e-8, 1e-6, 1e-4, 1e-2)
    head = band.strip.head
    if head is None:
        yield from (np.array([[tau**0.5 * (1 + room)]]) for room in rooms)
        return
    T = shadow(band.matrix(lams, tau * np.eye(len(head))))
    if T is None:
        return
    T, size = (T + T.T) / 2, float(np.trace(T))
    for room in rooms:
        yield np.linalg.cholesky(T + room * size * np.eye(len(head)))


@dataclass(frozen=True, eq=False)
class Barrier:
    """The function of one mu."""

    band: Placed
    mu: float

    def __call__(self, x: Vector) -> Point | None:
        """None where the point is not feasible."""
        band = self.band
        m = 1 if band.strip.head is None else len(band.strip.head)
        lams, tau = split(band, x)
        found = selected_inverse(band.matrix(lams, tau * np.eye(m)))
        if found is None:
            return None
        P, logdet = found
        value = tau / self.mu - logdet
        return Point(x, value, self._gradient(lams, tau, P))

    def _gradient(self, lams: list[Vector], tau: float, P: Band) -> Vector:
        band, strip = self.band, self.band.strip
        g = [np.zeros((len(p), band.width(k))) for k, p in enumerate(band.place)]
        for k, places in enumerate(band.place):
            n = band.width(k)
            for r, (block, at) in enumerate(places):
                g[k][r] += P.diagonal[block].diagonal()[at : at + n]
        output = len(band.place) - 1 if strip.last is not None else -1
        inner = [np.zeros_like(v) for v in g]
        for k, r, at, W in band.couplings():
            if k != output:
                (a, i), (b, j) = band.place[k][r], band.place[k - 1][at]
                inner[k][r] += (W * block_of(P, a, slice(i, i + len(W)), b, slice(j, j + W.shape[1]))).sum(1)
        pieces = []
        for k, lam in enumerate(lams, 1):
            by_row = 2 * (g[k] - strip.slopes[k - 1] * inner[k])
            pieces.append(-lam * from_rows(band, by_row, k))
        trace = g[output].sum() if strip.last is not None else np.trace(P.corner)
        pieces.append(np.array([tau * (1 / self.mu - trace)]))
        return np.concatenate(pieces)


def block_of(P: Band, a: int, rows: slice, b: int, columns: slice) -> np.ndarray:
    """Rows of block a and columns of block b, which are the same or neighbours."""
    if a == b:
        return P.diagonal[a][rows, columns]
    return P.lower[b][rows, columns] if a > b else P.lower[a][columns, rows].T


def from_rows(band: Placed, v: np.ndarray, layer: int) -> Vector:
    """The inverse of `Placed.by_rows`."""
    op = band.strip.every[layer - 1]
    K, out = op.K, op.output_size
    return np.moveaxis(v.reshape(out[0], len(K), -1), 0, 1).reshape(-1)


def split(band: Placed, x: Vector) -> tuple[list[Vector], float]:
    """Multipliers of each layer, and tau."""
    sizes = band.strip.neurons()
    return list(np.split(np.exp(x[:-1]), np.cumsum(sizes)[:-1])), float(np.exp(x[-1]))


def selected_inverse(A: Band) -> tuple[Band, float] | None:
    """The blocks of the inverse where A has blocks, and log det A; None where A is not positive definite."""
    n, m = len(A.diagonal), len(A.corner)
    factors, sides, corner, logdet = [], [], A.corner.copy(), 0.0
    D, F = A.diagonal[0], A.border[0]
    try:
        for k in range(n):
            L = cholesky(D, lower=True, check_finite=False)
            logdet += 2 * float(np.log(L.diagonal()).sum())
            below = np.concatenate([A.lower[k], F]) if k + 1 < n else F
            X = solve_triangular(L, below.T, lower=True, check_finite=False).T
            cut = len(below) - m
            corner -= X[cut:] @ X[cut:].T
            if k + 1 < n:
                D = A.diagonal[k + 1] - X[:cut] @ X[:cut].T
                F = A.border[k + 1] - X[cut:] @ X[:cut].T
            factors.append(L)
            sides.append(X)
        last = cholesky(corner, lower=True, check_finite=False)
    except (LinAlgError, ValueError):
        return None
    logdet += 2 * float(np.log(last.diagonal()).sum())
    eye = np.eye(m)
    P = Band.zeros(tuple(map(len, A.diagonal)), m)
    P.corner[:] = cho_solve((last, True), eye, check_finite=False) if m else 0.0
    outer = P.corner  # of the next block and the border
    for k in reversed(range(n)):
        L, X = factors[k], sides[k]
        G = solve_triangular(L, X.T, lower=True, trans=1, check_finite=False).T  # X L^-1
        S = -outer @ G
        inverse = cho_solve((L, True), np.eye(len(L)), check_finite=False) - G.T @ S
        cut = len(X) - m
        P.diagonal[k][:] = (inverse + inverse.T) / 2
        P.border[k][:] = S[cut:]
        if k + 1 < n:
            P.lower[k][:] = S[:cut]
        outer = np.block([[P.diagonal[k], S[cut:].T], [S[cut:], P.corner]])
    return P, logdet


def shadow(A: Band) -> np.ndarray | None:
    """$F S^{-1} F^\\top$ of a band with a border; None where S is not positive definite."""
    m = len(A.corner)
    T, D, F = np.zeros((m, m)), A.diagonal[0], A.border[0]
    try:
        for k in range(len(A.diagonal)):
            L = cholesky(D, lower=True, check_finite=False)
            below = np.concatenate([A.lower[k], F]) if k + 1 < len(A.diagonal) else F
            X = solve_triangular(L, below.T, lower=True, check_finite=False).T
            cut = len(below) - m
            T += X[cut:] @ X[cut:].T
            if k + 1 < len(A.diagonal):
                D = A.diagonal[k + 1] - X[:cut] @ X[:cut].T
                F = A.border[k + 1] - X[cut:] @ X[:cut].T
    except (LinAlgError, ValueError):
        return None
    return T


def _norm(layer: Convolution) -> float:
    network = chain([layer])
    return conclude(Goal(network), propose_norm(network))
