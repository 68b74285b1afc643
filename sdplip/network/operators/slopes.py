"""Slopes of elementwise functions at points, in floating point: the right one at a kink."""

from functools import lru_cache

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.errors import InvalidWeight
from sdplip.network.operators.nonlinear import Activation
from sdplip.shapes import Float

Rows = Float[np.ndarray, "*batch n"]


def slopes_at(op: Activation, x: Rows) -> Rows:
    """The slope of each entry at `x`.

    Raises:
        InvalidWeight: only the slopes' interval is known.
    """
    if not op.name:
        raise InvalidWeight("Only the slopes of this activation are known, not its values.")
    if FUNCTIONS[op.name].pieces is not None:
        knots, slopes = _pieces(op)
        piece = (
            sum((x >= knot).astype(np.intp) for knot in knots) if len(knots) else np.zeros(x.shape, np.intp)
        )
        return np.clip(slopes[piece, np.arange(op.length)], op.alpha, op.beta)
    low, high = FUNCTIONS[op.name].derivatives(x, np.nextafter(x, np.inf), **op.parameters)
    return np.clip(low / 2 + high / 2, op.alpha, op.beta)


@lru_cache(maxsize=64)
def _pieces(op: Activation) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, "pieces n"]]:
    """Knots and slopes of each entry: looked up at many points of one network."""
    pieces = FUNCTIONS[op.name].pieces
    assert pieces is not None
    knots, slopes, _ = pieces(**op.parameters)
    every = np.zeros(op.length)
    return np.array([every + knot for knot in knots]), np.array([every + slope for slope in slopes])
