r"""Lipschitz constants that stand in closed form, of single operators: no proof is needed, every value is rounded up."""

from fractions import Fraction

import numpy as np

from sdplip.arithmetic.powers import nonzero
from sdplip.arithmetic.rounding import GENEROUS, TINY, gamma, up
from sdplip.network import (
    AbstractLinear,
    Activation,
    Average,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Grouped,
    Maximum,
    Norms,
    OnAxis,
    Operator,
    Scatter,
    Sort,
    Transposed,
)


def node_factor(op: Operator) -> float | None:
    r"""At least the l2 Lipschitz constant of an operator of one value; None where that needs a proof, or several values come in.

    Activations: the largest slope in absolute value. Sorting and lengths of groups: 1. Maxima over windows: the root of how
    many windows share an entry. Index maps: the root of how often an entry is read. Means: $\sqrt{\lVert A \rVert_1 \lVert A
    \rVert_\infty}$. Zero maps: 0.
    """
    match op:
        case Activation():
            return float(max(abs(op.alpha).max(), abs(op.beta).max()))
        case Sort() | Norms():
            return 1.0
        case Maximum():
            return root_above(op.overlap)
        case Grouped():
            return op.constant
        case AbstractLinear():
            return linear_factor(op)
        case _:
            return None


def linear_factor(op: AbstractLinear) -> float | None:
    """`node_factor` of a linear map: its norm, where that stands in closed form."""
    match op:
        case Diagonal():
            most = float(abs(op.d).max())
            return most if op.error == 0 else up(most * up(1 + op.error))
        case Gather() | Scatter():
            return root_above(op.most)
        case Average():
            return _average(op)
        case Transposed():
            return linear_factor(op.of)
        case Dense() | OnAxis():
            return None if nonzero(op.W).any() else 0.0
        case Convolution():
            return None if nonzero(op.K).any() else 0.0
        case _:
            return None


def root_above(numerator: int, denominator: int = 1) -> float:
    r"""The least double that is at least $\sqrt{\mathrm{numerator} / \mathrm{denominator}}$, or the one after it."""
    found = float(np.sqrt(numerator / denominator))
    while Fraction(found) ** 2 * denominator < numerator:
        found = up(found)
    return found


def row_and_column_sums(op: AbstractLinear) -> float:
    r"""At least the norm of a map with nonnegative entries: $\sqrt{\lVert A \rVert_1 \lVert A \rVert_\infty}$."""
    rows = float(op.apply(np.ones(op.inputs)).max()) * (1 + gamma(op.terms + 2)) * GENEROUS + TINY
    columns = (
        float(op.adjoint(np.ones(op.outputs)).max()) * (1 + gamma(op.adjoint_terms + 2)) * GENEROUS + TINY
    )
    return up(up(float(np.sqrt(rows))) * up(float(np.sqrt(columns))))


def _average(op: Average) -> float:
    """The root of the largest row sum times the largest column sum."""
    inside = op.index >= 0
    rows, n = inside.sum(1), op.divisor
    if (n == n[0]).all() and float(n[0]).is_integer():
        columns = np.bincount(op.index[inside], minlength=1)
        return root_above(int(rows.max()) * int(columns.max()), int(n[0]) ** 2)
    shares = np.broadcast_to(1 / n[:, None], op.index.shape)[inside]
    columns = np.bincount(op.index[inside], shares, minlength=1)
    square = (
        float((rows / n).max()) * float(columns.max()) * (1 + gamma(len(op.index) * op.index.shape[1] + 8))
    )
    return up(up(float(np.sqrt(square))))
