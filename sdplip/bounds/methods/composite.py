r"""The composite bound over all groupings (CPLip, Combettes and Pesquet 2020; LipLT, Fazlyab et al. 2023), in $O(l^2)$ steps."""

import time
from collections.abc import Iterator

import numpy as np

from sdplip.bounds.methods.multipliers import no_chain
from sdplip.bounds.numerics.norms import LEAST, norm_estimate, with_room
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.composite import groups
from sdplip.network import Network


def unfit(network: Network) -> str | None:
    """Why the method does not take this network."""
    return no_chain(network)


def propose(task: Task) -> Iterator[Proven]:
    """The sum over all groupings of the products of the groups' norms."""
    begin, found = time.monotonic(), list[tuple[float, float, tuple[int, ...]]]()
    with np.errstate(over="ignore", invalid="ignore"):
        for _, _, group in groups(task.parts):
            found.append((norm_estimate(group.mid), group.error(), group.shape))
            if task.left < time.monotonic() - begin:  # the proof takes about as long
                raise NotProvable("The time was over before all groups of layers were formed.")
    for room in (1.0, 8.0, 64.0, 4096.0):
        norms = np.array(
            [max(with_room(norm, shape, room) + 2 * error, LEAST) for norm, error, shape in found]
        )
        proof = Proof("composite", {"norms": norms})
        try:
            yield Proven(task.conclude(proof), proof, "composite")
        except NotProvable:
            if room == 4096.0:
                raise
        else:
            return
