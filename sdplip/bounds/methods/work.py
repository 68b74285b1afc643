"""About how long methods take, for the choice of "auto": seconds on one core, within a factor of three."""

from collections.abc import Iterator
from itertools import pairwise
from math import inf

from sdplip.bounds.methods.multipliers import SYSTEM_ORDER, bypassed, narrow_inputs, no_chain, no_system
from sdplip.bounds.numerics.chain import is_shallow
from sdplip.bounds.numerics.pair_forms import few
from sdplip.errors import InvalidProblem
from sdplip.kernel.stages import linear_parts
from sdplip.kernel.system import variables
from sdplip.network import Activation, Maximum, Network, is_linear

SPEED = 1e10
"""Operations a second of one core in products of large matrices."""
NEURON_ORDER = 3200
"""Above this order of the inequality of a chain its matrices take gigabytes and minutes."""
MAXIMA_ORDER = 1500
"""The same of a network with maxima over windows, which also has a bound part by part."""
GROUPS = 24
"""Above this number of layers the composite bound, which forms all products of neighbours, is left out."""


def seldom(network: Network) -> float:  # noqa: ARG001
    """Of a method that is used by name only."""
    return inf


def refuses(network: Network) -> str | None:  # noqa: ARG001
    """Of a method that refuses by itself."""
    return None


def metric_work(network: Network) -> float:
    """Of the closed forms: the scalings of least trace take most of it, a few hundred factorizations of each layer."""
    if no_chain(network) is not None:
        return 0.2 + 200 * _order(network) ** 3 / SPEED
    widths = list(_widths(network))
    if len(widths) < 3:
        return inf  # one matrix, of which the norm is the constant
    stages = (60 * (min(a, b) + b) ** 3 + 800 * b**3 for a, b in pairwise(widths[:-1]))
    return 0.1 + sum(stages) / SPEED


def composite_work(network: Network) -> float:
    """Of all groups of neighbours."""
    if no_chain(network) is not None:
        return inf
    widths = list(_widths(network))
    if not 3 <= len(widths) <= GROUPS + 1:
        return inf
    work = 0.0
    for i, n in enumerate(widths[:-1]):
        rows = widths[i + 1 :]
        work += sum(4 * n * m * k for k, m in zip([n, *rows], rows, strict=False))
        work += sum(8 * max(m, n) * min(m, n) ** 2 for m in rows)
    return work / SPEED


def interior_work(network: Network) -> float:
    """Of an interior-point method for all neurons, which stops where its time is over."""
    if no_chain(network) is not None or bypassed(network):
        maxima = any(isinstance(node.op, Maximum) for node in network.nodes)
        order = _order(network)
        most = MAXIMA_ORDER if maxima else SYSTEM_ORDER
        linear = all(is_linear(node.op) for node in network.nodes)
        return inf if linear or order > most else 0.5 + 100 * order**3 / SPEED
    widths = list(_widths(network))
    neurons = sum(widths[1:-1])
    order = neurons + min(widths[:2])
    if len(widths) < 3 or order > NEURON_ORDER:
        return inf
    from_zero = not any(node.op.alpha.any() for node in network.nodes if isinstance(node.op, Activation))
    return 0.5 + (50 * neurons**3 if from_zero and is_shallow(widths) else 40 * order**3) / SPEED


def pairs_work(network: Network) -> float:
    """Of multipliers of pairs: rounds of an interior-point method, or one where all pairs are taken at once. Infinite with one layer of
    many neurons, where multipliers of neurons alone are nearly exact."""
    if interior_work(network) == inf:
        return inf
    N = variables(network)
    every, some = N * (N - 1) // 2, few(N)
    if every > some and _layers(network) < 2:
        return inf
    unknowns, steps = 4 * min(every, some) + 3 * N, 20 if every <= some else 115
    return 0.1 + steps * (2e-3 + 9e-8 * unknowns**2 + unknowns**3 / (3 * SPEED))


def _layers(network: Network) -> int:
    """Nonlinear nodes."""
    return sum(not is_linear(node.op) for node in network.nodes)


def _order(network: Network) -> int:
    return narrow_inputs(network) + variables(network) if no_system(network) is None else 10**9


def _widths(network: Network) -> Iterator[int]:
    """Inputs, hidden layers, outputs of a chain."""
    try:
        ends = [end for _, end in linear_parts(network)]
    except InvalidProblem:
        return
    yield network.inputs
    yield from map(network.length, ends)
