"""One call for all bounds of a network."""

import time
from collections.abc import Callable
from math import inf

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.bounds.answer import NetworkBound, Tried
from sdplip.bounds.asked import given_inputs, goal_of, inputs_of, neurons
from sdplip.bounds.below import estimate_lower
from sdplip.bounds.exact import SECONDS, answered
from sdplip.bounds.methods import METHODS
from sdplip.bounds.methods.exact import Wish
from sdplip.bounds.methods.multipliers import no_chain
from sdplip.bounds.run import Propose, Run, name_of
from sdplip.bounds.task import Task, Watch
from sdplip.errors import InvalidProblem
from sdplip.kernel.proof import Goal, Norm, Proof
from sdplip.kernel.regions import Region
from sdplip.kernel.rules.local import local_network
from sdplip.network import Network

SHARE = 0.1
"""Of the budget that goes to the lower estimate."""


def bound(
    network: Network,
    method: str | Propose = "auto",
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: Norm = "l2",
    region: Region | None = None,
    progress: Watch | None = None,
    report: Callable[[Tried], object] | None = None,
    device: str = "cpu",
    seconds: float = SECONDS,
    stop: bool = False,
    lower: float | None = None,
    points: Float[np.ndarray, "points *shape"] | None = None,
) -> NetworkBound:
    r"""A proven Lipschitz bound of the network, with its proof and what is known from below.

    Args:
        network: from `sdplip.network.read` or by hand.
        method: a name of `sdplip.bounds.METHODS`; "auto" is the least of those that fit into `seconds`; or an object that
            proposes multipliers of a chain, such as `Reference(solver=CVXPY("SCS"))`.
        output_pair: bound output `i` minus output `j` instead of all outputs.
        output_norm: "linf" bounds the largest output, $\lVert f(x) - f(y) \rVert_\infty \le L \lVert x - y \rVert_2$.
        region: a `Ball`, `Box` or `Cut`: bound the network for inputs in it only.
        progress: called with iteration, upper and lower value by iterative methods.
        report: called with each method that "auto" has done or left out.
        device: where torch computes the interior-point methods, "cpu" or "cuda"; the proof is NumPy's.
        seconds: the budget of "auto"; at its end, or on an interrupt from the keyboard, the best bound so far is returned.
        stop: whether a method by name keeps the budget too, if it can; else it takes its time.
        lower: of `lower_side`, where it is known already; None estimates it.
        points: inputs, such as training data, at which the search for the largest Jacobian (`lower`) begins, besides random ones;
            those outside of `region` are moved into it. The bound does not depend on them.

    Raises:
        SolverUnavailable: no such device here.
        InvalidProblem: a method that is not known, or does not take this network; outputs that do not exist; a region of another
            number of inputs; points that are no inputs of the network.
        NotProvable: the bound leaves the range of double precision.
    """
    begin = time.perf_counter()
    goal = goal_of(network, output_pair, output_norm, region)
    _check(goal, method, device)
    if method == "exact":
        deadline = time.monotonic() + seconds
        return answered(
            goal, Wish(deadline=deadline, watch=progress, points=given_inputs(network, points)), begin
        )
    start = given_inputs(network, points)
    local = goal.network if region is None else local_network(goal.network, region)
    deadline = time.monotonic() + (1 - 1.5 * SHARE) * seconds if method == "auto" or stop else inf
    task = Task(local, goal.norm, progress, device, deadline)
    run = Run(method, report, whole=goal.norm == "l2")
    row, best = run.largest(task) if goal.norm == "linf" else (None, run.one(task))
    proof, value = best.proof, best.bound
    if region is not None:
        proof = Proof(
            "local", {}, (proof,)
        )  # its rule concludes what the kernel has concluded of this very local network
    try:
        lower = _lower(goal, seconds, value * (1 - 1e-14), start) if lower is None else lower
    except KeyboardInterrupt:  # what is proven is kept
        lower, run.note = 0.0, run.note or "interrupted in the search for Jacobians"
    return NetworkBound(
        bound=value,
        lower=min(lower, value),
        sdp_lower=best.sdp_lower,
        method=best.method,
        status=best.status,
        goal=goal,
        proof=proof,
        order=neurons(local),
        seconds=time.perf_counter() - begin,
        iterations=best.iterations,
        others=run.others if row is None else {best.method: value},
        row=row,
        tried=tuple(run.tried),
        note=run.note,
    )


