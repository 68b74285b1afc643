"""What is special about networks on images: rounding of merged layers, and maxima over windows, in parts or jointly."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from sdplip.bounds.lower import estimate_lower
from sdplip.bounds.result import NetworkBound, proof_of
from sdplip.bounds.systems import SYSTEM_ORDER, Watch, system_bound
from sdplip.certificates.parts import composed
from sdplip.certificates.rounding import up
from sdplip.certificates.system import variables
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.networks import Chain, MaxPool, Network, segments, system_layers
from sdplip.networks.network import WIDTHLESS

JOINT_ORDER = 1500
"""Inputs and nonlinear variables up to which "auto" takes maxima into one inequality: a minute or two on one core."""


def outward(chain: Chain, value: float) -> float:
    """`value`, proven for the chain, made a bound of the layers that were merged into it."""
    left_out = chain.remainder()
    return up(value + left_out) if left_out else value


def through_maxima(
    network: Network, part_bound: Callable[[Network], NetworkBound], begin: float, remainder: float
) -> NetworkBound:
    """The product of the bounds of the parts between maxima over windows (`sdplip.networks.segments`).

    `remainder` is added, and the proofs of the parts are the result's where there is none.
    """
    cut = segments(network)
    results = [part_bound(part) for part in cut.parts]
    value = composed([result.value for result in results], cut.overlap, cut.factors)
    value = up(value + remainder) if remainder else value
    largest = max(results, key=lambda result: result.order)
    return replace(
        largest,
        value=value,
        lower=min(estimate_lower(network), value),
        sdp_lower=None,
        multipliers=None,
        certificate=None,
        parts=() if remainder else tuple(map(proof_of, results)),
        order=sum(result.order for result in results),
        iterations=sum(result.iterations for result in results),
        seconds=time.perf_counter() - begin,
        others={largest.method: value},
    )


def jointly(
    network: Network, method: str, output_pair: tuple[int, int] | None, progress: Watch, device: str = "cpu"
) -> NetworkBound | None:
    """The bound of a network with maxima by one inequality; None without maxima, of other methods, or where it does not fit."""
    if method not in ("auto", "riccati", "lipsdp-neuron") or not any(
        isinstance(layer, MaxPool) for layer in network.layers
    ):
        return None
    most = JOINT_ORDER if method == "auto" else SYSTEM_ORDER
    widths = [layer.outputs for layer in network.layers if not isinstance(layer, WIDTHLESS)]  # pyright: ignore
    with suppress(InvalidProblem, NotProvable):
        if (
            max(network.inputs, *widths) <= 2 * most
            and network.inputs + variables(system_layers(network)) <= most
        ):
            return system_bound(network, method, output_pair=output_pair, progress=progress, device=device)
    return None


def better(joint: NetworkBound, parts: NetworkBound) -> NetworkBound:
    """The smaller bound, the other one beside it; equal ones by their certificate."""
    best = joint if joint.value <= parts.value else parts
    others = joint.others | {f"{name} of the parts": value for name, value in parts.others.items()}
    return replace(best, lower=min(max(joint.lower, parts.lower), best.value), others=others)
