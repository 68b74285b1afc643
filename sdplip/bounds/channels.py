"""The best multipliers of a trunk of convolutions, one a channel, over all frequencies. Proposals: `certificates.trunk` proves.

Behind a last convolution few frequencies are active at the optimum: a growing set of them is solved, its optimum is drawn towards
multipliers that are feasible everywhere, and the frequencies that stop it join the set. A head couples all frequencies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float, Int

from sdplip.bounds.spectrum import Spectrum, path

JOINT_WORK = 6e7
"""Frequencies times the cube of the order, above which the inequality of a head is left to other proposals."""
JOINT_OUTPUTS = 32
"""Rows of a head up to which its inequality is solved: the Hessian costs their square."""
JOINED = 6
"""Frequencies of each kind that join the set in a round."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Symbols of a trunk at one frequency of each conjugate pair.

    Attributes:
        symbols: of the layers with activations, first one first.
        slopes: the largest of each layer.
        behind: symbol of the last convolution, or of the head over the root of the number of all frequencies.
        points: where on the grid.
        share: 2, or 1 where a frequency is its own conjugate.
        joint: whether a head couples all frequencies.
    """

    symbols: Sequence[Complex[np.ndarray, "f out in"]]
    slopes: Sequence[float]
    behind: Complex[np.ndarray, "f m channels"]
    points: Int[np.ndarray, "f axes"]
    share: Float[np.ndarray, " f"]
    joint: bool

    def spectrum(self, kept: Int[np.ndarray, " g"]) -> Spectrum:
        symbols = [M[kept] for M in self.symbols]
        return Spectrum.of(symbols, self.slopes, self.behind[kept], self.share[kept], self.joint)

    def layers(self, lam: Float[np.ndarray, " p"]) -> list[np.ndarray]:
        return np.split(lam, np.cumsum([M.shape[1] for M in self.symbols])[:-1])

    def sweep(self, lam: Float[np.ndarray, " p"]) -> tuple[np.ndarray, np.ndarray] | None:
        r"""Room in the metrics and the largest eigenvalue of $C X^{-1} C^*$, of every frequency; None where a metric fails."""
        L, room = None, np.full(len(self.share), np.inf)
        for M, beta, own in zip(self.symbols, self.slopes, self.layers(lam), strict=True):
            if not (own > 0).all():
                return None
            Y = (M.conj().mT if L is None else np.linalg.solve(L, M.conj().mT)) * (beta / 2 * np.sqrt(own))
            try:
                L = np.linalg.cholesky(np.eye(len(own)) - Y.conj().mT @ Y)
            except np.linalg.LinAlgError:
                return None
            room = np.minimum(room, L.diagonal(0, -2, -1).real.min(-1))
            L = np.sqrt(own)[:, None] * L
        assert L is not None
        return room, np.linalg.norm(np.linalg.solve(L, self.behind.conj().mT), 2, axis=(-2, -1)) ** 2


def best_channels(
    problem: Problem, start: Sequence[np.ndarray], tolerance: float = 1e-6, rounds: int = 10
) -> list[np.ndarray] | None:
    """Multipliers near the optimum, strictly feasible.

    None where the problem is too large or `start` is not feasible. `tolerance` is that of the squared bound.
    """
    lam = np.concatenate([np.asarray(own, float) for own in start])
    if problem.sweep(lam) is None:
        return None
    if not problem.joint:
        return _active(problem, lam, tolerance, rounds)
    spectrum = problem.spectrum(np.arange(len(problem.share)))
    frequencies, order = spectrum.A.shape[:2]
    if frequencies * order**3 > JOINT_WORK or spectrum.C.shape[1] > JOINT_OUTPUTS:
        return None
    return problem.layers(path(spectrum, lam, tolerance)[1])


def drawn(
    problem: Problem, start: Sequence[np.ndarray], goal: Sequence[np.ndarray], share: float = 1.0
) -> list[np.ndarray]:
    """The last point on the way from `start` to `goal` that is feasible at every frequency; at `share` of that way."""
    here, there = np.concatenate(list(start)), np.concatenate(list(goal))
    return problem.layers(here + share * _reach(problem, here, there) * (there - here))


def _active(problem: Problem, anchor: np.ndarray, tolerance: float, rounds: int) -> list[np.ndarray]:
    kept, lower, best = _first(problem.points), 0.0, anchor
    value = _value(problem, anchor)
    for _ in range(rounds):
        goal = max(tolerance / 2, 0.05 * (1 - lower / value)) if lower else 1e-3
        _, lam, found = path(problem.spectrum(kept), anchor, goal)
        lower = max(lower, found)
        reach = _reach(problem, anchor, lam)
        for share in (1.0, 1 - 1e-3, 0.97):
            trial = anchor + share * reach * (lam - anchor)
            reached = _value(problem, trial)
            if reached < value:
                value, best = reached, trial
        if value - lower <= tolerance * value:
            break
        swept = problem.sweep(anchor + (1 - 1e-6) * reach * (lam - anchor))
        if swept is None:
            break
        joined = np.concatenate([np.argsort(swept[0])[:JOINED], np.argsort(-swept[1])[:JOINED]])
        kept = np.union1d(kept, joined)
        anchor = anchor + 0.9 * reach * (lam - anchor)
    return problem.layers(best)


def _value(problem: Problem, lam: np.ndarray) -> float:
    swept = problem.sweep(lam)
    return np.inf if swept is None else float(swept[1].max())


def _reach(problem: Problem, anchor: np.ndarray, lam: np.ndarray) -> float:
    """How far from `anchor` towards `lam` every frequency stays feasible, at most 1."""
    if problem.sweep(lam) is not None:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if problem.sweep(anchor + middle * (lam - anchor)) is None:
            high = middle
        else:
            low = middle
    return low


def _first(points: Int[np.ndarray, "f axes"]) -> Int[np.ndarray, " g"]:
    """About 20 frequencies all over the grid."""
    sides = points.max(0) + 1
    steps = np.maximum(1, sides // max(2, round(40 ** (1 / len(sides)))))
    return np.flatnonzero((points % steps == 0).all(-1))
