"""Constants of single nodes that need no proof: closed forms, rounded up."""

import numpy as np

from sdplip.arithmetic.rounding import up
from sdplip.network import (
    Activation,
    Average,
    Diagonal,
    Gather,
    Grouped,
    Maximum,
    Norms,
    Operator,
    Scatter,
    Sort,
)


def node_factor(op: Operator) -> float | None:
    """A proven constant of an operator of one value, or None where only a proof can give it."""
    if isinstance(op, Activation):
        return float(np.maximum(abs(op.alpha), abs(op.beta)).max())
    if isinstance(op, Diagonal):
        return up(float(abs(op.d).max()) * (1 + 2 * op.error))
    if isinstance(op, Gather | Scatter):
        return _root(op.most)
    if isinstance(op, Maximum):
        return _root(op.overlap)
    if isinstance(
        op, Average
    ):  # entries 1 / n: rows sum to at most 1, columns to at most the number of windows over the least n
        overlap = int(np.bincount(op.index[op.index >= 0]).max())
        share = up(up(op.index.shape[1] / float(op.divisor.min())) * up(overlap / float(op.divisor.min())))
        return up(up(float(np.sqrt(share))) * (1 + 2 * op.error)) if op.error else up(float(np.sqrt(share)))
    if isinstance(op, Sort | Norms):
        return 1.0
    return op.constant if isinstance(op, Grouped) else None


def _root(count: int) -> float:
    root = float(np.sqrt(count))
    return root if root.is_integer() and root * root == count else up(root)
