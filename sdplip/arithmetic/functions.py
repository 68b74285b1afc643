r"""The elementwise functions of networks, one table for all uses: values, slopes, ranges on intervals, all rounded outward."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Ends = tuple[Vector, Vector]


@dataclass(frozen=True)
class Function:
    r"""What is known about an elementwise function; every callable takes the parameters by keyword, numbers or one an entry.

    Attributes:
        parameters: names and defaults.
        value: the function in floating point.
        slopes: the least and largest difference quotient $(\varphi(x) - \varphi(y)) / (x - y)$ on the whole line, rounded outward.
        values: `(low, high)` to proven lower and upper ends of $\varphi$ on those intervals.
        derivatives: `(low, high)` to proven ends of all difference quotients on those intervals.
        pieces: of a piecewise linear function its knots (k of them, ascending), the slopes (k + 1) and the value at the first
            knot; None of others.
        roundings: how many roundings a usual implementation makes in a value by comparisons, sums and products alone; None where
            it calls library functions, whose error nobody states.
    """

    parameters: Mapping[str, float]
    value: Callable[..., Vector]
    slopes: Callable[..., tuple[float | Vector, float | Vector]]
    values: Callable[..., Ends]
    derivatives: Callable[..., Ends]
    pieces: Callable[..., tuple[Vector, Vector, float]] | None = None
    roundings: int | None = None


def _todo(*_, **__):
    raise NotImplementedError


FUNCTIONS: Mapping[str, Function] = {
    "identity": Function({}, lambda x: x, lambda: (1.0, 1.0), _todo, _todo),
    "relu": Function({}, lambda x: np.maximum(x, 0.0), lambda: (0.0, 1.0), _todo, _todo),
    "tanh": Function({}, np.tanh, lambda: (0.0, 1.0), _todo, _todo),
}
