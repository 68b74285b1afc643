r"""How many pixels one change of an image can flip, when flipping a pixel has a proven cost.

If the signed radii of the pixels move, as one vector, by at most the length of the change, then whoever flips the pixels of a set S
pays $\sum_{p \in S} r_p^2 \le \epsilon^2$. The cheapest ones first is the best that any change can do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from sdplip.kernel.pixels import budget, paid

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Sides:
    """One class on one image: pixels that count for its intersection over union, and what others cost.

    Attributes:
        inside: signed radii of the class where it is predicted and right: flipped, they leave the intersection.
        outside: costs where it is neither predicted nor right: flipped, they join the union.
        union: pixels where it is predicted or right.
    """

    inside: Vector
    outside: Vector
    union: int

    @staticmethod
    def of(signed: Vector, is_class: Bool[np.ndarray, " n"]) -> "Sides":
        """Of the signed radii of a class at the pixels, and where the mask has it."""
        predicted = signed > 0
        return Sides(
            signed[predicted & is_class], -signed[~predicted & ~is_class], int((predicted | is_class).sum())
        )

    def trades(self, reach: float) -> Int[np.ndarray, "2 k"]:
        """Every `(a, b)` that matters: a pixels leave the intersection, and with the rest at most b join the union."""
        left, joined, most = paid(self.inside), paid(self.outside), budget(reach)
        a = np.arange(int(np.searchsorted(left, most, side="right")))
        rest = np.nextafter(most - left[a], np.inf)
        return np.stack([a, np.searchsorted(joined, rest, side="right") - 1])


def least_share(images: Sequence[Sides], reaches: Sequence[float]) -> float:
    """The least intersection over union of all images together, each of them changed within its own reach; NaN without a union.

    The minimum of a quotient of sums by Dinkelbach's iteration, in whole numbers: it ends where no choice is better.
    """
    inside, union = sum(len(s.inside) for s in images), sum(s.union for s in images)
    trades = [s.trades(reach).astype(object) for s, reach in zip(images, reaches, strict=True)]
    top, bottom = inside, union
    while bottom:
        left = joined = 0
        for a, b in trades:
            best = int(np.argmax(a * bottom + b * top))
            left, joined = left + int(a[best]), joined + int(b[best])
        better = inside - left, union + joined
        if better[0] * bottom >= top * better[1]:
            return top / bottom
        top, bottom = better
    return float("nan")
