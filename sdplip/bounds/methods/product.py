"""The product of proven norms along the graph, sums where it adds: the bound that every other one must beat, at any size.

Neighbouring linear nodes are taken as one matrix where that is small, because the norm of a product is not above the product
of norms; convolutions and other large operators stay what they are.
"""

from collections.abc import Iterator

from sdplip.bounds.methods.norm import norm_proof
from sdplip.bounds.task import Proven, Task
from sdplip.errors import InvalidProblem
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.closed import node_factor
from sdplip.network import AbstractLinear, Concatenate, Dense, Network, Sum, is_linear

SMALL = 1 << 22
"""Entries of the largest matrix that neighbouring linear nodes are multiplied to."""
Spans = list[tuple[int, int, Proof]]


def unfit(network: Network) -> str | None:  # noqa: ARG001
    """Why the method does not take this network: it takes all."""
    return None


def propose(task: Task) -> Iterator[Proven]:
    """One proof."""
    proof = layers_proof(task.network)
    yield Proven(task.conclude(proof), proof, "product")


def layers_proof(network: Network, given: Spans | None = None) -> Proof:
    """A proof by the rule `layers`; `given` spans replace what is between their ends, norms of linear nodes are added."""
    spans = {end: (start, proof) for start, end, proof in given or []}
    wanted = {network.output}
    for k in range(network.output, 0, -1):
        if k not in wanted:
            continue
        if k not in spans and (start := _start(network, k)) is not None:
            spans[k] = start, norm_proof(network.between(start, k))
        wanted |= {spans[k][0]} if k in spans else set(network.made(k).inputs)
    used = sorted(k for k in spans if k in wanted)
    return Proof("layers", {"spans": [[spans[k][0], k] for k in used]}, tuple(spans[k][1] for k in used))


def _start(network: Network, end: int) -> int | None:
    """Where the linear nodes begin whose product ends in value `end`; None where closed forms are as good."""
    op = network.made(end).op
    if not is_linear(op):
        return None
    starts = [start for start in linear_starts(network, end) if _is_small(network, start, end)]
    alone = isinstance(op, AbstractLinear) and node_factor(op) is None
    if not starts or (alone and starts[-1] == network.made(end).inputs[0]):
        return network.made(end).inputs[0] if alone else None
    start = starts[-1]
    inside = network.between(start, end).nodes
    if len(inside) == 1 and not alone:
        return None
    return start


def linear_starts(network: Network, end: int) -> list[int]:
    """The values from which value `end` is made by linear nodes alone, nearest first."""
    found, front = list[int](), {end}
    while True:
        k = max(front)
        if k == 0 or not is_linear(network.made(k).op):
            return found
        front = (front - {k}) | set(network.made(k).inputs)
        if len(front) == 1:
            found.append(next(iter(front)))


def _is_small(network: Network, start: int, end: int) -> bool:
    try:
        inside = network.between(start, end)
    except InvalidProblem:
        return False
    if all(
        isinstance(node.op, Sum | Concatenate) or node_factor(node.op) is not None for node in inside.nodes
    ):
        return len(inside.nodes) > 1 and _entries(inside) <= SMALL
    return (len(inside.nodes) == 1 and isinstance(inside.nodes[0].op, Dense)) or _entries(inside) <= SMALL


def _entries(network: Network) -> int:
    """Of the largest matrix on the way."""
    return network.inputs * max(node.op.outputs for node in network.nodes)
