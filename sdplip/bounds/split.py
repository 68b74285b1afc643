"""Bounds on a region by cutting it: on a convex union of pieces the constant is the largest of theirs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from sdplip.bounds.auto import Method
from sdplip.bounds.result import NetworkBound
from sdplip.bounds.rows import rows_bound
from sdplip.bounds.samples import OutputNorm, known, value_and_jacobian
from sdplip.bounds.systems import system_bound
from sdplip.certificates.pieces_file import Fork, Node
from sdplip.certificates.regions import Box, Region, halves, hull, part
from sdplip.errors import InvalidProblem
from sdplip.networks import Network, system_layers


@dataclass(eq=False)
class _Piece:
    """A part of the region, its bound (None: nothing of the region is left), and how it was cut."""

    box: Box
    found: NetworkBound | None
    value: float
    cut: "tuple[int, float, _Piece, _Piece] | None" = None


def split_bound(
    network: Network,
    region: Region,
    pieces: int,
    method: Method = "auto",
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: OutputNorm = "l2",
    progress: Callable[[int, float, float], None] | None = None,
) -> NetworkBound:
    """A proven bound on `region` from at most `pieces` parts that it is cut into; the one of the largest bound is cut next.

    A segment between two points of the region runs through the pieces one after another, so no difference quotient exceeds the
    largest of their bounds. A ball is cut by boxes.

    Args:
        network, method, output_pair, output_norm: as for `bound`.
        region: the region.
        pieces: at most so many, at least 1.
        progress: called with the number of pieces, the bound and the lower estimate.

    Raises:
        InvalidProblem, NotProvable: as for `system_bound`; less than one piece.
    """
    if pieces < 1:
        raise InvalidProblem(f"A region is cut into at least 1 piece, not {pieces}.")
    begin = time.perf_counter()

    def on(where: Region) -> NetworkBound:
        if output_norm == "linf" and output_pair is None:
            return rows_bound(network, method, region=where)
        return system_bound(network, method, region=where, output_pair=output_pair)

    whole = on(region)
    root = _Piece(hull(region), whole, whole.value)
    heap, count, found = [(-whole.value, 0, root)], 1, [whole]
    while len(heap) < pieces and -heap[0][0] > whole.lower * (1 + 1e-9):
        _, _, worst = heap[0]
        edge = _edge(network, worst.box)
        if edge is None:
            break
        heappop(heap)
        below, above = (_bounded(region, box, on, worst.value) for box in halves(worst.box, *edge))
        worst.cut = (*edge, below, above)
        for piece in (below, above):
            if piece.found is not None:
                found.append(piece.found)
            heappush(heap, (-piece.value, count, piece))
            count += 1
        if progress is not None:
            progress(len(heap), -heap[0][0], whole.lower)
    value, largest = -heap[0][0], heap[0][2].found or whole
    if len(heap) == 1:
        return replace(whole, seconds=time.perf_counter() - begin)
    tree = list[Node]()
    _write(root, value, tree)
    name = f"{largest.method}, {len(heap)} {'boxes' if isinstance(region, Box) else 'pieces'}"
    return replace(
        largest,
        value=value,
        lower=min(max(whole.lower, *(entry[2].found.lower for entry in heap if entry[2].found)), value),
        sdp_lower=None,
        multipliers=None,
        claim=replace(whole.claim, region=region) if whole.claim is not None else None,
        system_certificate=None,
        row_proofs=(),
        pieces=() if output_norm == "linf" and output_pair is None else tuple(tree),
        seconds=time.perf_counter() - begin,
        iterations=sum(result.iterations for result in found),
        others=whole.others | {name: value},
        method=name,
    )


def _bounded(region: Region, box: Box, on: Callable[[Region], NetworkBound], most: float) -> _Piece:
    """A piece, of something whose bound is `most`."""
    try:
        where = part(region, box)
    except InvalidProblem:
        return _Piece(box, None, 0.0)
    found = on(where)
    return _Piece(box, found, min(found.value, most))


def _write(piece: _Piece, bound: float, tree: list[Node]) -> int:
    """Appends the piece and what it was cut into, as far as that is needed for `bound`; its number."""
    number = len(tree)
    if piece.cut is None or piece.found is None or piece.found.value <= bound:
        tree.append(None if piece.found is None else piece.found.system_certificate)
        return number
    axis, at, below, above = piece.cut
    tree.append(None)
    tree[number] = Fork(axis, at, _write(below, bound, tree), _write(above, bound, tree))
    return number


def _edge(network: Network, box: Box) -> tuple[int, float] | None:
    """Along which coordinate the outputs seem to change most, and its middle; None where the box is a point."""
    width = box.upper - box.lower
    layers = system_layers(network)
    effect = width
    if known(layers):
        center = box.lower / 2 + box.upper / 2
        effect = width * (1e-12 + np.linalg.norm(value_and_jacobian(layers, center)[1], axis=0))
    axis = int(np.argmax(effect))
    middle = float(box.lower[axis] / 2 + box.upper[axis] / 2)
    return (axis, middle) if box.lower[axis] < middle < box.upper[axis] else None
