r"""The composite bound over all groupings (CPLip, Combettes and Pesquet 2020; LipLT, Fazlyab et al. 2023), in $O(l^2)$ steps."""

import time
from collections.abc import Iterator

import numpy as np

from sdplip.bounds.methods.multipliers import no_chain
from sdplip.bounds.numerics.norms import provable_norm
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
    begin, found = time.monotonic(), list[float]()
    with np.errstate(over="ignore", invalid="ignore"):
        for _, _, group in groups(task.parts):
            found.append(provable_norm(group))
            if task.left < time.monotonic() - begin:  # the proof takes about as long
                raise NotProvable("The time was over before all groups of layers were formed.")
    for room in (0.0, 1e-12, 1e-10, 1e-8):
        norms = np.array(found) * (1 + room)
        proof = Proof("composite", {"norms": norms})
        try:
            yield Proven(task.conclude(proof), proof, "composite")
        except NotProvable:
            if room == 1e-8:
                raise
        else:
            return
