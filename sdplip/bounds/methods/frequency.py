r"""Convolutions frequency by frequency, with the best multiplier of each channel; what stands behind them is treated as dense.

The rule `frequency` proves. Multipliers are proposed by the spectral closed form and by `numerics.channels`, which finds the best ones over all
frequencies; of larger networks on a coarse torus first, whose optimum is drawn towards what is feasible on the whole one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, prod

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.matrix import Enclosure
from sdplip.bounds.methods import composite, lipsdp, product, riccati
from sdplip.bounds.methods.product import layers_proof
from sdplip.bounds.numerics.channels import best_channels, reach
from sdplip.bounds.numerics.descent import FIRST, dense_stages, descend
from sdplip.bounds.numerics.shares import Row, balanced
from sdplip.bounds.numerics.stationary import stationary_proof
from sdplip.bounds.numerics.waves import cubes, passes, waves, work
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.frequencies import order_of
from sdplip.kernel.linear import head
from sdplip.kernel.maxima import maxima_first
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.frequency import carried, front
from sdplip.kernel.stages import Stages, stages
from sdplip.kernel.stationary import Plan, plan
from sdplip.kernel.surgery import behind
from sdplip.network import Activation, Concatenate, Convolution, Maximum, Network, Sum
from sdplip.solvers.solution import Status

HEAD = 1024
"""Outputs of what stands behind the convolutions up to which a joint proof is tried."""
MEMORY = 3e7
"""Complex entries of all stages up to which a search holds them at once."""
STEP, COARSE = 1e9, 2e6
"""Work of a pass (`numerics.waves.passes`) up to which a descent is tried, and of the torus on which it begins."""
SECONDS = 60.0
"""That the descent takes at most, where there is no deadline; else half of what is left."""
SWEEPS = 30
"""Passes over all frequencies that may follow a search, in front of the proof."""
STEPS, INNER, NEAR = 600, 0.85, 10.0
"""Of a descent at most; the shares at most from which it begins; and its first barrier (`descent.FIRST`) where it goes on elsewhere."""
SPEED = 5e9
"""Operations a second of one core in small complex matrices."""

Vector = Float[np.ndarray, " p"]


@dataclass(frozen=True, eq=False)
class Split:
    """A stationary part of a network, and what stands behind it: nothing, or a linear map up to value `end`.

    Attributes:
        network: from where the part begins, nondecreasing functions behind the maxima that read them.
        front: that value of the whole network.
    """

    network: Network
    planned: Plan
    end: int | None = None
    F: Enclosure | None = None
    front: int = 0


def split(network: Network) -> Split:
    """The longest stationary part with activations or maxima that is worth a joint proof; what stands in front of it is left to others.

    Raises:
        NotProvable: there is none.
    """
    fronts = [k for k in network.cuts[:-1] if k == 0 or _is_first(network, k)]
    failed = ""
    for at in fronts[:2]:
        try:
            inside = maxima_first(network.between(at, network.output))
            return replace(_from_input(inside), front=at)
        except NotProvable as error:
            failed = failed or str(error)
    raise NotProvable(failed)


def _is_first(network: Network, value: int) -> bool:
    """Whether everything that follows a value begins with the first convolution."""
    users = network.users[value]
    before = (node.op for node in network.nodes[:value])
    is_next = any(isinstance(network.made(u).op, Convolution) for u in users)
    return is_next and not any(isinstance(op, Convolution) for op in before)


def _from_input(network: Network) -> Split:
    with suppress(NotProvable):
        planned = plan(network, network.output)
        if planned.unknowns:
            return Split(network, planned)
    failed = "no convolution stands in front of an activation."
    for cut in reversed(network.cuts[1:-1]):
        if not isinstance(network.made(cut).op, Activation | Maximum | Sum | Concatenate):
            continue
        try:
            planned, end = plan(network, cut), behind_cut(network, cut)
            if end is not None and planned.unknowns:
                return Split(network, planned, end, head(network, cut, end))
            failed = f"a linear map of at most {HEAD} outputs is needed behind convolutions."
        except NotProvable as error:
            failed = str(error)
    raise NotProvable(f"there is nothing to prove frequency by frequency: {failed}")


def behind_cut(network: Network, cut: int) -> int | None:
    """The value behind `cut`, at the end of a run of linear maps, with the fewest outputs; None if those are many."""
    found = list[int]()
    for k in range(cut + 1, network.output + 1):
        node = network.made(k)
        if isinstance(node.op, Activation) or node.inputs != (k - 1,) or len(network.users[k - 1]) != 1:
            break
        found.append(k)
    found = [k for k in found if network.length(k) <= HEAD and k in network.cuts]
    return found[-1] if found else None


def unfit(network: Network) -> str | None:
    """Why the method does not take this network."""
    try:
        split(network)
    except NotProvable as error:
        return str(error)
    return None


def propose(task: Task) -> Iterator[Proven]:
    """The best of all proposals."""
    found = split(task.network)
    inner = task if found.front == 0 else task.about(found.network)
    for one in proven(inner, found, candidates(inner, found)):
        if inner is task:
            yield one
            continue
        proof = layers_proof(task.network, [(found.front, task.network.output, one.proof)])
        yield replace(one, bound=task.conclude(proof), proof=proof)


Candidates = Iterator[tuple[str, Vector]]


def candidates(task: Task, found: Split) -> Candidates:
    """Multipliers by the name of what proposes them, most promising first."""
    large = work(found.planned) > MEMORY
    every = waves(coarser(found.planned, MEMORY), found.F)
    spectral = every.spectral()
    if spectral is None:
        return
    tail = _tail(found)
    begin = time.monotonic()
    every.value(spectral)
    sweeps = SWEEPS * (time.monotonic() - begin)
    if 2 * sweeps > task.left:  # no time for a search
        yield "frequency-spectral", spectral
        return
    until = time.monotonic() + task.left / 2 - sweeps
    best = None if tail else best_channels(every, spectral, until=until)
    name = "frequency-optimal"
    if best is None:
        best, name = _descended(task, found, tail), "frequency-descent"
    if not large:
        # the optimum may lie too near the border for a proof
        move = None if best is None else reach(every, spectral, best) * (best - spectral)
        near = [] if move is None else [spectral + q * move for q in (1.0, 1 - 1e-5, 1 - 1e-3, 0.99, 0.9)]
        named = [(name, lam) for lam in near] + [("frequency-spectral", spectral)]
        yield from named if tail else sorted(named, key=lambda one: every.value(one[1]))
        return
    ends = [(best, name), (spectral, "frequency-spectral")]
    for lam, called in ((lam, called) for lam, called in ends if lam is not None):
        for factor in (1.0, 1 - 1e-3, 0.99, 0.97, 0.9, 0.7):
            powers = np.repeat(np.arange(1, len(found.planned.channels) + 1), found.planned.channels)
            yield called, lam * factor**powers


def coarser(planned: Plan, most: float, size: Callable[[Plan], float] = work, rows: int = 0) -> Plan:
    """The same with so few frequencies that their inequalities have at most so many entries (or `passes`): for proposals.

    In front of a head of so many rows at least twice as many numbers are left.
    """
    while size(planned) > most and max(planned.points) > 2:
        points = list(planned.points)
        axis = int(np.argmax(points))
        points[axis] = max(2, points[axis] * 2 // 3)
        fewer = replace(planned, points=tuple(points))
        if prod(fewer.torus(planned.stop)) * planned.views[planned.stop].channels < 2 * rows:
            break
        planned = fewer
    return planned


def _tail(found: Split) -> Stages | None:
    """What stands behind the head, as a chain of matrices; None where nothing or something else does."""
    if found.end is None or found.end == found.network.output:
        return None
    with suppress(NotProvable):
        return stages(found.network.between(found.end, found.network.output))
    return None


def _descended(task: Task, found: Split, tail: Stages | None) -> Vector | None:
    """Balanced and then by descent on a coarse torus, and from there on the finest one that a search can hold."""
    end = time.monotonic() + (task.left / 2 if task.left < inf else SECONDS)
    behind, neurons = ((), ()) if tail is None else dense_stages(tail, len(found.planned.channels))
    fine, heads = coarser(found.planned, MEMORY), 0 if found.F is None else len(found.F)
    coarse = coarser(fine, COARSE, passes, heads)

    def better(row: Row, lam: Vector, share: float, first: float) -> Vector:
        left = share * (end - time.monotonic())
        if passes(row.waves.plan) > STEP or left <= 0:
            return lam
        found = descend(
            row.waves, lam, behind, neurons, goes_on=task.goes_on, seconds=left, steps=STEPS, first=first
        )
        return lam if found is None else min((lam, found), key=row.value)

    row = Row(waves(coarse, found.F), behind, neurons)
    shares = balanced(row, (end - time.monotonic()) / 4)
    if shares is None:
        return None
    inner = np.minimum(shares, INNER)
    starts = [row.multipliers(some)[1] for some in (shares, inner)]
    lam = min((starts[0], better(row, starts[1], 0.7, FIRST)), key=row.value)
    if coarse.points != fine.points:
        row = Row(waves(fine, found.F), behind, neurons)
        value, start = row.multipliers(inner)
        if not value < inf:
            return None
        lam = better(row, row.drawn(start, lam), 1.0, NEAR)
    return lam[: sum(found.planned.channels)]


def seconds(network: Network) -> float:
    """About how long the search and the proof take."""
    planned = split(network).planned
    proof, search = cubes(planned) * 60 / SPEED, passes(coarser(planned, MEMORY))
    joint = order_of(planned, 0, planned.stop) ** 3.0 * 20
    return 1.0 + 3 * proof + min(60.0, 3e4 * min(search, joint) / SPEED if search < STEP else 0.0)


def proven(task: Task, found: Split, proposals: Candidates) -> Iterator[Proven]:
    """The proof of the first candidate that proves something."""
    for name, lam in proposals:
        with suppress(NotProvable, np.linalg.LinAlgError):
            bound, proof = conclude(task, found, lam)
            yield Proven(bound, proof, name)
            return


def conclude(task: Task, found: Split, lam: Vector) -> tuple[float, Proof]:
    """What multipliers prove.

    Raises:
        NotProvable: nothing.
    """
    planned = found.planned
    own = np.split(lam, np.cumsum(planned.channels)[:-1])
    by_value = dict(zip(planned.unknowns, own, strict=True))
    if found.F is None or found.end is None:
        return stationary_proof(found.network, planned, by_value)
    T, exponent = front(planned, carried(planned, by_value, whole_way=True), found.F)
    R = np.ldexp(np.linalg.cholesky(T.mid * (1 + 1e-9) + np.diag(T.mid.diagonal()) * 1e-9), exponent)
    tail = best_behind(task.about(behind(found.network, found.end, R)))
    proof = Proof(
        "frequency", {"multipliers": own, "cut": planned.stop, "head": found.end, "R": R}, (tail.proof,)
    )
    return task.conclude(proof), proof


def best_behind(task: Task) -> Proven:
    """The best proof of a dense network."""
    found, active = list[Proven](), any(isinstance(node.op, Activation) for node in task.network.nodes)
    for method in (product, composite, lipsdp, riccati) if active else (product,):
        best = any(one.method == "lipsdp-neuron" and one.status is Status.OPTIMAL for one in found)
        if method.unfit(task.network) is None and not (best and method is riccati):  # it cannot beat the best
            with suppress(NotProvable):
                found.extend((lipsdp.neuron if method is lipsdp else method.propose)(task))
    if not found:
        raise NotProvable("Nothing is proven of what stands behind the convolutions.")
    return min(found, key=lambda one: one.bound)
