r"""The exact constant of a piecewise linear network, as an interval that is proven on both sides at every moment."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sdplip.bounds.numerics.hinge_file import keep, kept
from sdplip.bounds.numerics.hinge_search import Search
from sdplip.bounds.task import Proven, Task, Watch
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.hinges import hinged, why_not
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.rows import output
from sdplip.kernel.sides import sides
from sdplip.kernel.subnormal import refuse_lost_numbers
from sdplip.network import Network
from sdplip.solvers.solution import Status

GAP = 1e-6
"""Between the sides at the end, relative."""
ROOMS = (1e-12, 1e-10, 1e-8, 1e-6)
"""By how much more than what the search has proven leaf by leaf the whole proof is asked for: the first that holds counts."""
EVERY = 60.0
"""Seconds after which the search is written to its file again."""


@dataclass(frozen=True, eq=False)
class Exact:
    """What a search knows.

    Attributes:
        proven: the upper side with its proof.
        lower: the lower side, proven.
        witness: a point with a Jacobian of that norm; None where there is none, or only some biases give it one.
        nodes: patterns that were looked at.
        note: why the search ended before its gap; "" where it did not.
        row: the output of the largest constant, of the norm "linf".
    """

    proven: Proven
    lower: float
    witness: Float[np.ndarray, " inputs"] | None
    nodes: int
    note: str = ""
    row: int | None = None


@dataclass(frozen=True, eq=False)
class Wish:
    """How a search is to be done.

    Attributes:
        gap: between the sides at the end, relative.
        any_biases: every pattern counts: the largest constant over all biases, for all inputs.
        deadline: of `time.monotonic`.
        watch: called with the patterns that were looked at, and both sides.
        state: a file that the search is kept in, and goes on from where it exists.
        floor: a value below which the bound need not come.
        points: inputs at which the lower side begins.
    """

    gap: float = GAP
    any_biases: bool = False
    deadline: float = inf
    watch: Watch | None = None
    state: Path | None = None
    floor: float = 0.0
    points: Float[np.ndarray, "points n"] | None = None


def unfit(network: Network) -> str | None:
    """Why "exact" does not take this network."""
    return why_not(network)


def propose(task: Task) -> Iterator[Proven]:
    """The constant of a network whose values are known, for all inputs."""
    goal = Goal(task.network, None, "l2", values=True)
    yield solve(goal, Wish(deadline=task.deadline, watch=task.watch)).proven


def solve(goal: Goal, wish: Wish) -> Exact:
    """Both sides of the constant of a goal whose values are meant.

    Raises:
        InvalidProblem: the network is not piecewise linear, or too large; biases that are any on a region, or of a network some of whose
            hinges share their constants; a file of another search.
        NotProvable: numbers beyond double precision.
    """
    why = why_not(goal.network)
    if why is not None:
        raise InvalidProblem(f"The method 'exact' does not take this network: {why}. Use 'auto' or 'pairs'.")
    if goal.norm == "linf" and goal.network.outputs > 1:
        return _largest_output(goal, wish)
    refuse_lost_numbers(goal.network)
    hinges = hinged(goal.network)
    if wish.any_biases and goal.region is not None:
        raise InvalidProblem(
            "`any_biases` is about all inputs, where every pattern has some. Drop it, or the region."
        )
    if wish.any_biases and not hinges.free:
        raise InvalidProblem(
            "`any_biases` needs a bias of its own for each neuron: activations of one knot, or sorted pairs, each behind its own"
            " matrix or convolution. Drop it: the biases of the network count then."
        )
    where = None if wish.any_biases else sides(hinges, goal.region)
    name, tree, x = None, None, None
    if wish.state is not None:
        name, tree, x = kept(wish.state, hinges, where)
    try:
        search = (
            Search.begin(hinges, where, wish.gap)
            if tree is None
            else Search.resume(hinges, where, wish.gap, tree)
        )
    except np.linalg.LinAlgError as error:
        raise NotProvable(f"The search cannot begin: {error}. Rescale the weights.") from None
    search.floor = wish.floor
    note = ""
    try:
        _first_points(search, wish.points, x)
        note = _run(search, wish, name)
    except KeyboardInterrupt:
        note = "interrupted; both sides until then"
    if wish.state is not None and name is not None:
        keep(wish.state, name, search)
    return _found(goal, search, note)


def _first_points(search: Search, points: np.ndarray | None, x: np.ndarray | None) -> None:
    """The lower side: what is known already, given points, random ones."""
    lower = search.lower
    if lower.where is not None:
        for point in [*([] if x is None else [x]), *([] if points is None else points)]:
            lower.at(np.asarray(point, np.float64))
    lower.sample(np.random.default_rng(0))


def _run(search: Search, wish: Wish, name: str | None) -> str:
    """Steps until the search is done; else why not."""
    last = time.monotonic()
    while not search.done:
        search.step()
        if wish.watch is not None:
            wish.watch(search.asked, search.upper, search.lower.value)
        now = time.monotonic()
        if now > wish.deadline:
            return f"the time was over after {search.asked} patterns" if not search.done else ""
        if wish.state is not None and name is not None and now > last + EVERY:
            keep(wish.state, name, search)
            last = time.monotonic()
    if search.upper**2 > search.target:
        return "some patterns can neither be excluded nor reached: a kink with several hinges in one point, or equal neurons"
    return ""


def _found(goal: Goal, search: Search, note: str) -> Exact:
    """The whole proof, concluded by the kernel."""
    kappa = search.tree.bound()
    for room in ROOMS:
        proof = search.tree.proof(kappa * (1 + room), weights=goal.region is not None)
        with suppress(NotProvable):
            bound = conclude(goal, proof)
            status = Status.STOPPED if note else Status.OPTIMAL
            proven = Proven(bound, proof, "exact", status, None, search.asked)
            return Exact(proven, min(search.lower.value, bound), search.lower.x, search.asked, note)
    raise NotProvable(
        "The patterns of this network cannot be proven in double precision. Use 'pairs' or 'auto'."
    )


def _largest_output(goal: Goal, wish: Wish) -> Exact:
    """Output by output; none needs to come below the largest."""
    if wish.state is not None:
        raise InvalidProblem(
            "A search is kept in a file for one norm of all outputs. Use the norm l2, or one output."
        )
    found, floor = list[Exact](), wish.floor
    for i in range(goal.network.outputs):
        own = replace(goal, network=output(goal.network, i), norm="l2")
        found.append(solve(own, replace(wish, floor=floor)))
        floor = max(floor, found[-1].lower)
    best = max(found, key=lambda one: one.lower)
    proof = Proof("rows", {"outputs": list(range(len(found)))}, tuple(one.proven.proof for one in found))
    nodes, note = sum(one.nodes for one in found), next((one.note for one in found if one.note), "")
    proven = replace(best.proven, bound=conclude(goal, proof), proof=proof, iterations=nodes)
    return Exact(proven, best.lower, best.witness, nodes, note, found.index(best))
