"""Multipliers of pairs of neurons: the complete set of what two slopes allow, beyond one multiplier a neuron."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np

from sdplip.bounds.increments import Increments, compressed
from sdplip.bounds.methods import lipsdp
from sdplip.bounds.methods.multipliers import QUIET, narrow_inputs, no_system
from sdplip.bounds.numerics.pair_forms import PairForms
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.system import variables
from sdplip.network import Network

LARGEST_ORDER = 1200
"""Inputs and nonlinear variables up to which pairs are priced: their number is a square of that, and each step a cube."""
SMALL = 100
"""Inputs and nonlinear variables up to which a general solver is asked: with all pairs it takes minutes there."""


def unfit(network: Network) -> str | None:
    """Why "pairs" does not take this network."""
    order = narrow_inputs(network) + variables(network)
    if order > LARGEST_ORDER:
        return f"{order} inputs and nonlinear variables are more than the {LARGEST_ORDER} that are tried with pairs"
    return no_system(network)


def propose(task: Task) -> Iterator[Proven]:
    """The best multipliers of neurons alone, and with the pairs that are worth most; all pairs of small networks."""
    for proven in lipsdp.neuron(task):
        yield replace(proven, method="pairs", sdp_lower=None)
    yield from beyond(task)


def beyond(task: Task) -> Iterator[Proven]:
    """The same without the multipliers of neurons alone."""
    from sdplip.bounds.numerics.pairs import best  # loads torch

    if task.left > 0:
        yield from by_pairs(task, "pairs", partial(best, goes_on=task.pace()))


def no_reference(network: Network) -> str | None:
    """Why "reference-pairs" does not take this network."""
    order = narrow_inputs(network) + variables(network)
    if order > SMALL:
        return f"{order} inputs and nonlinear variables are more than the {SMALL} that a general solver takes with all pairs"
    return no_system(network)


def reference(task: Task) -> Iterator[Proven]:
    """All pairs by CVXPY."""
    from sdplip.bounds.methods.reference_pairs import ReferencePairs  # loads CVXPY

    return by_pairs(task, "reference-pairs", ReferencePairs())


def by_pairs(task: Task, name: str, propose: Callable[[Increments], PairForms]) -> Iterator[Proven]:
    """What proposed pairs prove of a network, narrowed first where its first matrix is wide."""
    inner = task.narrow or task
    with suppress(np.linalg.LinAlgError, NotProvable), np.errstate(**QUIET):
        found = propose(compressed(inner.system))
        bound, proof = found.proof(inner, inner.system)
        proof = Proof("narrow", {}, (proof,)) if inner is not task else proof
        yield Proven(bound, proof, name, found.status, found.sdp_lower, found.iterations)
