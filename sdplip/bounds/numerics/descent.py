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
from sdplip.bounds.numerics.stage import Argument, Passed, Stage, backward, forward, hermitian
from sdplip.bounds.numerics.waves import Waves, mean
from sdplip.kernel.stages import Stages

Vector = Float[np.ndarray, " p"]
Hermitian = Complex[np.ndarray, "f n n"]
FIRST, NEXT = 400.0, 0.2
"""Of the squared bound, what all logarithms of the first barrier weigh, and of a barrier, the next one: steps that begin near the border
crawl along it."""
EACH, MEMORY, GAIN = 60, 50, 1e-3
"""Of the steps on one barrier: at most so many, from so many of them the curvature, and what the last one gains."""


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
        waves, passed = self.waves, list[Passed]()
        X, back, logs = waves.start, None, 0.0
        for k, stage in enumerate(waves.stages):
            last = waves.head is None and k == len(waves.stages) - 1
            X, record = forward(stage, X, lams, last=last)
            passed.append(record)
        metric, P, T = X, None, None
        if waves.head is not None:
            L = np.linalg.cholesky(X)
            logs += 2 * float(waves.share @ np.log(np.real(np.diagonal(L, axis1=1, axis2=2))).sum(-1))
            B = np.linalg.solve(L, waves.head.conj().mT)
            P = np.linalg.solve(L.conj().mT, B)
            X = T = mean(waves.share, B)[None]
            if self.tail:
                X = hermitian(np.linalg.inv(T))
            for k, stage in enumerate(self.tail):
                X, record = forward(stage, X, lams, last=k == len(self.tail) - 1)
                passed.append(record)
        logs += sum(record.log for record in passed)
        shares = waves.share if waves.head is None else np.ones(1)
        gap = tau * np.eye(X.shape[-1]) - X
        root = np.linalg.cholesky(gap)
        logs += 2 * float(shares @ np.log(np.real(np.diagonal(root, axis1=1, axis2=2))).sum(-1))
        value = tau / self.mu - logs
        if not np.isfinite(value):
            return None
        gap = hermitian(np.linalg.inv(gap)) * shares[:, None, None]
        g, back, final = [np.zeros(n) for n in self.channels], gap, True
        for record in reversed(passed[len(waves.stages) :]):
            back, final = backward(record, back, g, final=final), False
        if P is not None:
            assert T is not None
            W = np.real(back[0])
            if self.tail:
                inverse = np.linalg.inv(T[0])
                W = -(inverse @ W @ inverse)
            back = -(P @ W @ P.conj().mT + hermitian(np.linalg.inv(metric))) * waves.share[:, None, None]
            final = False
        for record in reversed(passed[: len(waves.stages)]):
            back, final = backward(record, back, g, final=final), False
        trace = float(np.real(np.trace(gap, axis1=1, axis2=2)).sum())
        gradient = np.concatenate(
            [*(lam * own for lam, own in zip(lams, g, strict=True)), [tau * (1 / self.mu - trace)]]
        )
        return Point(x, value, gradient)


def dense_stages(parts: Stages, first: int) -> tuple[tuple[Stage, ...], tuple[int, ...]]:
    """A chain of matrices as stages of one frequency whose unknowns are counted from `first`, and their neurons."""
    found, channels, zero = list[Stage](), list[int](), np.zeros((1, 1), int)
    for k, W in enumerate(parts.weights):
        m, n = W.shape
        G, arguments = W.mid[None], tuple[Argument, ...]()
        if k < len(parts.slopes):
            alpha, beta = parts.slopes[k]
            below = (-0.5 * (beta - alpha))[:, None] * W.mid
            arguments = (Argument(slice(n, n + m), below[None], first + len(channels), m),)
            channels.append(m)
            G = np.concatenate([alpha[:, None] * W.mid, np.eye(m)], 1)[None] if alpha.any() else None
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
    first: float = FIRST,
) -> Vector | None:
    """Multipliers near the optimum, strictly feasible, of channels and of the tail; `start` holds both. None: it is not feasible.

    `first` weighs the first barrier: less, where `start` is near the optimum.
    """
    every, begin = (*waves.channels, *channels), time.monotonic()
    order = float(sum(stage.share.sum() * stage.order for stage in (*waves.stages, *tail)))
    least = Row(waves, tail, channels).value(start)
    if not least < inf:
        return None
    x = np.concatenate([np.log(start), [np.log(2 * least)]])
    mu, left = first * 2 * least / order, steps
    while True:
        barrier = Barrier(waves, mu, tail, every)
        here = barrier(x)
        if here is None:
            break
        for point in lbfgs(barrier, here, min(left, EACH), GAIN, memory=MEMORY):
            x, left = point.x, left - 1
            on = goes_on(steps - left, float(np.ldexp(np.exp(x[-1] / 2), waves.exponent)), 0.0)
            if left <= 0 or time.monotonic() - begin > seconds or not on:
                return np.exp(x[:-1])
        if order * mu < gap * np.exp(x[-1]):
            break
        mu *= NEXT
    return np.exp(x[:-1])
