"""The best of the closed-form multipliers: of a chain layer by layer, of other networks by one inequality."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import numpy as np

from sdplip.bounds.increments import Increments, backward
from sdplip.bounds.methods.multipliers import by_chain, by_system, bypassed, no_chain, no_system
from sdplip.bounds.numerics.chain import Chain, Proposal
from sdplip.bounds.numerics.riccati import FAMILIES, riccati
from sdplip.bounds.task import Proven, Task
from sdplip.network import Network


def unfit(network: Network) -> str | None:
    """Why the method does not take this network."""
    return no_chain(network) and no_system(network)


def propose(task: Task) -> Iterator[Proven]:
    """The best of all families, with a free scale in each layer and with none; of the least trace, which takes longest, with one."""
    if no_chain(task.network) is None and not bypassed(task.network):
        yield from by_chain(task, families())
        return
    yield from by_one_inequality(task)


def families() -> Mapping[str, Callable[[Chain], Proposal]]:
    """By name: "riccati-spectral" is ECLipsE-Fast, "-free" has a free scale in each layer."""
    plain = {
        f"riccati-{name}": partial(riccati, scaling=s) for name, s in FAMILIES.items() if name != "min-trace"
    }
    return plain | {
        f"riccati-{name}-free": partial(riccati, scaling=s, free=True) for name, s in FAMILIES.items()
    }


def by_one_inequality(task: Task) -> Iterator[Proven]:
    """The best of all families for a system of increments."""
    found = list[str]()

    def best(system: Increments) -> Proposal:
        closed = list[tuple[float, str, np.ndarray]]()
        for name, scaling in FAMILIES.items():
            with suppress(np.linalg.LinAlgError):
                kappa, multipliers = backward(system, scaling)
                closed.append((kappa, name, multipliers))
        if not closed:
            raise np.linalg.LinAlgError("no closed form stays in the range of double precision")
        _, name, multipliers = min(closed, key=lambda entry: entry[0])
        found.append(name)
        return Proposal((multipliers,))

    for proven in by_system(task, "riccati", best):
        yield Proven(proven.bound, proven.proof, f"riccati-{found[0]}")
