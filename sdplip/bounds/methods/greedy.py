"""ECLipsE's multipliers: those of one layer after the other (Xu and Sivaranjani, 2024)."""

from collections.abc import Iterator

from sdplip.bounds.methods.multipliers import by_chain, no_chain
from sdplip.bounds.task import Proven, Task
from sdplip.network import Network


def unfit(network: Network) -> str | None:
    """Why the method does not take this network."""
    return no_chain(network)


def propose(task: Task) -> Iterator[Proven]:
    """By the interior-point method, layer by layer."""
    from sdplip.bounds.numerics.greedy import greedy  # loads torch

    return by_chain(task, {"riccati-greedy": greedy})
