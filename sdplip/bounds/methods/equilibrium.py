"""Networks with implicit layers: that the equilibria exist, and the best multipliers of all neurons, by interior point."""

from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from sdplip.arithmetic.semidefinite import proves
from sdplip.bounds.increments import Increments, compressed
from sdplip.bounds.methods.multipliers import QUIET, no_system
from sdplip.bounds.numerics.joint_proof import joint_proof
from sdplip.bounds.task import Proven, Task
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.equilibrium import existence
from sdplip.kernel.system import expand
from sdplip.network import Dense, Equilibrium, Grouped, Maximum, Network, Node, Norms, Sort, is_linear
from sdplip.solvers.solution import Status

Vector = np.ndarray
Spans = list[tuple[int, int, Proof]]


def is_implicit(network: Network) -> bool:
    """Whether the network has implicit layers."""
    return any(isinstance(node.op, Equilibrium) for node in network.nodes)


def unfit(network: Network) -> str | None:
    """Why "equilibrium" does not take this network."""
    if not is_implicit(network):
        return "it has no implicit layer"
    if any(isinstance(node.op, Sort | Grouped | Norms | Maximum) for node in network.nodes):
        return "sorted groups and maxima stand beside its implicit layer"
    return no_system(network)


def propose(task: Task) -> Iterator[Proven]:
    """One proof of existence and constant.

    Raises:
        NotProvable: no multipliers prove that the equilibria exist.
    """
    from sdplip.bounds.numerics.existence import inner, lipsdp, well_posed  # loads torch

    less = task.narrow or task
    system = Increments.of(expand(less.network, implicit=True))
    own = existences(less.network)
    found = False
    with np.errstate(**QUIET):
        start = well_posed(inner(system))
        for multipliers, status, lower, iterations in _proposals(system, start, lipsdp, task):
            with suppress(NotProvable):
                bound, proof = joint_proof(less, system, multipliers, "equilibrium", {"existence": own})
                proof = proof if less is task else Proof("narrow", {}, (proof,))
                found = True
                yield Proven(bound, proof, "equilibrium", status, lower, iterations)
                return
    if not found:
        raise NotProvable(
            "No finite bound of this equilibrium network could be proven: it is too near to having no equilibrium. Scale W down."
        )


def _proposals(system: Increments, start: Vector, lipsdp, task: Task):
    """The best multipliers, and closed ones where those prove nothing."""
    with suppress(np.linalg.LinAlgError):
        best = lipsdp(compressed(system), start, task.pace(), device=task.device)
        lam = best.multipliers[0]
        yield lam, best.status, best.sdp_lower, best.iterations
        for share in (1e-9, 1e-6, 1e-3):  # a little of what is certainly well posed
            yield (
                lam + share * float((lam / start).max()) * start,
                Status.INACCURATE,
                best.sdp_lower,
                best.iterations,
            )
    for scale in (1.0, 1e3, 1e-3):
        yield start * scale * max(float((system.out**2).sum()), 1e-200), Status.FAILED, None, 0


def existences(network: Network) -> tuple[Vector, ...]:
    """Multipliers that the kernel takes as a proof of existence, one vector an implicit layer.

    Raises:
        NotProvable: none were found.
    """
    from sdplip.bounds.numerics.existence import inner, well_posed  # loads torch

    found = []
    for node in network.nodes:
        if isinstance(node.op, Equilibrium):
            alone = Network((node.op.inputs,), (Node(node.op, (0,), (node.op.outputs,)),))
            with np.errstate(**QUIET):
                multipliers = well_posed(inner(Increments.of(expand(alone, implicit=True))))
            if not proves(existence(node.op, multipliers)):
                raise NotProvable(
                    "That an equilibrium exists could not be proven: the network is too near to having none. Scale W down."
                )
            found.append(multipliers)
    return tuple(found)


def implicit_spans(network: Network) -> list[tuple[int, int]]:
    """Of each implicit layer first and last value of the span that is bounded with it: the matrix in front, and the one behind."""
    found = list[tuple[int, int]]()
    for k, node in enumerate(network.nodes, 1):
        if not isinstance(node.op, Equilibrium):
            continue
        start, end = node.inputs[0], k
        if start and isinstance(network.made(start).op, Dense) and network.users[start] == (k,):
            start = network.made(start).inputs[0]
        after = network.users[k]
        if len(after) == 1 and is_linear(network.made(after[0]).op) and network.made(after[0]).inputs == (k,):
            end = after[0]
        with suppress(InvalidProblem):
            if no_system(network.between(start, end)) is None:
                found.append((start, end))
                continue
        found.append((node.inputs[0], k))
    return found
