"""One call for all bounds of a network."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.bounds.answer import NetworkBound, Tried
from sdplip.bounds.asked import given_inputs, goal_of, inputs_of, neurons
from sdplip.bounds.below import estimate_lower
from sdplip.bounds.exact import SECONDS, answered
from sdplip.bounds.methods import METHODS, Method, pairs, parts, rows
from sdplip.bounds.methods.equilibrium import is_implicit
from sdplip.bounds.methods.exact import Wish
from sdplip.bounds.methods.multipliers import by_chain, no_chain
from sdplip.bounds.numerics.chain import Chain, Proposal
from sdplip.bounds.task import Proven, Task, Watch
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.proof import Goal, Norm, Proof
from sdplip.kernel.regions import Region
from sdplip.kernel.rules.local import local_network
from sdplip.network import Maximum, Network
from sdplip.solvers.solution import Status

SHARE = 0.1
"""Of the budget that goes to the lower estimate."""
PATIENCE = 3.0
"""A method that stops in time is begun where all of it should take at most this many times what is left, others once."""
PAIRS_SHARE = 0.1
"""Of the time left, what "auto" spends on pairs of neurons at most, about."""
Propose = Callable[[Chain], Proposal]


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
    run = _Run(method, report, whole=goal.norm == "l2")
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


@dataclass(eq=False)
class _Run:
    """One call of `bound`: the method, what was tried, and what came of it. `whole`: of all outputs at once."""

    method: str | Propose
    report: Callable[[Tried], object] | None
    whole: bool = True
    others: dict[str, float] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    note: str = ""

    def largest(self, task: Task) -> tuple[int | None, Proven]:
        """The bound of the largest output and which one that is; None where "auto" proves less of all outputs at once."""
        network = task.network
        self.whole = network.outputs == 1
        if self.method != "auto" or self.whole:
            return rows.propose(task, self.one)
        works = [METHODS[name].work(network) for name in _plan(task) if name in METHODS]
        dear = max((work for work in works if work <= task.left), default=inf)
        if network.outputs * dear <= task.left:  # else one bound of all is what there is time for
            row, best = rows.propose(task, self.one)
            together = self._together(task)
        else:
            together = self._together(task)
            row, best = rows.propose(task, self.one)
        if best.bound <= together.bound:
            return row, best
        self.others = {together.method: together.bound}
        return None, replace(together, bound=task.conclude(together.proof))

    def _together(self, task: Task) -> Proven:
        """All outputs at once, whose Euclidean norm is not below the largest."""
        self.whole = True
        found = self.one(task.about(task.network))
        self.whole = False
        return found

    def one(self, task: Task) -> Proven:
        """The best bound of a task."""
        if not isinstance(self.method, str):
            found = list(by_chain(task, {_name(self.method): self.method}))
        elif self.method != "auto":
            found = list(self._by_name(self.method, task))
        else:
            found = list(self._auto(task))
        if not found:
            why = next((tried.note for tried in self.tried if tried.bound is None and tried.note), "")
            if why and is_implicit(task.network):
                raise NotProvable(why)
            raise NotProvable(
                "No finite bound could be proven: the numbers leave the range of double precision. Rescale the weights."
            )
        self.others = {}
        for proven in found:
            self.others[proven.method] = min(proven.bound, self.others.get(proven.method, inf))
        return min(found, key=lambda proven: proven.bound)

    def _by_name(self, name: str, task: Task) -> Iterator[Proven]:
        method, cuts = METHODS[name], parts.segments(task.network)
        why, whole = method.unfit(task.network), [(0, task.network.output)]
        if why is None:
            yield from method.propose(task)
        if why is not None and cuts == whole:
            raise InvalidProblem(
                f"The method {name!r} does not take this network: {why}. Use 'auto' or 'product'."
            )
        if why is not None or (name == "riccati" and cuts not in ([], whole)):
            yield from parts.propose(task, lambda part: self._part(name, part))

    def _part(self, name: str, task: Task) -> Proven | None:
        """The bound of a part, by all methods where this one does not take it."""
        found = list(
            self._by_name(name, task)
            if METHODS[name].unfit(task.network) is None
            else self._auto(task, inside=True)
        )
        return min(found, key=lambda proven: proven.bound, default=None)

    def _auto(self, task: Task, *, inside: bool = False) -> Iterator[Proven]:
        """The methods that fit into the time, cheapest first; the product in any case."""
        best = False  # whether the best multipliers are known, which closed forms cannot beat
        for name in _plan(task):
            if best and name == "riccati":
                self._tell(
                    Tried(name, None, 0.0, "left out: the best multipliers prove no more"), inside=inside
                )
                continue
            method = METHODS.get(name) or Method("", _takes, lambda whole: parts.propose(whole, self._inside))
            found = self._step(name, method, task, inside=inside)
            best |= name == "lipsdp-neuron" and any(proven.status is Status.OPTIMAL for proven in found)
            yield from found
            if self.note:
                return
        if best and self.whole and not inside:
            yield from self._pairs(task)

    def _pairs(self, task: Task) -> Sequence[Proven]:
        """Pairs of neurons, where they should take a small part of the time."""
        work = METHODS["pairs"].work(task.network) if pairs.unfit(task.network) is None else inf
        if work == inf:
            return []
        if work > PAIRS_SHARE * task.left:
            note = f"left out: it takes about {work:.0f} s, more than a tenth of the time"
            self._tell(Tried("pairs", None, 0.0, note), inside=False)
            return []
        return self._step("pairs", replace(METHODS["pairs"], propose=pairs.beyond), task, inside=False)

    def _inside(self, part: Task) -> Proven | None:
        """The best bound of a part, of which nothing is reported."""
        return min(self._auto(part, inside=True), key=lambda proven: proven.bound, default=None)

    def _step(self, name: str, method: Method, task: Task, *, inside: bool) -> Sequence[Proven]:
        begin, found, note = time.perf_counter(), list[Proven](), ""
        work, first = method.work(task.network) if name in METHODS else 0.0, name == "product"
        if not first and (task.left == 0 or work > (PATIENCE if method.stops else 1.0) * task.left):
            note = f"left out: it takes about {work:.0f} s" if task.left else "left out: the time is over"
        else:
            try:
                found = list(method.propose(task))
            except NotProvable as error:
                note = str(error)
            except KeyboardInterrupt:
                if first:
                    raise
                note = self.note = "interrupted; the best bound until then"
        best = min((proven.bound for proven in found), default=None)
        self._tell(Tried(name, best, time.perf_counter() - begin, note), inside=inside)
        return found

    def _tell(self, tried: Tried, *, inside: bool) -> None:
        if inside:
            return
        self.tried.append(tried)
        if self.report is not None:
            self.report(tried)


def _plan(task: Task) -> list[str]:
    """The methods for a network in the order in which they are tried: by their work, but closed forms last where the best
    multipliers fit into the time."""
    works = {name: m.work(task.network) for name, m in METHODS.items() if m.unfit(task.network) is None}
    works.pop("pairs", None)  # behind the best multipliers of neurons alone
    works = {name: work for name, work in works.items() if work < inf}
    if works.get("lipsdp-neuron", inf) < 0.5 * task.left and "riccati" in works:
        works["riccati"] = max(works["riccati"], works["lipsdp-neuron"] * 1.001)
    order = sorted(works, key=lambda name: works[name])
    cuts = parts.segments(task.network)
    if cuts not in ([], [(0, task.network.output)]) and any(
        _gains(task.network.between(*cut)) for cut in cuts
    ):
        maxima = any(isinstance(node.op, Maximum) for node in task.network.nodes)
        behind = "frequency" if "frequency" in order and not maxima else "product"
        order.insert(order.index(behind) + 1, "parts")  # joint proofs of residual images gain more than cuts
    return order


def _gains(network: Network) -> bool:
    """Whether "auto" has more than the product for a network."""
    return any(
        name != "product" and method.unfit(network) is None and method.work(network) < inf
        for name, method in METHODS.items()
    )


def _takes(network: Network) -> str | None:  # noqa: ARG001
    return None


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
                f"{_name(method)} proposes multipliers of a chain of matrices, for all inputs and Euclidean norms, but here is"
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


def _name(method: Propose) -> str:
    return str(getattr(method, "name", type(method).__name__))
