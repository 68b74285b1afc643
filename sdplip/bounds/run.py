"""One call of `bound`: which methods are tried for a network, in which order, and the best of what they prove."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from sdplip.bounds.answer import Tried
from sdplip.bounds.methods import METHODS, Method, pairs, parts, rows
from sdplip.bounds.methods.equilibrium import is_implicit
from sdplip.bounds.methods.multipliers import by_chain
from sdplip.bounds.numerics.chain import Chain, Proposal
from sdplip.bounds.task import Proven, Task
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.network import Maximum, Network
from sdplip.solvers.solution import Status

PATIENCE = 3.0
"""A method that stops in time is begun where all of it should take at most this many times what is left, others once."""
PAIRS_SHARE = 0.1
"""Of the time left, what "auto" spends on pairs of neurons at most, about."""
Propose = Callable[[Chain], Proposal]


@dataclass(eq=False)
class Run:
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
        works = [METHODS[name].work(network) for name in plan(task) if name in METHODS]
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
            found = list(by_chain(task, {name_of(self.method): self.method}))
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
        for name in plan(task):
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


def plan(task: Task) -> list[str]:
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


def name_of(method: Propose) -> str:
    """Of an object that proposes multipliers."""
    return str(getattr(method, "name", type(method).__name__))
