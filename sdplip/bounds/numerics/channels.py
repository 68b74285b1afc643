"""The best multipliers of stationary networks, one a channel, over all frequencies. Proposals: the rule `frequency` proves.

Behind convolutions alone few frequencies are active at the optimum: a growing set of them is solved, its optimum is drawn towards
multipliers that are feasible everywhere, and the frequencies that stop it join the set. A head couples all frequencies.
"""

import numpy as np
from jaxtyping import Float, Int

from sdplip.bounds.numerics.spectrum import path
from sdplip.bounds.numerics.waves import Waves, joint
from sdplip.kernel.frequencies import grid, order_of

JOINT_WORK = 6e7
"""Frequencies times the cube of the order, above which the inequality of a head is left to other proposals."""
ACTIVE_WORK = 6e8
"""The same of the active frequencies of a network without a head."""
JOINT_OUTPUTS = 32
"""Rows of a head up to which its inequality is solved: the Hessian costs their square."""
JOINED = 6
"""Frequencies of each kind that join the set in a round."""

Vector = Float[np.ndarray, " p"]


def best_channels(waves: Waves, start: Vector, tolerance: float = 1e-6, rounds: int = 10) -> Vector | None:
    """Multipliers near the optimum, strictly feasible.

    None where the problem is too large or `start` is not feasible. `tolerance` is that of the squared bound.
    """
    plan = waves.plan
    work = order_of(plan, 0, plan.stop) ** 3.0
    if waves.head is None:
        if 40 * work > ACTIVE_WORK or waves.sweep(start) is None:
            return None
        return _active(waves, start, tolerance, rounds)
    frequencies = len(waves.share)
    if frequencies * work > JOINT_WORK or waves.head.shape[1] > JOINT_OUTPUTS or waves.metric(start) is None:
        return None
    return path(joint(waves), start, tolerance)[1]


def drawn(waves: Waves, start: Vector, goal: Vector, share: float = 1.0) -> Vector:
    """The last point on the way from `start` to `goal` that is feasible at every frequency; at `share` of that way."""
    return start + share * reach(waves, start, goal) * (goal - start)


def reach(waves: Waves, anchor: Vector, lam: Vector) -> float:
    """How far from `anchor` towards `lam` every frequency stays feasible, at most 1."""

    def feasible(at: Vector) -> bool:
        return (waves.metric(at) if waves.head is not None else waves.sweep(at)) is not None

    if feasible(lam):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if feasible(anchor + middle * (lam - anchor)) else (low, middle)
    return low


def _active(waves: Waves, anchor: Vector, tolerance: float, rounds: int) -> Vector:
    kept, lower, best = _first(grid(waves.plan.torus(waves.plan.stop)).points), 0.0, anchor
    value = waves.value(anchor)
    for _ in range(rounds):
        goal = max(tolerance / 2, 0.05 * (1 - lower / value)) if lower else 1e-3
        _, lam, found = path(joint(waves, kept), anchor, goal)
        lower = max(lower, found)
        far = reach(waves, anchor, lam)
        for share in (1.0, 1 - 1e-3, 0.97):
            trial = anchor + share * far * (lam - anchor)
            reached = waves.value(trial)
            if reached < value:
                value, best = reached, trial
        if value - lower <= tolerance * value:
            break
        swept = waves.sweep(anchor + (1 - 1e-6) * far * (lam - anchor))
        if swept is None:
            break
        joined = np.concatenate([np.argsort(swept[0])[:JOINED], np.argsort(-swept[1])[:JOINED]])
        kept = np.union1d(kept, joined)
        anchor = anchor + 0.9 * far * (lam - anchor)
    return best


def _first(points: Int[np.ndarray, "f axes"]) -> Int[np.ndarray, " g"]:
    """About 20 frequencies all over the grid."""
    sides = points.max(0) + 1
    steps = np.maximum(1, sides // max(2, round(40 ** (1 / len(sides)))))
    return np.flatnonzero((points % steps == 0).all(-1))
