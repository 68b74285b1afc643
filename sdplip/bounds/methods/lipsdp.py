"""Optimal multipliers by interior point, one a neuron or one a layer: LipSDP (Fazlyab et al., NeurIPS 2019)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

from sdplip.bounds.increments import Increments
from sdplip.bounds.methods.multipliers import by_chain, by_system, bypassed, no_chain, no_system
from sdplip.bounds.numerics.chain import Chain, Proposal
from sdplip.bounds.task import Proven, Task
from sdplip.network import Network


def unfit(network: Network) -> str | None:
    """Why "lipsdp-neuron" does not take this network."""
    return no_chain(network) and no_system(network)


def neuron(task: Task) -> Iterator[Proven]:
    """One multiplier a neuron, or a group of sorted neurons."""
    if no_chain(task.network) is None and not bypassed(task.network):
        return _of_chain(task, "neuron")
    return by_system(task, "lipsdp-neuron", of_system(task))


def of_system(task: Task, gap: float = 1e-8) -> Callable[[Increments], Proposal]:
    """Proposes the best multipliers of a system, up to a relative gap of the squared bound."""
    from sdplip.bounds.numerics.joint_lipsdp import lipsdp  # loads torch

    return partial(lipsdp, goes_on=task.pace(), gap=gap, device=task.device)


def layer(task: Task) -> Iterator[Proven]:
    """One multiplier a layer of a chain."""
    return _of_chain(task, "layer")


def coupled(task: Task) -> Iterator[Proven]:  # noqa: ARG001
    """Refused: it is no bound.

    Raises:
        InvalidProblem: always.
    """
    from sdplip.bounds.numerics.lipsdp import LipSDP

    LipSDP("network")(Chain((), ()))
    yield from ()


def _of_chain(task: Task, form: Literal["neuron", "layer"]) -> Iterator[Proven]:
    from sdplip.bounds.numerics.lipsdp import LipSDP  # loads torch

    method = LipSDP(form, device=task.device)
    return by_chain(task, {method.name: partial(method, goes_on=task.pace())})
