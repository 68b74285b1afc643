"""The product of proven norms along the graph, sums where it adds: the bound that every other one must beat, at any size.

Neighbouring linear nodes are taken as one matrix where that is small, because the norm of a product is not above the product
of norms; convolutions and other large operators stay what they are.
"""

from collections.abc import Iterator

from sdplip.bounds.methods import equilibrium
from sdplip.bounds.methods.norm import folded_convolution, is_small, norm_proof, summed_images
from sdplip.bounds.methods.residual import residual_spans
from sdplip.bounds.methods.sandwich import sandwich_spans
from sdplip.bounds.task import Proven, Task
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.closed import node_factor
from sdplip.network import Concatenate, Network, Operator, Sum, is_linear

Spans = list[tuple[int, int, Proof]]


def unfit(network: Network) -> str | None:  # noqa: ARG001
    """Why the method does not take this network: it takes all."""
    return None


def propose(task: Task) -> Iterator[Proven]:
    """One proof; residual, sandwich and implicit layers as what they are."""
    proof = product_proof(task.network)
    yield Proven(task.conclude(proof), proof, "product")


def product_proof(network: Network) -> Proof:
    """The proof of the product, residual, sandwich and implicit layers of one piece."""
    return layers_proof(network, [*residual_spans(network), *sandwich_spans(network), *implicit(network)])


def implicit(network: Network, given: Spans | None = None) -> Spans:
    """Start, end and proof of every implicit layer outside of `given` spans, the matrices around it included.

    Raises:
        NotProvable: that an equilibrium exists could not be proven.
    """
    found = Spans()
    for start, end in equilibrium.implicit_spans(network):
        if any(a <= start and end <= b for a, b, _ in given or []):
            continue
        (best,) = equilibrium.propose(Task(network.between(start, end)))
        found.append((start, end, best.proof))
    return found


def layers_proof(network: Network, given: Spans | None = None) -> Proof:
    """A proof by the rule `layers`; `given` spans replace what is between their ends, norms of linear nodes are added."""
    spans = {end: (start, proof) for start, end, proof in given or []}
    ends = frozenset(spans)
    wanted = {network.output}
    for k in range(network.output, 0, -1):
        if k not in wanted:
            continue
        if k not in spans and (start := _start(network, k, ends)) is not None:
            try:
                spans[k] = start, norm_proof(network.between(start, k))
            except NotProvable:
                if not isinstance(network.made(k).op, Sum):
                    raise  # what a sum adds has proofs of its own
        wanted |= {spans[k][0]} if k in spans else set(network.made(k).inputs)
    used = sorted(k for k in spans if k in wanted)
    return Proof("layers", {"spans": [[spans[k][0], k] for k in used]}, tuple(spans[k][1] for k in used))


def _start(network: Network, end: int, ends: frozenset[int]) -> int | None:
    """Where the linear nodes begin whose norm is proven together up to value `end`, behind the `ends` of given spans; None where a
    closed form is as good."""
    op = network.made(end).op
    if not is_linear(op):
        return None
    for start in reversed(linear_starts(network, end, ends)):
        inside = network.between(start, end)
        hard = [node for node in inside.nodes if not _is_closed(node.op)]
        if len(inside.nodes) > 1 and _is_one(inside):
            return start
        if len(inside.nodes) == 1 and hard:
            return start
    return None


def _is_one(network: Network) -> bool:
    """Whether linear nodes are proven as one map."""
    return is_small(network) or folded_convolution(network) is not None or summed_images(network) is not None


def _is_closed(op: Operator) -> bool:
    return isinstance(op, Sum | Concatenate) or node_factor(op) is not None


def linear_starts(network: Network, end: int, stops: frozenset[int] = frozenset()) -> list[int]:
    """The values from which value `end` is made by linear nodes alone, nearest first, none in front of one of `stops`."""
    found, front = list[int](), {end}
    while True:
        k = max(front)
        if k == 0 or not is_linear(network.made(k).op) or (k in stops and k != end):
            return found
        front = (front - {k}) | set(network.made(k).inputs)
        if len(front) == 1 and _is_alone(network, start := next(iter(front)), end):
            found.append(start)


def _is_alone(network: Network, start: int, end: int) -> bool:
    try:
        network.between(start, end)
    except InvalidProblem:
        return False
    return True
