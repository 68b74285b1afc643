r"""What is known of a nonlinear operator on a region: each output between two affine functions of a few inputs.

Output i reads the inputs `index[i]`, or input i alone where `index` is None. `Lines` are a pair of bounds, for the way backward;
`Relaxed` holds the parallel pair that zonotopes need, the ends of the outputs, and one or more pairs of lines.
"""

from dataclasses import dataclass

import numpy as np

from sdplip.shapes import Float, Int

Vector = Float[np.ndarray, " m"]
Weights = Float[np.ndarray, "m size"]


@dataclass(frozen=True, eq=False)
class Lines:
    r"""`lower` $\cdot x_{\mathrm{index}} +$ `floor` $\le y \le$ `upper` $\cdot x_{\mathrm{index}} +$ `ceiling`."""

    lower: Weights
    floor: Vector
    upper: Weights
    ceiling: Vector


@dataclass(frozen=True, eq=False)
class Relaxed:
    r"""`slope` $\cdot x_{\mathrm{index}} +$ `bottom` $\le y \le$ `slope` $\cdot x_{\mathrm{index}} +$ `top`.

    Attributes:
        index: inputs of each output; None is its own.
        slope, bottom, top: the parallel pair; infinite `bottom` and `top` where nothing is known.
        least, most: ends of the outputs.
        lines: pairs of lines; each is a bound, the narrowest of all counts.
        pairs: entries (a, b) of sorted pairs, where output a is $x_a + x_b - y_b$ and nothing else is said of it but its ends:
            so what is not known of the maximum $y_b$ cancels in sums of both.
    """

    index: Int[np.ndarray, "m size"] | None
    slope: Weights
    bottom: Vector
    top: Vector
    least: Vector
    most: Vector
    lines: tuple[Lines, ...]
    pairs: Int[np.ndarray, "count 2"] | None = None

    @staticmethod
    def within(least: Vector, most: Vector, index: Int[np.ndarray, "m size"] | None = None) -> "Relaxed":
        """Where only the ends of the outputs are known."""
        zero = np.zeros((len(least), 1 if index is None else index.shape[1]))
        return Relaxed(index, zero, least, most, least, most, (Lines(zero, least, zero, most),))
