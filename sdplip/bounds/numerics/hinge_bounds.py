r"""Best multipliers of many patterns of hinges at once, in floating point: what rule `patterns` proves of a bounded leaf.

For each pattern $\min \kappa$ such that $M(\lambda, \kappa) = \kappa E_x + \sum_i \lambda_i v_i (v_i - y_i) - F^\top F \succeq 0$ over its open hinges,
by Newton's method for $t \kappa - \log\det M - \sum_i \log \lambda_i$ with growing t. M depends on $\lambda_i$ through a matrix of rank 2, so that
the Hessian is made of the entries of $Q M^{-1} Q^\top$, Q with the rows $v_i$ and $y_i$. A pattern is left as soon as its $\kappa$ is at most the
target, or is sure to stay above. Every iterate is feasible, so whatever is left is a bound.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sdplip.kernel.hinges import Hinges, Patterns, depths, open_first
from sdplip.shapes import Bool, Float, Int

Vector = Float[np.ndarray, " batch"]
Matrices = Float[np.ndarray, "batch m k"]
Multipliers = Float[np.ndarray, "batch hinges"]
GROWTH = 8.0
"""Of t, each time a pattern is near the central path."""
START = 0.03
"""Part of kappa that is at most left to gain where the path begins, which is where another pattern was left that stays above the target."""
NEAR = 0.7
"""Newton's decrement at which it is."""


@dataclass(frozen=True, eq=False)
class Plain:
    """Hinges without their errors."""

    inputs: int
    y: Float[np.ndarray, "hinges columns"]
    out: Float[np.ndarray, "outputs columns"]
    layers: tuple[Int[np.ndarray, " some"], ...]

    @staticmethod
    def of(hinges: Hinges) -> "Plain":
        """The middle of hinges."""
        return Plain(hinges.inputs, hinges.y.mid, hinges.out.mid, hinges.layers)

    @property
    def order(self) -> int:
        """Number of hinges."""
        return len(self.y)

    @cached_property
    def depth(self) -> Int[np.ndarray, " hinges"]:
        """The layer of each hinge."""
        return depths(self.layers)

    def reduced(self, patterns: Patterns) -> tuple[Matrices, Matrices]:
        """`y` and `out` of each pattern, as `kernel.hinges.reduced` has them."""
        n, columns, count = self.inputs, self.y.shape[1], len(patterns)
        V = np.broadcast_to(np.eye(columns), (count, columns, columns)).copy()
        y = np.zeros((count, self.order, columns))
        for layer in self.layers:
            found = self.y[layer] @ V
            y[:, layer] = found
            side = patterns[:, layer, None]
            V[:, n + layer] = np.where(side == 1, found, np.where(side == 0, 0.0, V[:, n + layer]))
        return y, self.out @ V

    def jacobian_norms(self, patterns: Patterns) -> Vector:
        """The norms of the Jacobians of complete patterns."""
        n, V = self.inputs, np.zeros((len(patterns), self.y.shape[1] - 1, self.inputs))
        V[:, :n] = np.eye(n)
        for layer in self.layers:
            V[:, n + layer] = (self.y[layer, :-1] @ V) * (patterns[:, layer, None] == 1)
        return np.linalg.norm(self.out[:, :-1] @ V, 2, axis=(1, 2))

    def pattern_at(self, x: Float[np.ndarray, "points inputs"]) -> Patterns:
        """The side of every hinge at points; 1 at a kink."""
        values = np.concatenate([x, np.zeros((len(x), self.order)), np.ones((len(x), 1))], 1)
        found = np.zeros((len(x), self.order), np.int8)
        for layer in self.layers:
            y = values @ self.y[layer].T
            found[:, layer] = y >= 0
            values[:, self.inputs + layer] = np.maximum(y, 0.0)
        return found


