"""The exact constant of a piecewise linear network, asked by one call."""

import os
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sdplip.bounds.answer import NetworkBound
from sdplip.bounds.asked import given_inputs, goal_of, neurons
from sdplip.bounds.methods.exact import GAP, Wish, solve
from sdplip.bounds.task import Watch
from sdplip.errors import InvalidProblem
from sdplip.kernel.proof import Goal, Norm
from sdplip.kernel.regions import Region
from sdplip.network import Network

SECONDS = 60.0
"""Budget."""


def exact_bound(
    network: Network,
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: Norm = "l2",
    region: Region | None = None,
    any_biases: bool = False,
    gap: float = GAP,
    seconds: float = SECONDS,
    state: str | os.PathLike[str] | None = None,
    progress: Watch | None = None,
    points: Float[np.ndarray, "points *shape"] | None = None,
) -> NetworkBound:
    r"""The Lipschitz constant of a piecewise linear network between two proven sides, by branch and bound on the patterns of its
    neurons.

    Of the result, `bound` is the upper side with its proof, `lower` the lower one, proven as well (`lower_proven`), and `witness`
    a point at which the Jacobian has at least that norm. The search ends where the sides are within `gap`, where time is over, or
    on an interrupt from the keyboard; both sides hold at every moment.

    Args:
        network: of ReLU, leaky ReLU, absolute values, clipping, MaxMin, GroupSort, maxima, with its biases.
        output_pair, output_norm, region, points: as for `bound`.
        any_biases: the largest constant over all biases instead: every pattern counts, whether the given biases have a point with it or
            not. For all inputs.
        gap: between the sides at the end, relative.
        seconds: at most, about.
        state: a file in which the search is kept every minute and at its end, and from which it goes on.
        progress: called with the number of patterns looked at, the upper and the lower side.

    Raises:
        InvalidProblem: another kind of network, or of arguments.
        NotProvable: numbers beyond double precision.
    """
    begin = time.perf_counter()
    if not gap > 0:
        raise InvalidProblem(f"`gap` must be positive, but is {gap}.")
    goal = goal_of(network, output_pair, output_norm, region)
    wish = Wish(
        gap,
        any_biases,
        time.monotonic() + seconds,
        progress,
        None if state is None else Path(state),
        points=given_inputs(network, points),
    )
    return answered(goal, wish, begin)


def answered(goal: Goal, wish: Wish, begin: float) -> NetworkBound:
    """What a search for the exact constant of a goal knows, as a bound; `begin`: when it was asked."""
    found = solve(goal, wish)
    value = found.proven.bound
    return NetworkBound(
        bound=value,
        lower=found.lower,
        sdp_lower=None,
        method="exact",
        status=found.proven.status,
        goal=goal,
        proof=found.proven.proof,
        order=neurons(goal.network),
        seconds=time.perf_counter() - begin,
        iterations=found.nodes,
        others={"exact": value},
        row=found.row,
        note=found.note,
        lower_proven=found.lower > 0,
        witness=found.witness,
    )
