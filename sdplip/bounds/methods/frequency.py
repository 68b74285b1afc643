r"""Convolutions frequency by frequency, with the best multiplier of each channel; what stands behind them is treated as dense.

The rule `frequency` proves. Multipliers are proposed by the spectral closed form and by `numerics.channels`, which finds the best ones over all
frequencies; of larger networks on a coarse torus first, whose optimum is drawn towards what is feasible on the whole one.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.matrix import Enclosure
from sdplip.bounds.methods import composite, lipsdp, product, riccati
from sdplip.bounds.numerics.channels import best_channels, drawn
from sdplip.bounds.numerics.waves import waves
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
from sdplip.kernel.stationary import Plan, plan
from sdplip.network import Activation, Network

HEAD = 256
"""Outputs of what stands behind the convolutions up to which a joint proof is tried."""
MEMORY = 3e7
"""Complex entries of all inequalities up to which a search holds them at once."""
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
    every = waves(found.planned, found.F)
    spectral = every.spectral()
    if spectral is None:
        return
    best = best_channels(every, spectral)
    if best is not None:
        # the optimum may lie too near the border for a proof
        for part in (1.0, 1 - 1e-5, 1 - 1e-3, 0.99, 0.9):
            yield "frequency-optimal", drawn(every, spectral, best, part)
    yield "frequency-spectral", spectral


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


def _estimate(planned: Plan, multipliers: dict[int, Vector]) -> tuple[float, int]:
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
