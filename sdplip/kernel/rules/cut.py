r"""Rule `cut`: a region in pieces.

A segment between two points of a convex region runs through its pieces one after another, so the largest constant of a piece is
one of the region. The pieces come from a tree: each fork cuts a box, the hull of the region first, where one coordinate has a
certain value; both halves contain the cut. So the pieces cover the region exactly.

Data: the tree in preorder, `axis` and `at`: the coordinate that is cut and where. An `axis` of -1 is a piece with the next part
as its proof, -2 a piece of a ball that its box provably does not meet, which needs none. For example `axis` [0, -1, -1], `at`
[0.5, 0, 0] is one cut. Parts: one for each piece, of the same network on that piece.
"""

from collections.abc import Iterator

import numpy as np

from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.data import array, wholes
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.regions import Ball, Box, Region, apart, halves, hull, part
from sdplip.shapes import Float

PIECE, EMPTY = -1, -2
MOST = 1 << 16
"""Forks and pieces of a tree, at most."""


def cut(goal: Goal, proof: Proof, prove: Prove) -> float:
    """The largest bound of a piece."""
    if goal.region is None or goal.region.inputs != goal.network.inputs:
        raise NotProvable("`cut` needs a region of the inputs of the network.")
    axis = wholes(proof, "axis", None, EMPTY, goal.region.inputs - 1)
    if not 1 <= len(axis) <= MOST:
        raise NotProvable(f"The tree of `cut` must have 1 to {MOST} nodes.")
    at = array(proof, "at", (len(axis),))
    parts, bound = iter(proof.parts), 0.0
    for piece in pieces(goal.region, axis, at):
        sub = next(parts, None)
        if sub is None:
            raise NotProvable("A piece of the region has no proof.")
        bound = max(bound, prove(Goal(goal.network, piece, goal.norm, values=goal.values), sub))
    if next(parts, None) is not None:
        raise NotProvable("There are more proofs than pieces of the region.")
    return bound


def pieces(region: Region, axis: tuple[int, ...], at: Float[np.ndarray, " nodes"]) -> Iterator[Region]:
    """The pieces that need a proof, in preorder.

    Raises:
        NotProvable: the tree does not hang together, a cut outside of its box, a piece said to be empty that may not be.
    """
    try:
        todo = [hull(region)]
        for k, where in zip(axis, at.tolist(), strict=True):
            if not todo:
                raise NotProvable("The tree of the pieces goes on behind its last piece.")
            box = todo.pop()
            if k >= 0:
                todo += reversed(halves(box, k, where))
            elif k == PIECE:
                yield part(region, box)
            elif not nothing_left(region, box):
                raise NotProvable("A piece is said to be empty, but it may not be.")
    except InvalidProblem as error:
        raise NotProvable(str(error)) from None
    if todo:
        raise NotProvable("The tree of the pieces ends before its last piece.")


def nothing_left(region: Region, box: Box) -> bool:
    """Whether a region provably does not meet a box in its hull."""
    return not isinstance(region, Box) and apart(region if isinstance(region, Ball) else region.ball, box)
