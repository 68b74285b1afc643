"""What multipliers prove that come along with a network, instead of those that a search finds."""

import numpy as np
from jaxtyping import Float

from sdplip.bounds.methods.frequency import conclude, split
from sdplip.bounds.numerics.chain_proof import chain_proof
from sdplip.bounds.numerics.stationary import exponents
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.network import Convolution

Vector = Float[np.ndarray, " p"]


def of_given(task: Task, given: list[Vector]) -> tuple[float, Proof]:
    r"""What multipliers prove that are known: $\lambda$ of $|x|^2 + \sum \lambda v (v - \beta y) \ge |f|^2 / c^2$ for each channel of every activation, in
    order. Layers of which nothing is a convolution are proven by `chain`.

    Raises:
        NotProvable: nothing, or the activations have other numbers of channels.
    """
    network = task.network
    if not any(isinstance(node.op, Convolution) for node in network.nodes):
        return chain_proof(task, task.parts, tuple(given))
    found = split(network)
    own = given[: len(found.planned.unknowns)]
    if found.front or [len(lam) for lam in own] != list(found.planned.channels):
        raise NotProvable("These multipliers are not those of the activations of this network.")
    moved = [np.ldexp(lam, 2 * e) for lam, e in zip(own, exponents(found.planned), strict=True)]
    return conclude(task, found, np.concatenate(moved))
