r"""Multipliers of large stationary networks, and of the neurons behind them, by a barrier method with first derivatives.

Minimise $\tau / \mu - \sum \log\det$ over the logarithms of the multipliers and of $\tau = L^2$, for decreasing $\mu$: the determinants are those of
what each stage eliminates, and of $\tau I - S$ in the end. A value costs one pass over the stages (`Waves`), its gradient one pass back:
with $X' = (G M^{-1} G^*)^{-1}$ behind a stage, $dX' = H^* dM H$, $H = M^{-1} G^* X'$. All points are feasible, each is a bound.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf

import numpy as np
from jaxtyping import Complex, Float

from sdplip.bounds.numerics.lbfgs import Point, lbfgs
from sdplip.bounds.numerics.shares import Row
from sdplip.bounds.numerics.waves import Argument, Stage, Waves
from sdplip.kernel.stages import Stages

Vector = Float[np.ndarray, " p"]
Hermitian = Complex[np.ndarray, "f n n"]
FIRST, NEXT = 10.0, 0.2
"""Of the squared bound, that the first barrier costs about; and of a barrier, what the next one costs."""


@dataclass(eq=False)
class _Passed:
    """A stage on the way forward: what it eliminates, its share, and H."""

    stage: Stage
    inverse: Hermitian
    share: np.ndarray
    H: np.ndarray


@dataclass(frozen=True, eq=False)
class Barrier:
    r"""The function of one $\mu$.

    Attributes:
        waves: the stages, and the head.
        tail: stages of the dense layers behind the head, each of one frequency.
    """

    waves: Waves
    mu: float
    tail: tuple[Stage, ...] = ()
    channels: tuple[int, ...] = field(default=())

    def split(self, x: Vector) -> tuple[list[Vector], float]:
        """Multipliers of all unknowns, and tau."""
        return list(np.split(np.exp(x[:-1]), np.cumsum(self.channels)[:-1])), float(np.exp(x[-1]))

    def __call__(self, x: Vector) -> Point | None:
        """None where the point is not feasible."""
        if not np.isfinite(x).all() or abs(x).max() > 300:
            return None
        lams, tau = self.split(x)
        try:
            return self._at(x, lams, tau)
        except np.linalg.LinAlgError:
            return None

    def _at(self, x: Vector, lams: list[Vector], tau: float) -> Point | None:
        waves, logs, passed = self.waves, 0.0, list[_Passed]()
        X, S, shares, last = waves.start, None, np.ones(1), waves.head is None
        for k, stage in enumerate(waves.stages):
            X, S, log, record = _forward(stage, X, lams, last=last and k == len(waves.stages) - 1)
            logs, shares = logs + log, stage.share
            passed.append(record)
        P, T, inverse, before = None, None, X, X
        if waves.head is not None:
            L = np.linalg.cholesky(X)
            logs += 2 * float(waves.share @ np.log(np.real(np.diagonal(L, axis1=1, axis2=2))).sum(-1))
            B = np.linalg.solve(L, waves.head.conj().mT)
            P = np.linalg.solve(L.conj().mT, B)
            T = np.real(np.einsum("f,fka,fkb->ab", waves.share, B.conj(), B))
            T = (T + T.T) / 2
            before, shares, S = X, np.ones(1), T[None]
            inverse = np.linalg.inv(T)
            X = (inverse + inverse.T)[None] / 2
            for k, stage in enumerate(self.tail):
                X, S, log, record = _forward(stage, X, lams, last=k == len(self.tail) - 1)
                logs += log
                passed.append(record)
        assert S is not None
        root = np.linalg.cholesky(tau * np.eye(S.shape[-1]) - S)
        logs += 2 * float(shares @ np.log(np.real(np.diagonal(root, axis1=1, axis2=2))).sum(-1))
        gap = np.linalg.inv(tau * np.eye(S.shape[-1]) - S)
        gap = (gap + gap.conj().mT) / 2 * shares[:, None, None]
        value = tau / self.mu - logs
        if not np.isfinite(value):
            return None
        g = [np.zeros(n) for n in self.channels]
        back, final = gap, True
        for record in reversed(passed[len(waves.stages) :]):
            back = _backward(record, back, g, final=final)
            final = False
        if waves.head is not None:
            assert P is not None
            W = np.real(back[0]) if final else -np.real(inverse @ back[0] @ inverse)
            inner = np.linalg.inv(before)
            back = -(P @ W @ P.conj().mT + (inner + inner.conj().mT) / 2) * waves.share[:, None, None]
            final = False
        for record in reversed(passed[: len(waves.stages)]):
            back = _backward(record, back, g, final=final)
            final = False
        trace = float(np.real(np.trace(gap, axis1=1, axis2=2)).sum())
        gradient = np.concatenate(
            [*(lam * own for lam, own in zip(lams, g, strict=True)), [tau * (1 / self.mu - trace)]]
        )
        return Point(x, value, gradient)


def _forward(
    stage: Stage, X: Hermitian, lams: list[Vector], *, last: bool
) -> tuple[Hermitian, Hermitian | None, float, _Passed]:
    """The metric behind a stage; of the last one what is to be bounded; the logarithm of the determinant, and what the way back needs."""
    M = stage.matrix(X, lams)
    if stage.G is None:
        at = stage.arguments[-1].rows.start
        A, B = M[:, :at, :at], M[:, :at, at:]
    else:
        at, A, B = stage.order, M, stage.G.conj().mT
    L = np.linalg.cholesky(A)
    log = 2 * float(stage.share @ np.log(np.real(np.diagonal(L, axis1=1, axis2=2))).sum(-1))
    eye = np.broadcast_to(np.eye(at), (len(L), at, at))
    inverse = np.linalg.solve(L, eye)
    inverse = inverse.conj().mT @ inverse
    K = inverse @ B
    Y = B.conj().mT @ K
    Y = (Y + Y.conj().mT) / 2
    if stage.G is None:
        X = M[:, at:, at:] - Y
        n = B.shape[-1]
        H = np.concatenate([-K, np.broadcast_to(np.eye(n), (len(K), n, n))], 1)
        return X, None, log, _Passed(stage, inverse, stage.share, H)
    if last:
        return X, Y, log, _Passed(stage, inverse, stage.share, K)
    X = np.linalg.inv(Y)
    X = (X + X.conj().mT) / 2
    return X, None, log, _Passed(stage, inverse, stage.share, K @ X)


def _backward(record: _Passed, back: Hermitian, g: list[Vector], *, final: bool) -> Hermitian:
    """Derivatives by the metric in front of a stage, from those behind it; those by the multipliers are added to `g`."""
    stage, at = record.stage, record.inverse.shape[-1]
    D = record.H @ back @ record.H.conj().mT
    if final:
        D = -D
    D[:, :at, :at] -= record.inverse * record.share[:, None, None]
    for one in stage.arguments:
        r = one.rows
        own = np.real(np.diagonal(D, axis1=1, axis2=2))[:, r].sum(0)
        own = own + 2 * np.real(D[:, r, : r.start].conj() * one.W).sum((0, 2))
        g[one.which] += own.reshape(-1, one.channels).sum(0)
    aliases = stage.place.shape[1]
    n = stage.width // aliases
    found = np.zeros((stage.place.max() + 1, n, n), complex)
    for a in range(aliases):
        block = D[:, a * n : (a + 1) * n, a * n : (a + 1) * n]
        block = np.where(stage.mirrored[:, a, None, None], block.conj(), block)
        np.add.at(found, stage.place[:, a], block)
    return found


def dense_stages(parts: Stages, first: int) -> tuple[tuple[Stage, ...], tuple[int, ...]]:
    """A chain of matrices as stages of one frequency whose unknowns are counted from `first`, and their neurons."""
    found, channels, zero = list[Stage](), list[int](), np.zeros((1, 1), int)
    for k, W in enumerate(parts.weights):
        m, n = W.shape
        G, arguments = W.mid[None].astype(complex), tuple[Argument, ...]()
        if k < len(parts.slopes):
            alpha, beta = parts.slopes[k]
            below = (-0.5 * (beta - alpha))[:, None] * W.mid
            arguments = (Argument(slice(n, n + m), below[None].astype(complex), first + len(channels), m),)
            channels.append(m)
            G = (
                np.concatenate([alpha[:, None] * W.mid, np.eye(m)], 1)[None].astype(complex)
                if alpha.any()
                else None
            )
        order = n + m * bool(arguments)
        found.append(Stage(n, order, arguments, G, zero, zero > 0, np.ones(1), zero[0]))
    return tuple(found), tuple(channels)


Watch = Callable[[int, float, float], bool]
"""Called with the step, the bound and 0; False ends the descent."""


def descend(
    waves: Waves,
    start: Vector,
    tail: tuple[Stage, ...] = (),
    channels: tuple[int, ...] = (),
    *,
    goes_on: Watch = lambda *_: True,
    seconds: float = inf,
    steps: int = 1000,
    gap: float = 1e-3,
) -> Vector | None:
    """Multipliers near the optimum, strictly feasible, of channels and of the tail; `start` holds both. None: it is not feasible."""
    every, begin = (*waves.channels, *channels), time.monotonic()
    order = float(sum(stage.share.sum() * stage.order for stage in (*waves.stages, *tail)))
    least = Row(waves, tail, channels).value(start)
    if not least < inf:
        return None
    x = np.concatenate([np.log(start), [np.log(2 * least)]])
    mu, left = FIRST * 2 * least / order, steps
    while True:
        barrier = Barrier(waves, mu, tail, every)
        here = barrier(x)
        if here is None:
            break
        for point in lbfgs(barrier, here, min(left, 100), 1e-4):
            x, left = point.x, left - 1
            on = goes_on(steps - left, float(np.ldexp(np.exp(x[-1] / 2), waves.exponent)), 0.0)
            if left <= 0 or time.monotonic() - begin > seconds or not on:
                return np.exp(x[:-1])
        if order * mu < gap * np.exp(x[-1]):
            break
        mu *= NEXT
    return np.exp(x[:-1])
