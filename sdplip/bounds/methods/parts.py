"""Part by part: a network cut where everything passes through, at its maxima over windows first, each part by its best bound.

Maxima over windows lengthen no difference by more than the root of their overlap, and the constants of parts multiply. Cutting
is sound and loses what a joint inequality could gain.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from sdplip.bounds.methods.equilibrium import implicit_spans
from sdplip.bounds.methods.multipliers import no_chain, no_system
from sdplip.bounds.methods.product import implicit, layers_proof
from sdplip.bounds.task import Proven, Task
from sdplip.kernel.rules.closed import node_factor
from sdplip.network import AbstractLinear, Concatenate, Maximum, Network, Sum

Solve = Callable[[Task], Proven | None]


def segments(network: Network) -> list[tuple[int, int]]:
    """First and last values of the parts that are worth a bound of their own; one where there is nothing to cut.

    Between maxima over windows, and implicit layers with the matrices around them; and where such a part is too large for one
    inequality and no chain, in as few as fit.
    """
    found, start = list[tuple[int, int]](), 0
    spans = {end: begin for begin, end in implicit_spans(network)}
    for cut in network.cuts[1:]:
        if cut in spans and spans[cut] >= start:
            found, start = [*found, (start, spans[cut]), (spans[cut], cut)], cut
        if isinstance(network.made(cut).op, Maximum):
            (below,) = network.made(cut).inputs
            found, start = [*found, (start, below)], cut
    found.append((start, network.output))
    return [part for whole in found for part in _divided(network, *whole) if _is_worth(network, *part)]


def propose(task: Task, solve: Solve) -> Iterator[Proven]:
    """The product of the bounds of the parts, each by `solve`."""
    cuts, results = segments(task.network), list[tuple[int, int, Proven | None]]()
    for k, (start, end) in enumerate(cuts):
        share = task.left / (len(cuts) - k + 1)  # one more for the proof of all
        part = replace(task.about(task.network.between(start, end)), deadline=time.monotonic() + share)
        results.append((start, end, solve(part)))
    given = [(start, end, found.proof) for start, end, found in results if found is not None]
    proof = layers_proof(task.network, [*given, *implicit(task.network, given)])
    solved = [found for _, _, found in results if found is not None]
    largest = max(solved, key=lambda found: found.iterations, default=None)
    name = "product" if largest is None else largest.method
    yield Proven(
        task.conclude(proof),
        proof,
        f"{name} of the parts",
        iterations=sum(found.iterations for found in solved),
    )


def _divided(network: Network, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A part, or as few parts of it as one inequality each can take."""
    if start == end:
        return
    inside = network.between(start, end)
    if no_chain(inside) is None or no_system(inside) is None:
        yield start, end
        return
    stops = [cut for cut in network.cuts if start < cut <= end]
    at = start
    for k, cut in enumerate(stops):
        following = stops[k + 1] if k + 1 < len(stops) else None
        if following is None or no_system(network.between(at, following)) is not None:
            yield at, cut
            at = cut


def _is_worth(network: Network, start: int, end: int) -> bool:
    """Whether a part has more than one node that needs a proof."""
    ops = [node.op for node in network.between(start, end).nodes]
    hard = [op for op in ops if not isinstance(op, Sum | Concatenate) and node_factor(op) is None]
    return len(hard) > 1 and any(not isinstance(op, AbstractLinear) for op in ops)
