"""The methods by name, one file each. A method takes a task and gives proofs; the kernel concludes what they prove."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from sdplip.bounds.methods import (
    banded,
    composite,
    equilibrium,
    exact,
    frequency,
    greedy,
    lipsdp,
    pairs,
    product,
    riccati,
)
from sdplip.bounds.methods.multipliers import no_chain
from sdplip.bounds.methods.work import composite_work, interior_work, metric_work, pairs_work, refuses, seldom
from sdplip.bounds.task import Proven, Task
from sdplip.network import Network


@dataclass(frozen=True)
class Method:
    """How a bound is found.

    Attributes:
        description: one line.
        unfit: why it does not take a network; None where it does.
        propose: from a task to proofs, the best of which counts.
        work: about how many seconds it takes for a network on one core: "auto" leaves out what does not fit into its budget.
            Infinite for methods that are used by name only.
        device: whether it computes on a GPU if asked to.
        stops: whether it gives what it has when its time is over.
    """

    description: str
    unfit: Callable[[Network], str | None]
    propose: Callable[[Task], Iterable[Proven]]
    work: Callable[[Network], float] = seldom
    device: bool = False
    stops: bool = False


def _reference(task: Task) -> Iterable[Proven]:
    return _by_reference(task, "neuron")


def _reference_layer(task: Task) -> Iterable[Proven]:
    return _by_reference(task, "layer")


def _by_reference(task: Task, form) -> Iterable[Proven]:
    from sdplip.bounds.methods.multipliers import by_chain
    from sdplip.bounds.methods.reference import Reference  # loads CVXPY

    method = Reference(form)
    return by_chain(task, {method.name: method})


def _frequency_work(network: Network) -> float:
    """By the entries of all inequalities; networks that LipSDP takes whole are left to it."""
    if interior_work(network) < ENOUGH:
        return inf
    return frequency.seconds(network)


ENOUGH = 20.0
"""Seconds within which LipSDP of the whole network is the better choice."""


def _equilibrium_work(network: Network) -> float:
    """That of LipSDP of as many neurons; infinite where there is no implicit layer."""
    return interior_work(network) if equilibrium.is_implicit(network) else inf


def _explicit(method: Method) -> Method:
    """The same, which refuses networks with implicit layers."""

    def unfit(network: Network) -> str | None:
        if equilibrium.is_implicit(network):
            return "it has an implicit layer, which is for 'equilibrium'"
        return method.unfit(network)

    return replace(method, unfit=unfit)


_ALL: Mapping[str, Method] = {
    "product": Method(
        "product of proven norms along the graph, sums where it adds (seconds at any size)",
        product.unfit,
        product.propose,
        lambda network: 0.0,  # noqa: ARG005
    ),
    "riccati": Method(
        "best of the closed-form multipliers (a Cholesky factorization a layer)",
        riccati.unfit,
        riccati.propose,
        metric_work,
    ),
    "composite": Method(
        "sum over all groupings of layers (CPLip, LipLT; one product and norm for each pair of layers)",
        composite.unfit,
        composite.propose,
        composite_work,
    ),
    "lipsdp-neuron": Method(
        "optimal multipliers, one a neuron or sorted group, by interior point (a cube of their number)",
        lipsdp.unfit,
        lipsdp.neuron,
        interior_work,
        device=True,
        stops=True,
    ),
    "pairs": Method(
        "lipsdp-neuron, and multipliers of those pairs of neurons that are worth most (seconds at 40 neurons, minutes at 500)",
        pairs.unfit,
        pairs.propose,
        pairs_work,
        stops=True,
    ),
    "exact": Method(
        "the constant itself, of piecewise linear networks: branch and bound on patterns (seconds at 40 neurons, hours at 100)",
        exact.unfit,
        exact.propose,
        stops=True,
    ),
    "lipsdp-layer": Method(
        "optimal multipliers, one a layer, by interior point (a cube of the number of neurons)",
        no_chain,
        lipsdp.layer,
        device=True,
    ),
    "riccati-greedy": Method(
        "ECLipsE: the multipliers of one layer after the other (a cube of the widest layer)",
        greedy.unfit,
        greedy.propose,
    ),
    "frequency": Method(
        "convolutions at every frequency, one multiplier a channel; what stands behind them jointly (seconds to minutes)",
        frequency.unfit,
        frequency.propose,
        _frequency_work,
        stops=True,
    ),
    "banded": Method(
        "the best multiplier of every neuron of convolutions, on a band instead of dense matrices (seconds to minutes)",
        banded.unfit,
        banded.propose,
        stops=True,
    ),
    "equilibrium": Method(
        "implicit layers (monDEQ, LBEN): that the equilibria exist, and the best multipliers (a cube of the number of neurons)",
        equilibrium.unfit,
        equilibrium.propose,
        _equilibrium_work,
        device=True,
        stops=True,
    ),
    "reference": Method(
        "lipsdp-neuron by CVXPY and a general solver, for small networks (minutes at 100 neurons)",
        no_chain,
        _reference,
    ),
    "reference-layer": Method("lipsdp-layer by CVXPY and a general solver", no_chain, _reference_layer),
    "reference-pairs": Method(
        "pairs by CVXPY and a general solver, all pairs of very small networks (minutes at 40 neurons)",
        pairs.no_reference,
        pairs.reference,
    ),
    "lipsdp-network": Method(
        "refused: the coupled multipliers of LipSDP-Network are no bound", refuses, lipsdp.coupled
    ),
}
METHODS: Mapping[str, Method] = {
    name: method if name in ("product", "equilibrium", "lipsdp-network") else _explicit(method)
    for name, method in _ALL.items()
}
"""By the name that a caller asks for; "auto" tries those of finite work in this order."""
