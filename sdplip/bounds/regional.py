"""Bounds on a region by cutting it: on a convex union of pieces the constant is the largest of theirs."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from sdplip.bounds.answer import NetworkBound
from sdplip.bounds.below import jacobian
from sdplip.bounds.choose import SECONDS, bound
from sdplip.errors import InvalidProblem
from sdplip.kernel.proof import Norm, Proof
from sdplip.kernel.regions import Box, Region, halves, hull, part
from sdplip.kernel.rules.cut import EMPTY, MOST, PIECE, nothing_left
from sdplip.network import Network
from sdplip.network.jacobian import is_known


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
    method: str = "auto",
    *,
    output_pair: tuple[int, int] | None = None,
    output_norm: Norm = "l2",
    progress: Callable[[int, float, float], object] | None = None,
    seconds: float = SECONDS,
) -> NetworkBound:
    """A proven bound on `region` from at most `pieces` parts that it is cut into; the one of the largest bound is cut next.

    A segment between two points of the region runs through the pieces one after another, so no difference quotient exceeds the
    largest of their bounds. A ball is cut by boxes.

    Args:
        network, method, output_pair, output_norm: as for `bound`, which runs once a piece.
        seconds: of "auto", for all pieces together; when they are over, or on an interrupt, nothing more is cut.
        region: the region.
        pieces: at most so many, at least 1.
        progress: called with the number of pieces, the bound and the lower estimate.

    Raises:
        InvalidProblem, NotProvable: as for `bound`; less than one piece, or more than the kernel takes.
    """
    if not 1 <= pieces <= MOST // 2:
        raise InvalidProblem(f"A region is cut into 1 to {MOST // 2} pieces, not {pieces}.")
    begin = time.perf_counter()

    def left() -> float:
        return max(begin + seconds - time.perf_counter(), 0.0) if method == "auto" else seconds

    def on(where: Region) -> NetworkBound:
        return bound(
            network, method, region=where, output_pair=output_pair, output_norm=output_norm, seconds=left()
        )

    whole = on(region)
    root = _Piece(hull(region), whole, whole.bound)
    heap, count, found, note = [(-whole.bound, 0, root)], 1, [whole], whole.note
    while len(heap) < pieces and -heap[0][0] > whole.lower * (1 + 1e-9) and not note:
        worst = heap[0][2]
        edge = _edge(whole.goal.network, worst.box)
        if edge is None:
            break
        if not left():
            note = f"the time was over at {len(heap)} of {pieces} pieces"
            break
        try:
            below, above = (_bounded(region, box, on, worst.value) for box in halves(worst.box, *edge))
        except KeyboardInterrupt:
            note = f"interrupted at {len(heap)} of {pieces} pieces"
            break
        heappop(heap)
        worst.cut = (*edge, below, above)
        for piece in (below, above):
            if piece.found is not None:
                found.append(piece.found)
                note = note or piece.found.note
            heappush(heap, (-piece.value, count, piece))
            count += 1
        if progress is not None:
            progress(len(heap), -heap[0][0], whole.lower)
    if len(heap) == 1:
        return replace(whole, seconds=time.perf_counter() - begin, note=note)
    value, largest = -heap[0][0], heap[0][2].found or whole
    lower = max(whole.lower, *(entry[2].found.lower for entry in heap if entry[2].found))
    name = f"{largest.method}, {len(heap)} {'boxes' if isinstance(region, Box) else 'pieces'}"
    return replace(
        largest,
        bound=value,
        lower=min(lower, value),
        sdp_lower=None,
        method=name,
        goal=whole.goal,
        proof=_proof(root, value),
        seconds=time.perf_counter() - begin,
        iterations=sum(result.iterations for result in found),
        others=whole.others | {name: value},
        note=note,
    )


def _bounded(region: Region, box: Box, on: Callable[[Region], NetworkBound], most: float) -> _Piece:
    """A piece, of something whose bound is `most`."""
    if nothing_left(region, box):
        return _Piece(box, None, 0.0)
    found = on(part(region, box))
    return _Piece(box, found, min(found.bound, most))


def _proof(root: _Piece, bound: float) -> Proof:
    """The tree of pieces as far as it is needed for `bound`; what was cut in vain stays whole."""
    axis, at, parts = list[int](), list[float](), list[Proof]()
    todo = [root]
    while todo:
        piece = todo.pop()
        forks = piece.found is not None and piece.found.bound > bound and piece.cut is not None
        axis.append(piece.cut[0] if forks and piece.cut else EMPTY if piece.found is None else PIECE)
        at.append(piece.cut[1] if forks and piece.cut else 0.0)
        if forks and piece.cut:
            todo += [piece.cut[3], piece.cut[2]]
        elif piece.found is not None:
            parts.append(piece.found.proof)
    return Proof("cut", {"axis": axis, "at": np.array(at)}, tuple(parts))


def _edge(network: Network, box: Box) -> tuple[int, float] | None:
    """Along which coordinate the outputs seem to change most, and its middle; None where the box is a point."""
    effect = box.upper - box.lower
    if is_known(network):
        center = box.lower / 2 + box.upper / 2
        effect = effect * (1e-12 + np.linalg.norm(jacobian(network, center), axis=0))
    axis = int(np.argmax(effect))
    middle = float(box.lower[axis] / 2 + box.upper[axis] / 2)
    return (axis, middle) if box.lower[axis] < middle < box.upper[axis] else None
