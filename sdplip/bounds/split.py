"""Bounds on a box by cutting it: on a convex union of boxes the constant is the largest of theirs."""

import time
from collections.abc import Callable
from dataclasses import replace
from heapq import heapify, heappop, heappush

import numpy as np

from sdplip.bounds.auto import Method
from sdplip.bounds.result import NetworkBound
from sdplip.bounds.rows import rows_bound
from sdplip.bounds.samples import OutputNorm, known, value_and_jacobian
from sdplip.bounds.systems import system_bound
from sdplip.certificates.region import Box
from sdplip.errors import InvalidProblem
from sdplip.networks import Network, system_layers


def split_bound(
    network: Network,
    box: Box,
    pieces: int,
    method: Method = "auto",
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: OutputNorm = "l2",
    progress: Callable[[int, float, float], None] | None = None,
) -> NetworkBound:
    """A proven bound on `box` from at most `pieces` boxes that it is cut into; the one of the largest bound is cut next.

    A segment between two points of the box runs through the pieces one after another, so no difference quotient exceeds the
    largest of their bounds. The result has no certificate of the whole.

    Args:
        network, method, output_pair, output_norm: as for `bound`.
        box: the region.
        pieces: at most so many boxes, at least 1.
        progress: called with the number of boxes, the bound and the lower estimate.

    Raises:
        InvalidProblem, NotProvable: as for `system_bound`; less than one piece.
    """
    if pieces < 1:
        raise InvalidProblem(f"A box is cut into at least 1 piece, not {pieces}.")
    begin = time.perf_counter()

    def on(region: Box) -> NetworkBound:
        if output_norm == "linf" and output_pair is None:
            return rows_bound(network, method, region=region)
        return system_bound(network, method, region=region, output_pair=output_pair)

    whole = on(box)
    heap = [(-whole.value, 0, box, whole)]
    heapify(heap)
    count = 1
    while len(heap) < pieces and -heap[0][0] > whole.lower * (1 + 1e-9):
        _, _, worst, found = heappop(heap)
        halves = _cut(network, worst)
        for half in halves:
            part = on(half)
            part = (
                part if part.value <= found.value else replace(part, value=found.value)
            )  # a part of the box
            heappush(heap, (-part.value, count, half, part))
            count += 1
        if len(halves) < 2:
            break
        if progress is not None:
            progress(len(heap), -heap[0][0], whole.lower)
    worst = heap[0][3]
    lower = max(entry[3].lower for entry in heap)
    return replace(
        worst,
        value=worst.value,
        lower=min(max(lower, whole.lower), worst.value),
        sdp_lower=None,
        multipliers=None,
        claim=replace(whole.claim, region=box) if whole.claim is not None else None,
        system_certificate=None if len(heap) > 1 else worst.system_certificate,
        seconds=time.perf_counter() - begin,
        iterations=sum(entry[3].iterations for entry in heap),
        others=whole.others | {f"{worst.method}, {len(heap)} boxes": worst.value},
        method=f"{worst.method}, {len(heap)} boxes",
    )


def _cut(network: Network, box: Box) -> list[Box]:
    """Two halves along the edge over which the outputs seem to change most; the box itself where it is a point."""
    width = box.upper - box.lower
    layers = system_layers(network)
    effect = width
    if known(layers):
        center = box.lower / 2 + box.upper / 2
        effect = width * (1e-12 + np.linalg.norm(value_and_jacobian(layers, center)[1], axis=0))
    edge = int(np.argmax(effect))
    middle = box.lower[edge] / 2 + box.upper[edge] / 2
    if not box.lower[edge] < middle < box.upper[edge]:
        return [box]
    upper, lower = np.array(box.upper, np.float64), np.array(box.lower, np.float64)
    upper[edge] = lower[edge] = middle
    return [Box(np.asarray(box.lower, np.float64), upper), Box(lower, np.asarray(box.upper, np.float64))]