@dataclass(eq=False)
class Batch:
    """Patterns with their rows, multipliers and bounds; of the hinges those that are open, and decided ones in pattern of fewer.

    Attributes:
        at: numbers of these hinges.
        y, out: of each pattern, without the constant.
        open: which of them are not decided.
        lam, kappa: feasible.
    """

    at: Int[np.ndarray, "batch hinges"]
    y: Matrices
    out: Matrices
    open: Bool[np.ndarray, "batch hinges"]
    lam: Multipliers
    kappa: Vector

    @staticmethod
    def of(plain: Plain, patterns: Patterns, lam: Multipliers, kappa: Vector) -> "Batch":
        """Patterns, with multipliers and bounds that are feasible for them."""
        y, out = plain.reduced(patterns)
        at, columns = open_first(plain.inputs, patterns)
        y = np.take_along_axis(np.take_along_axis(y, at[:, :, None], 1), columns[:, None], 2)
        open_ = np.take_along_axis(patterns, at, 1) < 0
        lam = np.where(open_, np.take_along_axis(lam, at, 1), 1.0)
        return Batch(at, y, np.take_along_axis(out, columns[:, None], 2), open_, lam, kappa.copy())

    def __getitem__(self, k: Int[np.ndarray, " some"]) -> "Batch":
        return Batch(self.at[k], self.y[k], self.out[k], self.open[k], self.lam[k], self.kappa[k])

    def spread(self, values: Multipliers, order: int, rest: float) -> Multipliers:
        """Values of these hinges as values of all, `rest` elsewhere."""
        found = np.full((len(values), order), rest)
        np.put_along_axis(found, self.at, np.where(self.open, values, rest), 1)
        return found

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of inputs and of these hinges."""
        return self.y.shape[2] - self.y.shape[1], self.y.shape[1]

    def matrices(self, lam: Multipliers, kappa: Vector) -> Matrices:
        """M, 1 on the diagonal of decided hinges."""
        n, N = self.sizes
        M = -(self.out.mT @ self.out)
        side = self.y * (np.where(self.open, lam, 0.0) / 2)[:, :, None]
        M[:, n:] -= side
        M[:, :, n:] -= side.mT
        i, j = np.arange(n), np.arange(n, n + N)
        M[:, i, i] += kappa[:, None]
        M[:, j, j] += np.where(self.open, lam, 1.0)
        return M


def feasible_start(plain: Plain) -> tuple[Multipliers, Vector]:
    """Multipliers and a bound for the pattern that decides nothing: the earlier a layer, the larger, as much as is needed."""
    depth, last = plain.depth, len(plain.layers) - 1
    base = 2 * max(float(np.linalg.norm(plain.out[:, :-1], 2)) ** 2, 1e-200)
    nothing = np.full((1, plain.order), -1, np.int8)
    for power in range(1, 500):
        r = 2.0**power
        lam, kappa = base * r ** (last - depth)[None].astype(float), np.array([base * r ** (last + 1.0)])
        if not np.isfinite(kappa[0]):
            break
        batch = Batch.of(plain, nothing, lam, kappa)
        if _feasible(batch.matrices(lam, kappa))[0]:
            return lam, kappa
    raise np.linalg.LinAlgError("no multipliers in the range of doubles are feasible")


@np.errstate(all="ignore")
def improve(batch: Batch, target: float, *, gap: float = 1e-4, steps: int = 60) -> None:
    """Lowers the bounds of a batch until each is at most `target`, or is within `gap` of the best or sure to stay above `target`."""
    n, _ = batch.sizes
    weight = n + 2.0 * batch.open.sum(1)
    t, active = weight / (START * batch.kappa), np.arange(len(batch.kappa))
    for _ in range(steps):
        if not len(active):
            return
        step, decrement = _newton(batch[active], t[active])
        _move(batch, active, step, decrement)
        near, rest = decrement < NEAR, weight[active] / t[active]
        kappa = batch.kappa[active]
        done = (kappa <= target) | ~np.isfinite(decrement)
        done |= near & (
            ((kappa - 1.5 * rest > target) & (rest < 1.01 * START * kappa)) | (rest < gap * kappa)
        )
        t[active[near & ~done]] *= GROWTH
        active = active[~done]


def moments(batch: Batch, order: int) -> tuple[Multipliers, Multipliers]:
    r"""Of each open hinge the score $\lambda_i \sqrt{E v_i^2\, E (y_i - v_i)^2}$ in the moments $M^{-1}$, 0 where it takes one side only, and
    the slope $E v_i y_i / E y_i^2$ that it has there; -1 and 0 of decided ones."""
    n, N = batch.sizes
    P = _inverse(batch.matrices(batch.lam, batch.kappa))
    yP = batch.y @ P
    i = np.arange(N)
    vv, vy, yy = P[:, n + i, n + i], yP[:, i, n + i], (yP * batch.y).sum(2)
    score = batch.lam * np.sqrt(np.maximum(vv * (vv - 2 * vy + yy), 0.0))
    slope = vy / np.maximum(yy, 1e-300)
    return batch.spread(score, order, -1.0), batch.spread(slope, order, 0.0)


def _newton(batch: Batch, t: Vector) -> tuple[Float[np.ndarray, "batch unknowns"], Vector]:
    """The step in kappa and multipliers, and Newton's decrement."""
    n, N = batch.sizes
    P, i = _inverse(batch.matrices(batch.lam, batch.kappa)), np.arange(N)
    v = np.where(batch.open[:, :, None], np.eye(N, n + N, n), 0.0)
    y = np.where(batch.open[:, :, None], batch.y, 0.0)
    vP, yP = v @ P, y @ P
    a, b, d = vP @ v.mT, vP @ y.mT, yP @ y.mT
    c = b.mT
    H = _hessian(a, b, c, d)
    H[:, i, i] += np.where(batch.open, 1 / batch.lam**2, 1.0)
    scale = np.concatenate([batch.kappa[:, None], batch.lam], 1)
    whole, g = np.zeros((len(t), N + 1, N + 1)), np.zeros((len(t), N + 1))
    whole[:, 1:, 1:] = H
    vx, yx = vP[:, :, :n], yP[:, :, :n]
    whole[:, 0, 1:] = whole[:, 1:, 0] = (vx * vx).sum(2) - (vx * yx).sum(2)
    whole[:, 0, 0] = (P[:, :n, :n] ** 2).sum((1, 2))
    g[:, 0] = t - np.einsum("bii->b", P[:, :n, :n])
    g[:, 1:] = np.where(batch.open, b[:, i, i] - a[:, i, i] - 1 / batch.lam, 0.0)
    whole *= scale[:, :, None] * scale[:, None]
    g *= scale
    j = np.arange(N + 1)
    whole[:, j, j] *= 1 + 1e-13
    try:
        step = -np.linalg.solve(whole, g[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:
        step = -np.stack([np.linalg.lstsq(A, r)[0] for A, r in zip(whole, g, strict=True)])
    return step * scale, np.sqrt(np.maximum(-(g * step).sum(1), 0.0))


def _hessian(a: Matrices, b: Matrices, c: Matrices, d: Matrices) -> Matrices:
    r"""$\mathrm{tr}(A_i P A_j P)$ for $A_i = v_i v_i^\top - (v_i y_i^\top + y_i v_i^\top) / 2$, from the entries of $Q P Q^\top$."""
    p, q, r = a - c / 2, b - d / 2, -a / 2
    s = -b / 2
    return (p - q / 2) * a - p / 2 * b + (r - s / 2) * c - r / 2 * d


def _move(batch: Batch, active: Int[np.ndarray, " some"], step: np.ndarray, decrement: Vector) -> None:
    """Goes along the steps as far as all stays feasible."""
    length = np.where(decrement > 0.5, 1.6 / (1 + decrement), 1.0)
    length = np.where(np.isfinite(length), np.minimum(length, 1.0), 0.0)
    step = np.where(np.isfinite(step), step, 0.0)
    todo = np.arange(len(active))
    for _ in range(30):
        at = active[todo]
        kappa = batch.kappa[at] + length[todo] * step[todo, 0]
        lam = batch.lam[at] + length[todo, None] * np.where(batch.open[at], step[todo, 1:], 0.0)
        good = (kappa > 0) & (lam > 0).all(1)
        k = np.flatnonzero(good)
        if len(k):
            good[k] = _feasible(batch[at[k]].matrices(lam[k], kappa[k]))
        batch.kappa[at[good]], batch.lam[at[good]] = kappa[good], lam[good]
        todo = todo[~good]
        if not len(todo):
            return
        length[todo] /= 2


def _feasible(M: Matrices) -> Bool[np.ndarray, " batch"]:
    """Which have a Cholesky factor."""
    try:
        np.linalg.cholesky(M)
        return np.ones(len(M), bool)
    except np.linalg.LinAlgError:
        if len(M) == 1:
            return np.zeros(1, bool)
        half = len(M) // 2
        return np.concatenate([_feasible(M[:half]), _feasible(M[half:])])


def _inverse(M: Matrices) -> Matrices:
    try:
        return np.linalg.inv(M)
    except np.linalg.LinAlgError:
        return np.stack([np.linalg.pinv(A) for A in M])
