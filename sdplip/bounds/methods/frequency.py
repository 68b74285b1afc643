r"""Convolutions frequency by frequency, with the best multiplier of each channel; what stands behind them is treated as dense.

The rule `frequency` proves. Multipliers are proposed by the spectral closed form and by `numerics.channels`, which finds the best ones over all
frequencies; of larger networks on a coarse torus first, whose optimum is drawn towards what is feasible on the whole one.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.matrix import Enclosure
from sdplip.bounds.methods import composite, lipsdp, product, riccati
from sdplip.bounds.numerics.channels import best_channels, drawn
from sdplip.bounds.numerics.descent import behind_head, dense_stages, descend
from sdplip.bounds.numerics.waves import waves, work
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.frequencies import grid
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.frequency import (
    Metric,
    behind,
    behind_segment,
    carried,
    front,
    head,
    inequalities,
    shadow,
)
from sdplip.kernel.stages import Stages, stages
from sdplip.kernel.stationary import Key, Plan, plan
from sdplip.network import Activation, Network

HEAD = 256
"""Outputs of what stands behind the convolutions up to which a joint proof is tried."""
MEMORY = 3e7
"""Complex entries of all inequalities up to which a search holds them at once."""
COARSE = 2e5
"""The same of the torus on which a descent begins."""
SECONDS = 60.0
"""That the descent takes at most, where no deadline is nearer."""
ROOMS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-4)
"""By which a bound is tried above its estimate."""

Vector = Float[np.ndarray, " p"]


@dataclass(frozen=True, eq=False)
class Split:
    """A stationary part, from the input, and what stands behind it: nothing, or a linear map up to value `end`."""

    planned: Plan
    end: int | None = None
    F: Enclosure | None = None


def split(network: Network) -> Split:
    """The longest stationary part with activations that is worth a joint proof.

    Raises:
        NotProvable: there is none.
    """
    with suppress(NotProvable):
        planned = plan(network, network.output)
        if planned.unknowns:
            return Split(planned)
    failed = "no convolution stands in front of an activation."
    for cut in reversed(network.cuts[1:-1]):
        if not isinstance(network.made(cut).op, Activation):
            continue
        try:
            planned, end = plan(network, cut), behind_cut(network, cut)
            if end is not None and planned.unknowns:
                return Split(planned, end, head(network, cut, end))
            failed = f"a linear map of at most {HEAD} outputs is needed behind convolutions."
        except NotProvable as error:
            failed = str(error)
    raise NotProvable(f"There is nothing to prove frequency by frequency: {failed}")


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
    return proven(task, found, candidates(task, found))


Candidates = Iterator[tuple[str, Vector]]


def candidates(task: Task, found: Split) -> Candidates:
    """Multipliers by the name of what proposes them, most promising first."""
    large = work(found.planned) > MEMORY
    every = waves(coarser(found.planned, MEMORY), found.F)
    spectral = every.spectral()
    if spectral is None:
        return
    tail = _tail(task.network, found)
    best = None if tail else best_channels(every, spectral)
    name = "frequency-optimal"
    if best is None:
        best, name = _descended(task, found, tail), "frequency-descent"
    if best is not None and not large:
        # the optimum may lie too near the border for a proof
        for part in (1.0, 1 - 1e-5, 1 - 1e-3, 0.99, 0.9):
            yield name, drawn(every, spectral, best, part)
    for lam, called in ((best, name), (spectral, "frequency-spectral")):
        for factor in (1.0, 1 - 1e-3, 0.99, 0.97, 0.9, 0.7) if large and lam is not None else ():
            powers = np.repeat(np.arange(1, len(found.planned.channels) + 1), found.planned.channels)
            yield called, lam * factor**powers
    if not large:
        yield "frequency-spectral", spectral


def coarser(planned: Plan, entries: float) -> Plan:
    """The same with so few frequencies that their inequalities have at most so many entries: for proposals."""
    points = list(planned.points)
    while work(replace(planned, points=tuple(points))) > entries and max(points) > 2:
        axis = int(np.argmax(points))
        points[axis] = max(2, points[axis] * 2 // 3)
    return replace(planned, points=tuple(points))


def _tail(network: Network, found: Split) -> Stages | None:
    """What stands behind the head, as a chain of matrices; None where nothing or something else does."""
    if found.end is None or found.end == network.output:
        return None
    with suppress(NotProvable):
        return stages(network.between(found.end, network.output))
    return None


def _descended(task: Task, found: Split, tail: Stages | None) -> Vector | None:
    """By descent, on a coarse torus first, then on the finest one that a search can hold."""
    lam, behind, neurons, begin = None, (), (), time.monotonic()
    count = sum(found.planned.channels)
    if tail is not None:
        behind, neurons = dense_stages(tail, len(found.planned.channels))
    fine = coarser(found.planned, MEMORY)
    for planned, steps in ((coarser(fine, COARSE), 600), (fine, 100)):
        if steps == 100 and lam is not None and planned.points == coarser(fine, COARSE).points:
            break
        every = waves(planned, found.F)
        spectral = every.spectral()
        if spectral is None:
            return None
        starts = [spectral] if lam is None else [drawn(every, spectral, lam[:count], 1 - 1e-3), spectral]
        for start in starts:
            given = start if tail is None else behind_head(every, start, behind)
            left = min(SECONDS, task.left / 2) - (time.monotonic() - begin)
            if given is None:
                continue
            better = descend(every, given, behind, neurons, goes_on=task.goes_on, seconds=left, steps=steps)
            if better is not None:
                lam = better
                break
    return None if lam is None else lam[:count]


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
        rho, exponent = _estimate(planned, by_value)
        for room in ROOMS:
            c = float(np.ldexp(np.sqrt(rho * (1 + room)), exponent))
            proof = Proof("frequency", {"multipliers": own, "c": c})
            with suppress(NotProvable):
                return task.conclude(proof), proof
        raise NotProvable("These multipliers prove nothing.")
    T, exponent = front(planned, carried(planned, by_value, whole_way=True), found.F)
    R = np.ldexp(np.linalg.cholesky(T.mid * (1 + 1e-9) + np.diag(T.mid.diagonal()) * 1e-9), exponent)
    tail = best_behind(task.about(behind(task.network, found.end, R)))
    proof = Proof(
        "frequency", {"multipliers": own, "cut": planned.stop, "head": found.end, "R": R}, (tail.proof,)
    )
    return task.conclude(proof), proof


def best_behind(task: Task) -> Proven:
    """The best proof of a dense network."""
    found = list[Proven]()
    methods = (product, riccati, composite, lipsdp)
    for method in (
        methods if any(isinstance(node.op, Activation) for node in task.network.nodes) else (product,)
    ):
        if method.unfit(task.network) is None:
            with suppress(NotProvable):
                found.extend((lipsdp.neuron if method is lipsdp else method.propose)(task))
    if not found:
        raise NotProvable("Nothing is proven of what stands behind the convolutions.")
    return min(found, key=lambda one: one.bound)


def _estimate(planned: Plan, multipliers: dict[Key, Vector]) -> tuple[float, int]:
    r"""$\rho$ and the power of two of the bound, by the metrics that the rule uses, in floating point."""
    n, worst, exponent = planned.views[0].channels, 0.0, 0
    now = Metric(np.broadcast_to(np.eye(n, dtype=complex), (len(grid(planned.torus(0)).points), n, n)), 0)
    for start, end in planned.segments:
        found = list[np.ndarray]()
        for part, re, im in inequalities(planned, start, end, now, multipliers):
            M, exponent = re.mid + 1j * im.mid, part.exponent
            if end == planned.stop:
                A, B = part.matrix(part.out, len(M))
                S = shadow(M, A.mid + 1j * B.mid)
                if S is None:
                    raise NotProvable("These multipliers leave no metric positive definite.")
                worst = max(worst, float(np.linalg.eigvalsh(S)[:, -1].max()))
                continue
            X = behind_segment(part, M)
            if X is None:
                raise NotProvable("These multipliers leave no metric positive definite.")
            found.append(X)
        if found:
            now = replace(now, X=np.concatenate(found), exponent=exponent)
    return worst, exponent
