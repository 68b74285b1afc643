r"""Rule `rows`: from single outputs to the largest, $\lVert f(x) - f(y) \rVert_\infty \le L \lVert x - y \rVert_2$.

$L$ is the largest constant of one output, since $\lVert J \rVert_{2 \to \infty}$ is the longest row of $J$.

Data: `outputs`, those that have a proof of their own in `parts`, in this order, each of the network with `output`
behind it. The others are bounded together: `behind` is a value from which all that follows is linear, the first part
bounds the network up to there, and an output is at most that times the length of its row."""

import numpy as np

from sdplip.arithmetic.matrix import lengths
from sdplip.arithmetic.rounding import up
from sdplip.errors import NotProvable
from sdplip.kernel.data import whole, wholes
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.surgery import between
from sdplip.network import Dense, Network, followed
from sdplip.shapes import Float


def rows(goal: Goal, proof: Proof, prove: Prove) -> float:
    """The largest bound of one output."""
    network, parts = goal.network, list(proof.parts)
    if goal.norm != "linf" and network.outputs > 1:
        raise NotProvable("`rows` bounds the largest output, but the goal is the Euclidean norm of all.")
    bounds = dict[int, float]()
    if "behind" in proof.data:
        if not parts and proof.data["behind"] != 0:
            raise NotProvable("`rows` with `behind` lacks the proof of what stands in front.")
        at = whole(proof, "behind", 0, network.output)
        front = 1.0 if at == 0 else prove(Goal(between(network, 0, at), goal.region), parts.pop(0))
        ends = at == network.output
        factors = np.ones(network.outputs) if ends else row_lengths(between(network, at, network.output))
        bounds = {i: up(front * length) for i, length in enumerate(factors.tolist())}
    outputs = wholes(proof, "outputs", len(parts), 0, network.outputs - 1)
    for i, part in zip(outputs, parts, strict=True):
        own = prove(Goal(output(network, i), goal.region, values=goal.values), part)
        bounds[i] = min(own, bounds.get(i, own))
    if len(bounds) < network.outputs:
        missing = min(set(range(network.outputs)) - set(bounds))
        raise NotProvable(
            f"`rows` bounds {len(bounds)} of {network.outputs} outputs; output {missing} is missing."
        )
    return max(bounds.values())


def output(network: Network, i: int) -> Network:
    """The network of output i alone."""
    return followed(network, Dense(np.eye(1, network.outputs, i)))


def row_lengths(network: Network) -> Float[np.ndarray, " m"]:
    """Lengths of the rows of a linear network, rounded up.

    Raises:
        NotProvable: it is not linear, or too large.
    """
    W = matrix(network)
    return np.nextafter(lengths(W.mid) + lengths(W.radius()), np.inf)
