"""From proposed multipliers to what they prove, of a chain stage by stage and of any network by one inequality."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Literal

import numpy as np

from sdplip.bounds.increments import Increments, compressed
from sdplip.bounds.numerics.chain import Chain, Proposal, living_chain
from sdplip.bounds.numerics.chain_proof import chain_proof
from sdplip.bounds.numerics.joint_proof import joint_proof
from sdplip.bounds.task import Proven, Task
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.stages import linear_parts
from sdplip.kernel.system import variables
from sdplip.network import LARGEST, Activation, Network, is_linear
from sdplip.solvers.solution import Status

QUIET: dict[Literal["over", "invalid", "divide"], Literal["ignore"]] = {
    "over": "ignore",
    "invalid": "ignore",
    "divide": "ignore",
}
"""What is not finite is not proven."""
SYSTEM_ORDER = 3000
"""Inputs and nonlinear variables up to which one dense inequality is tried."""


def no_chain(network: Network) -> str | None:
    """Why a network is no chain of matrices that may be formed; None where it is one."""
    try:
        for start, end in linear_parts(network):
            if start == end:
                continue
            inside = network.between(start, end)
            if not all(is_linear(node.op) for node in inside.nodes):
                return "activations stand in branches"
            if network.length(start) * max(node.op.outputs for node in inside.nodes) > LARGEST:
                return f"a dense matrix of more than {LARGEST} entries is needed"
    except NotProvable as error:
        return str(error)
    except InvalidProblem:
        return "branches pass its activations by"
    return None


def no_system(network: Network) -> str | None:
    """Why a network is no system of increments that may be formed; None where it is one."""
    order = narrow_inputs(network) + variables(network)
    if order > SYSTEM_ORDER:
        return f"{order} inputs and nonlinear variables are more than the {SYSTEM_ORDER} that a dense inequality takes"
    if max(network.inputs, *(node.op.outputs for node in network.nodes)) * order > LARGEST:
        return f"a dense matrix of more than {LARGEST} entries is needed"
    return None


def bypassed(network: Network) -> bool:
    """Whether some neurons have a single slope that is not 0, as on a region, and the others fit one dense inequality: there the
    single ones cost nothing, while the metrics of a chain have to carry them."""
    single = (
        ((node.op.alpha == node.op.beta) & (node.op.alpha != 0)).any()
        for node in network.nodes
        if isinstance(node.op, Activation) and not is_linear(node.op)
    )
    return any(single) and no_system(network) is None


def narrow_inputs(network: Network) -> int:
    """Inputs of the network, with a square first matrix in place of a wide one."""
    first = next((k for k, node in enumerate(network.nodes, 1) if not is_linear(node.op)), network.output)
    return min([network.inputs, *(network.length(cut) for cut in network.cuts if cut < first)])


def by_chain(task: Task, proposals: Mapping[str, Callable[[Chain], Proposal]]) -> Iterator[Proven]:
    """The best of what some proposals prove of a chain; where all break down, what equal multipliers prove."""
    part = living_chain(task.parts)
    equal = tuple(rows.astype(float) for rows in part.alive)
    if part.constant:
        bound, proof = chain_proof(task, task.parts, equal)
        yield Proven(bound, proof, next(iter(proposals)))
        return
    found = list[Proven]()
    for name, propose in proposals.items():
        with suppress(NotProvable, np.linalg.LinAlgError), np.errstate(**QUIET):
            proposal = propose(part.chain)
            bound, proof = chain_proof(task, task.parts, part.expand(proposal.multipliers), proposal.widen)
            found.append(Proven(bound, proof, name, proposal.status, proposal.sdp_lower, proposal.iterations))
    if not found:
        bound, proof = chain_proof(task, task.parts, equal)
        found.append(Proven(bound, proof, "equal", Status.FAILED))
    yield min(found, key=lambda proven: proven.bound)


def by_system(task: Task, name: str, propose: Callable[[Increments], Proposal]) -> Iterator[Proven]:
    """What a proposal proves of the system of increments of a network, narrowed first where its first matrix is wide."""
    inner = task.narrow or task
    with suppress(np.linalg.LinAlgError), np.errstate(**QUIET):
        proposal = propose(compressed(inner.system))
        multipliers = _positive(proposal.multipliers[0], inner.system)
        bound, proof = joint_proof(inner, inner.system, multipliers)
        proof = Proof("narrow", {}, (proof,)) if inner is not task else proof
        yield Proven(bound, proof, name, proposal.status, proposal.sdp_lower, proposal.iterations)


def _positive(multipliers: np.ndarray, system: Increments) -> np.ndarray:
    """Where an output does not see some neurons, or none, solvers leave their multipliers at 0, which proves nothing."""
    least = 1e-12 * float(multipliers.max(initial=0.0))
    if least < 1e-60:
        least = 1e-12 * float((system.out**2).sum()) / max(float((system.y**2).sum()), 1e-200)
    return np.maximum(multipliers, max(least, 1e-40))
