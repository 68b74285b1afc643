r"""Rule `layers`: constants carried forward through the graph, node by node or span by span.

$L = 1$ at the input; $\sum_k L_k$ behind a sum, $\sqrt{\sum_k L_k^2}$ behind values side by side, and a node of one
value multiplies by its own constant. Where a *span* from value a to value b has a proof, $L_b$ is what it proves times
$L_a$, and nothing between them is looked at. Maxima over windows lengthen no difference by more than $\sqrt\nu$, where
no entry lies in more than $\nu$ windows.

Data: `spans`, pairs `[a, b]`; one part each, the proof of the network between the two. Nodes whose constant has no
closed form (dense matrices, convolutions) need a span."""

from math import inf

import numpy as np

from sdplip.arithmetic.rounding import up
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.closed import node_factor
from sdplip.kernel.surgery import between
from sdplip.network import Concatenate, Network, Node, Sum

Spans = dict[int, tuple[int, Proof]]
"""By their ends, the starts and proofs of spans."""


def layers(goal: Goal, proof: Proof, prove: Prove) -> float:
    """The constant of the output value."""
    return constants(goal.network, proof, prove)[goal.network.output]


def constants(network: Network, proof: Proof, prove: Prove) -> dict[int, float]:
    """The constants of all values that the output needs, but for those inside of spans.

    Raises:
        NotProvable: malformed data, a node whose constant has no closed form and no span.
    """
    spans = spans_of(network, proof)
    bounds = {0: 1.0}
    for k in needed(network, {b: a for b, (a, _) in spans.items()}):
        if k in spans:
            start, part = spans[k]
            factor, before = prove(Goal(between(network, start, k)), part), bounds[start]
        else:
            node = network.made(k)
            factor, before = _factor(node), together(node, [bounds[i] for i in node.inputs])
        bounds[k] = up(before * factor) if factor != 1.0 else before
    return bounds


def needed(network: Network, spans: dict[int, int]) -> list[int]:
    """The values that the output needs, in order; `spans` has the start of those that are covered by a span."""
    wanted = {network.output}
    for k in range(network.output, 0, -1):
        if k in wanted:
            wanted |= {spans[k]} if k in spans else set(network.made(k).inputs)
    return sorted(wanted - {0})


def together(node: Node, bounds: list[float]) -> float:
    """The constant of the values that a node takes, as one."""
    if isinstance(node.op, Sum):
        total = bounds[0]
        for bound in bounds[1:]:
            total = up(total + bound)
        return total
    if isinstance(node.op, Concatenate) and len(bounds) > 1:
        largest = max(bounds)
        if not 0 < largest < inf:
            return largest
        squares = 0.0
        for bound in bounds:
            squares = up(squares + up(up(bound / largest) ** 2))
        return up(up(float(np.sqrt(squares))) * largest)
    return bounds[0]


def _factor(node: Node) -> float:
    if isinstance(node.op, Sum | Concatenate):
        return 1.0
    factor = node_factor(node.op)
    if factor is None:
        raise NotProvable(
            f"The norm of a {node.title} has no closed form; the proof must cover it by a span."
        )
    return factor


def spans_of(network: Network, proof: Proof) -> Spans:
    """By their ends, the starts and proofs of the spans.

    Raises:
        NotProvable: malformed data.
    """
    given = proof.data.get("spans", [])
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if not isinstance(given, list | tuple) or len(given) != len(proof.parts):
        raise NotProvable("`spans` of the proof by `layers` must be pairs of values, one for each part.")
    found = Spans()
    for pair, part in zip(given, proof.parts, strict=True):
        if not (
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and all(isinstance(v, int) and not isinstance(v, bool) for v in pair)
            and 0 <= pair[0] < pair[1] <= network.output
        ):
            raise NotProvable(
                f"A span must be two values in order, from 0 to {network.output}, not {str(pair)[:40]}."
            )
        if pair[1] in found:
            raise NotProvable(f"Two spans end at value {pair[1]}.")
        found[pair[1]] = (pair[0], part)
    return found
