r"""Lines below and above an activation on an interval, rounding included: what zonotopes and backward bounds are made of.

Piecewise linear functions ($x$ above 0, $s x$ below) differ from $\lambda x$ by a number between 0 and the larger value at an end
of the interval, for every $\lambda$ between s and 1. A smooth function with derivative in $[a, b]$ lies in a parallelogram with
sides through its values at the ends. `docs/rounding-systems.md`, section 3.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.certificates.functions import FUNCTIONS, PIECES
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT
from sdplip.certificates.system import Slope
from sdplip.errors import InvalidProblem

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Band:
    r"""$\lambda x + b \le f(x) \le \lambda x + t$ with $\lambda$ = `slope`, and `least` $\le f(x) \le$ `most`.

    `free` marks functions of which $\mu x$ is a bound for every $\mu$ between `left` and 1: from below where `left` is at most 1,
    else from above.
    """

    slope: Vector
    bottom: Vector
    top: Vector
    least: Vector
    most: Vector
    left: Vector
    free: np.ndarray


def band(layer: Slope, low: Vector, high: Vector) -> tuple[Slope, Band]:
    """The slopes that `layer` has on these intervals, and its band.

    Raises:
        InvalidProblem: an activation of which only the slopes are known.
    """
    alpha, beta = (np.zeros(len(low)) + v for v in (layer.alpha, layer.beta))
    if layer.kind in PIECES:
        left = PIECES[layer.kind](alpha, beta)
        on, off = low >= 0, high <= 0
        slope = np.where(on, 1.0, left)
        alpha, beta = np.where(on | off, slope, alpha), np.where(on | off, slope, beta)
        return Slope(alpha, beta, layer.kind), _pieces(low, high, left, on, off)
    if layer.kind not in FUNCTIONS:
        raise InvalidProblem(
            f"What an activation of kind {layer.kind!r} does on a region is not known. Use one of"
            f" {', '.join([*PIECES, *FUNCTIONS])}, or the bound of all inputs."
        )
    function = FUNCTIONS[layer.kind]
    least, most = function.derivatives(low, high)
    alpha, beta = np.maximum(alpha, least), np.minimum(beta, most)
    beta = np.maximum(alpha, beta)
    return Slope(alpha, beta, layer.kind), _smooth(low, high, function.value, alpha, beta)


def _pieces(low: Vector, high: Vector, left: Vector, on: np.ndarray, off: np.ndarray) -> Band:
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = np.where(on, 1.0, np.where(off, left, (high - left * low) / (high - low)))
    chord = np.clip(chord, np.minimum(left, 1.0), np.maximum(left, 1.0))
    bent = ~(on | off)
    ends = np.stack([(1 - chord) * high, (left - chord) * low])
    pad = 8 * UNIT * (1 + abs(left) + abs(chord)) * np.maximum(abs(low), abs(high)) + TINY
    convex = left <= 1
    top = np.where(bent, np.where(convex, ends.max(0) + pad, 0.0), 0.0)
    bottom = np.where(bent, np.where(convex, 0.0, ends.min(0) - pad), 0.0)
    at_ends = np.stack([np.where(v >= 0, v, left * v) for v in (low, high)])
    least, most = at_ends.min(0), at_ends.max(0)
    least = np.where(bent, np.minimum(least, 0.0), least) - pad
    most = np.where(bent, np.maximum(most, 0.0), most) + pad
    return Band(chord, bottom, top, least, most, left, bent)


def _smooth(low: Vector, high: Vector, value, alpha: Vector, beta: Vector) -> Band:
    r"""With $\lambda$ near the slope of the chord, $f - \lambda x$ leaves its end values by at most $s t w / (s + t)$,
    $s = \beta - \lambda$, $t = \lambda - \alpha$, w the width."""
    (f, f_error), (g, g_error) = value(low), value(high)
    width = (high - low) * (1 + 4 * UNIT)
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = (g - f) / (high - low)
    slope = np.clip(np.where(np.isfinite(chord), chord, alpha / 2 + beta / 2), alpha, beta)
    s, t = (beta - slope) * (1 + 4 * UNIT), (slope - alpha) * (1 + 4 * UNIT)
    with np.errstate(divide="ignore", invalid="ignore"):
        corner = np.where(s + t > 0, s * (t / (s + t)), 0.0) * width * (1 + 16 * UNIT)
    size = abs(f) + abs(g) + abs(slope) * (abs(low) + abs(high))
    pad = (np.maximum(f_error, g_error) + 8 * UNIT * (size + corner)) * GENEROUS + 4 * TINY
    p, q = f - slope * low, g - slope * high
    bottom, top = np.minimum(p, q) - corner - pad, np.maximum(p, q) + corner + pad
    reach = np.maximum(abs(alpha), abs(beta)) * width * (1 + 8 * UNIT) + pad
    monotone = alpha >= 0
    least = np.where(monotone, f - pad, np.minimum(f, g) - reach)
    most = np.where(monotone, g + pad, np.maximum(f, g) + reach)
    return Band(slope, bottom, top, least, most, np.zeros_like(low), np.zeros(len(low), bool))
