r"""From Euclidean lengths to the largest output: the largest bound of one output, by the rule `rows`.

Outputs are bounded one after the other, that of the largest product bound first. One that is proven to be no larger than the
largest so far is done: by its product bound, or with the multipliers of that largest one, which cost a factorization instead of
a solve.
"""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
from jaxtyping import Float

from sdplip.bounds.methods.product import implicit, layers_proof, linear_starts
from sdplip.bounds.numerics.chain_proof import chain_proof
from sdplip.bounds.numerics.shared import SharedMultipliers
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.rows import output, row_lengths
from sdplip.network import LARGEST, Network

Vector = Float[np.ndarray, " n"]
Solve = Callable[[Task], Proven]
CLOSE = 1 - 1e-8
"""A multiple of shared multipliers is tried where it should prove this much of a bound."""


def propose(task: Task, solve: Solve) -> tuple[int, Proven]:
    """The output with the largest bound, and the proof of all.

    Args:
        task: with the norm "linf".
        solve: the bound of one output.
    """
    network = task.network
    behind, front, caps = _caps(task)
    order = [int(i) for i in np.argsort(-caps, kind="stable")]
    at = order[0]
    found = {at: solve(task.about(output(network, at)))}
    for i in order[1:]:
        if caps[i] <= found[at].bound:
            continue
        other = task.about(output(network, i))
        shared = _shared(other, found[at])
        found[i] = solve(other) if shared is None else shared
        if found[i].bound > found[at].bound:
            at = i
    outputs = sorted(i for i in found if found[i].bound < caps[i])
    proof = Proof(
        "rows",
        {"behind": behind, "outputs": outputs},
        ((front,) if behind else ()) + tuple(found[i].proof for i in outputs),
    )
    best = found[at]
    iterations = sum(result.iterations for result in found.values())
    return at, Proven(task.conclude(proof), proof, best.method, best.status, best.sdp_lower, iterations)


def _caps(task: Task) -> tuple[int, Proof, Vector]:
    """A value from which the outputs are linear, the product bound up to there, and what follows of every output."""
    network, starts = task.network, linear_starts(task.network, task.network.output)
    fit = [start for start in starts if _entries(network.between(start, network.output)) <= LARGEST]
    behind = fit[-1] if fit else network.output
    if behind == 0:
        return 0, Proof("layers"), row_lengths(network)
    before = task.about(network.between(0, behind))
    front = layers_proof(before.network, implicit(before.network))
    lengths = row_lengths(network.between(behind, network.output)) if fit else np.ones(network.outputs)
    return behind, front, np.nextafter(before.conclude(front) * lengths, np.inf)


def _shared(task: Task, other: Proven) -> Proven | None:
    """The output of the task by the multipliers of another one, if they prove no more than was proven of that."""
    proof = other.proof
    with suppress(NotProvable, np.linalg.LinAlgError):
        if proof.rule == "chain":
            multipliers = tuple(np.asarray(v, np.float64) for v in proof.data["multipliers"])
            bound, found = chain_proof(task, task.parts, multipliers, proof.data.get("widen", 0.0))
            return Proven(bound, found, "multipliers of another output") if bound <= other.bound else None
        inner, found = (task.narrow, proof.parts[0]) if proof.rule == "narrow" else (task, proof)
        if found.rule != "joint" or inner is None:
            return None
        common = SharedMultipliers.of(inner.system, found.data["multipliers"])
        kappa, theta = common.best_of(inner.system.out[0])
        if not kappa < other.bound**2 * CLOSE:
            return None
        found = Proof(
            "joint", {"multipliers": theta * found.data["multipliers"], "kappa": other.bound**2 * CLOSE}
        )
        found = Proof("narrow", {}, (found,)) if inner is not task else found
        return Proven(task.conclude(found), found, "multipliers of another output")
    return None


def _entries(network: Network) -> int:
    return network.inputs * max(node.op.outputs for node in network.nodes)
