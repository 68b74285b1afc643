r"""Multipliers of stationary networks, and of what stands behind, by one number an unknown: its share of the largest feasible multiplier.

Equal multipliers of an unknown, scaled in order of the network, may be any share in (0, 1) of the largest that leaves a metric positive
definite behind those before it. So nothing constrains the logits of the shares, and the bound is minimised over them one after the other,
with steps that are halved. A start for `descend`, which is slow where it begins far from the optimum.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from jaxtyping import Float

from sdplip.bounds.numerics.stage import Hermitian, Stage, behind_stage, top_factor
from sdplip.bounds.numerics.waves import Waves, mean

Vector = Float[np.ndarray, " p"]
ROUNDS = 4
"""Of the search, with steps of 1, 1/2, ... of the logits."""
LEAST = 1e-4
"""That a step gains in the logarithm of the squared bound."""


@dataclass(frozen=True, eq=False)
class Row:
    """A stationary network and the stages of dense layers behind its head, `neurons` in each of their unknowns."""

    waves: Waves
    tail: tuple[Stage, ...] = ()
    neurons: tuple[int, ...] = ()

    @property
    def channels(self) -> tuple[int, ...]:
        return (*self.waves.channels, *self.neurons)

    def multipliers(self, shares: Vector) -> tuple[float, Vector]:
        r"""$\rho$ and the multipliers of shares, one an unknown; infinite where numbers leave the range."""
        lams = [np.ones(n) for n in self.channels]
        return self._top(lams, shares), np.concatenate(lams)

    def value(self, lam: Vector) -> float:
        r"""$\rho$ of multipliers, infinite where they are not feasible."""
        return self._top(np.split(lam, np.cumsum(self.channels)[:-1]), None)

    def drawn(self, start: Vector, goal: Vector) -> Vector:
        """The least of `start` and of some points on the way from there to `goal`, which may not be feasible."""
        best, value, share = start, self.value(start), 1.0
        for _ in range(8):
            there = start + share * (goal - start)
            found = self.value(there)
            if found < value:
                best, value = there, found
            elif found < inf:
                break
            share *= 0.999 if share == 1.0 else 0.8
        return best

    def _top(self, lams: list[Vector], shares: Vector | None) -> float:
        waves = self.waves
        try:
            X = self._through(waves.stages, waves.start, lams, shares, last=waves.head is None)
            if waves.head is not None:
                B = np.linalg.solve(np.linalg.cholesky(X), waves.head.conj().mT)
                X = mean(waves.share, B)[None]
            if self.tail:
                X = self._through(self.tail, np.linalg.inv(X), lams, shares, last=True)
            top = float(np.linalg.eigvalsh(X)[:, -1].max())
        except np.linalg.LinAlgError:
            return inf
        return top if top > 0 else inf

    def _through(
        self, stages: Sequence[Stage], X: Hermitian, lams: list[Vector], shares: Vector | None, *, last: bool
    ) -> Hermitian:
        """The metric behind the stages, or what the last of them is to bound; with shares, `lams` are scaled to them on the way."""
        for k, stage in enumerate(stages):
            if shares is not None:
                for one in stage.arguments:
                    share = float(shares[one.which])
                    lams[one.which] = lams[one.which] * (share / top_factor(stage, one, X, lams))
            X = behind_stage(stage, X, lams, last=last and k == len(stages) - 1)
        return X


def balanced(row: Row, seconds: float = inf, start: Vector | None = None) -> Vector | None:
    """The shares of the least bound that the search finds; None where it finds none."""
    end = time.monotonic() + seconds
    logits = np.zeros(len(row.channels)) if start is None else np.log(start / (1 - start))
    best = row.multipliers(_shares(logits))[0]
    for turn in range(ROUNDS):
        for i in range(len(logits)):
            for step in (2.0**-turn, -(2.0**-turn)):
                before = best
                while time.monotonic() < end:
                    moved = logits + step * (np.arange(len(logits)) == i)
                    value = row.multipliers(_shares(moved))[0]
                    if not value < best * (1 - LEAST):
                        break
                    best, logits = value, moved
                if best < before:
                    break
    return _shares(logits) if best < inf else None


def _shares(logits: Vector) -> Vector:
    return 1 / (1 + np.exp(-logits))
