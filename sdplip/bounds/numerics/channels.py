"""The best multipliers of stationary networks, one a channel, over all frequencies. Proposals: the rule `frequency` proves.

Behind convolutions alone few frequencies are active at the optimum: a growing set of them is solved, its optimum is drawn towards
multipliers that are feasible everywhere, and the frequencies that stop it join the set. A head couples all frequencies.
"""

import time
from math import inf

import numpy as np
from jaxtyping import Float, Int

from sdplip.bounds.numerics.spectrum import path
from sdplip.bounds.numerics.waves import Waves, joint
from sdplip.kernel.frequencies import grid, order_of

JOINT_WORK = 6e7
"""Frequencies times the cube of the order, above which the inequality of a head is left to other proposals."""
ACTIVE_WORK, FEWEST = 6e8, 12
"""The same of `FEWEST` frequencies, above which nothing is solved."""
HEAD_WORK = 4e7
"""The same of those frequencies that are taken instead."""
JOINT_OUTPUTS = 32
"""Rows of a head up to which its inequality is solved: the Hessian costs their square."""
JOINED = 6
"""Frequencies of each kind that join the set in a round."""

Vector = Float[np.ndarray, " p"]


def best_channels(
    waves: Waves, start: Vector, tolerance: float = 1e-6, rounds: int = 10, until: float = inf
) -> Vector | None:
    """Multipliers near the optimum, strictly feasible.

    None where the problem is too large or `start` is not feasible. `tolerance` is that of the squared bound; at `until` (of
    `time.monotonic`) the search ends with what it has.
    """
    plan = waves.plan
    work = order_of(plan, 0, plan.stop) ** 3.0
    if FEWEST * work > ACTIVE_WORK or not feasible(waves, start):
        return None
    if waves.head is not None and waves.head.shape[1] > JOINT_OUTPUTS:
        return None
    if waves.head is None:
        return _active(waves, start, tolerance, rounds, until)
    few = _few(waves, start, until)
    if len(waves.share) * work > JOINT_WORK or time.monotonic() > until:
        return few
    return min((path(joint(waves), start, tolerance, until=until)[1], few), key=waves.value)


def feasible(waves: Waves, lam: Vector) -> bool:
    """Whether every frequency leaves metrics positive definite."""
    return (waves.metric(lam) if waves.head is not None else waves.sweep(lam)) is not None


def drawn(waves: Waves, start: Vector, goal: Vector, share: float = 1.0) -> Vector:
    """The last point on the way from `start` to `goal` that is feasible at every frequency; at `share` of that way."""
    return start + share * reach(waves, start, goal) * (goal - start)


def reach(waves: Waves, anchor: Vector, lam: Vector) -> float:
    """How far from `anchor` towards `lam` every frequency stays feasible, at most 1."""
    if feasible(waves, lam):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if feasible(waves, anchor + middle * (lam - anchor)) else (low, middle)
    return low


def _active(waves: Waves, anchor: Vector, tolerance: float, rounds: int, until: float) -> Vector:
    kept, lower, best = _first(waves, anchor, 40), 0.0, anchor
    value = waves.value(anchor)
    for _ in range(rounds):
        goal = max(tolerance / 2, 0.05 * (1 - lower / value)) if lower else 1e-3
        _, lam, found = path(joint(waves, kept), anchor, goal, until=until)
        lower = max(lower, found)
        far = reach(waves, anchor, lam)
        for share in (1.0, 1 - 1e-3, 0.97):
            trial = anchor + share * far * (lam - anchor)
            reached = waves.value(trial)
            if reached < value:
                value, best = reached, trial
        if value - lower <= tolerance * value or time.monotonic() > until:
            break
        swept = waves.sweep(anchor + (1 - 1e-6) * far * (lam - anchor))
        if swept is None:
            break
        joined = np.concatenate([np.argsort(swept[0])[:JOINED], np.argsort(-swept[1])[:JOINED]])
        kept = np.union1d(kept, joined)
        anchor = anchor + 0.9 * far * (lam - anchor)
    return best


def _few(waves: Waves, start: Vector, until: float) -> Vector:
    """The optimum of a few frequencies, then of some more, drawn towards what is feasible at all: not the best in front of a head."""
    cube = order_of(waves.plan, 0, waves.plan.stop) ** 3.0
    lam, best, value = start, start, waves.value(start)
    for most, begin, goal in ((12, 1.0, 0.3), (60, 0.5, 0.1)):
        kept = _first(waves, start, most if cube * most < HEAD_WORK else 5)
        if best is not start and (len(kept) * cube > HEAD_WORK / 4 or time.monotonic() > until):
            break
        far = reach(waves, start, lam)
        inner = start + (0.8 * far if far < 1 else 1.0) * (lam - start)
        _, lam, _ = path(joint(waves, kept), inner, goal, begin=begin, until=until)
        far = reach(waves, start, lam)
        for share in (1.0, 1 - 1e-3, 0.97, 0.9):
            trial = start + share * far * (lam - start)
            reached = waves.value(trial)
            if reached < value:
                value, best = reached, trial
    return best


def _first(waves: Waves, anchor: Vector, most: int) -> Int[np.ndarray, " g"]:
    """About 20 frequencies all over the grid, or `most`; behind a head also those that count most in its mean."""
    points = grid(waves.plan.torus(waves.plan.stop)).points
    sides = points.max(0) + 1
    some = np.minimum(max(2, round(min(40, max(5, most)) ** (1 / len(sides)))), sides)
    found = np.flatnonzero((points % np.maximum(1, sides // some) == 0).all(-1))
    swept = None if waves.head is None else waves.sweep(anchor)
    if swept is None:
        return found
    return np.union1d(found, np.argsort(-swept[1] * waves.share)[: min(most, 24) // 2])
