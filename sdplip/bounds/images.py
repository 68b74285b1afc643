"""What is special about networks on images: rounding of merged layers, and maxima over windows."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sdplip.bounds.lower import estimate_lower
from sdplip.bounds.result import NetworkBound
from sdplip.certificates.rounding import up
from sdplip.networks import Chain, Network, segments


def outward(chain: Chain, value: float) -> float:
    """`value`, proven for the chain, made a bound of the layers that were merged into it."""
    left_out = chain.remainder()
    return up(value + left_out) if left_out else value


def through_maxima(
    network: Network, part_bound: Callable[[Network], NetworkBound], begin: float, remainder: float
) -> NetworkBound:
    """The product of the bounds of the parts between maxima over windows (`sdplip.networks.segments`).

    `remainder` is added. The result carries no certificate of the whole: those of the parts are not joined yet.
    """
    cut = segments(network)
    results = [part_bound(part) for part in cut.parts]
    factor = 1.0 if cut.overlap == 1 else up(float(np.sqrt(cut.overlap)))
    for slope in cut.factors:
        factor = up(factor * slope) if slope != 1.0 else factor
    value = factor
    for result in results:
        value = up(value * result.value)
    value = up(value + remainder) if remainder else value
    largest = max(results, key=lambda result: result.order)
    return replace(
        largest,
        value=value,
        lower=min(estimate_lower(network), value),
        sdp_lower=None,
        multipliers=None,
        certificate=None,
        order=sum(result.order for result in results),
        iterations=sum(result.iterations for result in results),
        seconds=time.perf_counter() - begin,
        others={largest.method: value},
    )
