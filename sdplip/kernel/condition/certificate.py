"""The certificate as data: what was proven about one layer."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

import numpy as np

from sdplip.arithmetic.powers import nonzero
from sdplip.arithmetic.rounding import TINY, up
from sdplip.display import brief, equal, hashed, html
from sdplip.geometry import Geometry
from sdplip.shapes import Float

Form = Literal["linear", "residual"]
"""Which layer is certified: $W T^{-1/2} x$, or $x - 2 W T^{-1} \\sigma(W^T x)$."""


class Verdict(Enum):
    """Answer to "is $W^T W <= T$?", each backed by a proof except the last."""

    SATISFIED = "satisfied"
    VIOLATED = "violated"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Certificate:
    r"""A proven enclosure of the least $c$ with $W^\top W \preceq c^2\,\mathrm{diag}(t)$.

    Attributes:
        t: the scaling, one entry for each column of `W` (each channel of a convolution).
        c: proven upper bound, $W^\top W \preceq c^2\,\mathrm{diag}(t)$.
        c_lower: proven lower bound; `c_lower > 1` proves that `t` violates the condition.
        witness: the vector (or, for a convolution of given image size with zero padding, the image) that proves `c_lower`.
        form: "linear" or "residual".
        scaling: how `t` was proposed; no part of the proof.
        geometry: how the convolution moves over its image, None for a matrix.
        grid: of a convolution, the frequencies at which its symbol was proven, on each image axis: those of its image size, or
            the finest lattice of cells that cover every size.
        frequency: channel group and lattice point at which `witness` attains `c_lower`, None for a matrix or an image witness.
    """

    t: Float[np.ndarray, " n"]
    c: float
    c_lower: float
    witness: np.ndarray
    form: Form = "linear"
    scaling: str = "given"
    geometry: Geometry | None = None
    grid: tuple[int, ...] | None = None
    frequency: tuple[int, ...] | None = None

    __repr__ = brief("c", "c_lower", "form", "scaling", "t")
    __eq__ = equal
    __hash__ = hashed
    _repr_html_ = html

    @property
    def bound(self) -> float:
        r"""Proven Lipschitz bound of the layer: $c$ (linear), $\max(1, 2 c^2 - 1)$ (residual), rounded up."""
        if self.form == "linear":
            return self.c
        return max(1.0, up(up(2 * up(self.c * self.c)) - 1))

    @property
    def proven_t(self) -> Float[np.ndarray, " n"]:
        r"""$\max(1, c^2)\,t$ rounded up: a scaling that is proven to satisfy the condition."""
        if self.c <= 1:
            return self.t
        t = np.nextafter(up(self.c * self.c) * self.t, np.inf)
        return np.where(nonzero(self.t), np.maximum(t, TINY), 0.0)  # what underflowed was below `TINY`

    def verdict(self, tolerance: float = 1e-6) -> Verdict:
        """Satisfied if `c <= 1 + tolerance`, violated if `c_lower > 1 + tolerance`, else undecided."""
        if self.c <= 1 + tolerance:
            return Verdict.SATISFIED
        return Verdict.VIOLATED if self.c_lower > 1 + tolerance else Verdict.UNDECIDED