def lower_side(
    network: Network,
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: Norm = "l2",
    region: Region | None = None,
    seconds: float = SECONDS,
    points: Float[np.ndarray, "points *shape"] | None = None,
) -> float:
    """The largest Jacobian that is found, as `bound` with these arguments looks for it.

    Raises:
        InvalidProblem: outputs that do not exist; a region of another number of inputs; points that are no inputs.
    """
    goal = goal_of(network, output_pair, output_norm, region)
    return _lower(goal, seconds, points=None if points is None else inputs_of(network, points))


def _lower(
    goal: Goal, seconds: float, enough: float = inf, points: Float[np.ndarray, "points n"] | None = None
) -> float:
    most = time.monotonic() + max(1.0, SHARE * seconds)
    return estimate_lower(
        goal.network, goal.region, norm=goal.norm, deadline=most, enough=enough, points=points
    )


def pair_bounds(
    network: Network,
    method: str = "auto",
    *,
    region: Region | None = None,
    progress: Callable[[int, int], None] | None = None,
    seconds: float = SECONDS,
) -> Float[np.ndarray, "outputs outputs"]:
    r"""Proven constants of $f_i - f_j$ for all i and j; symmetric, 0 on the diagonal.

    A margin $f_i - f_j$ divided by entry (i, j) is a radius within which j does not overtake i. No entry exceeds $\sqrt 2$ times
    the bound of all outputs, which is therefore a cap of every entry.

    Args:
        network: any that `bound` takes, of at least two outputs.
        method, region, seconds: of `bound`, which runs once a pair.
        progress: called with the number of pairs done and of all.

    Raises:
        InvalidProblem, NotProvable: as for `bound`.
    """
    n = network.outputs
    whole = bound(network, method, region=region, seconds=seconds, lower=0.0).bound
    cap = up(whole * up(2**0.5))
    found, done = np.zeros((n, n)), 0
    for i in range(n):
        for j in range(i):
            value = bound(
                network, method, output_pair=(i, j), region=region, seconds=seconds, lower=0.0
            ).bound
            found[i, j] = found[j, i] = min(value, cap)
            done += 1
            if progress is not None:
                progress(done, n * (n - 1) // 2)
    return found


def _check(goal: Goal, method: "str | Propose", device: str) -> None:
    """Whether the method takes the goal and the device.

    Raises:
        InvalidProblem, SolverUnavailable: it does not.
    """
    if not isinstance(method, str):
        why = (
            "a region"
            if goal.region is not None
            else "the largest output"
            if goal.norm == "linf"
            else no_chain(goal.network)
        )
        if why:
            raise InvalidProblem(
                f"{name_of(method)} proposes multipliers of a chain of matrices, for all inputs and Euclidean norms, but here is"
                f" {why}. Use a method by its name."
            )
    elif method != "auto" and method not in METHODS:
        raise InvalidProblem(
            f"The method {method!r} is not known. Use 'auto' or one of {', '.join(METHODS)}."
        )
    if device != "cpu":
        able = isinstance(method, str) and (method == "auto" or METHODS[method].device) and goal.norm == "l2"
        if not able:
            names = ", ".join(name for name, entry in METHODS.items() if entry.device)
            raise InvalidProblem(
                f"`device={device!r}` is for the interior-point method of all outputs (auto, {names}), not for this one."
                ' Use "cpu".'
            )
        from sdplip.solvers.interior_point import device_named  # loads torch

        device_named(device)
