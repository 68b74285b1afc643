"""Singular values of a rescaled layer: how much gradient it keeps, and how far it is from orthogonal. Estimates, not proofs."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from sdplip.convolution import symbol
from sdplip.display import brief
from sdplip.reports.grid import frequency_grid
from sdplip.reports.layer import Layer


@dataclass(frozen=True, eq=False)
class Spectrum:
    r"""Singular values of $P = W T^{-1/2}$, largest first; of a convolution those at every frequency of the image grid together.

    Attributes:
        singular_values: `min(m, n)` of a matrix, and as many for each frequency and channel group of a convolution.
        orthogonality_defect: $\lVert I - P^\top P \rVert_F$; of a convolution its root mean square over the frequencies.
    """

    singular_values: Float[np.ndarray, " k"]
    orthogonality_defect: float

    __repr__ = brief("mean", "least", "orthogonality_defect")

    @property
    def mean(self) -> float:
        return float(self.singular_values.mean())

    @property
    def least(self) -> float:
        return float(self.singular_values[-1])

    def share_above(self, threshold: float = 0.99) -> float:
        """Share of the singular values of at least `threshold`."""
        return float((self.singular_values >= threshold).mean())


def spectrum(layer: Layer, t: Float[np.ndarray, " n"]) -> Spectrum:
    """The singular values of the layer rescaled by `t`, from NumPy."""
    P = layer.rescaled(t)
    columns = len(t)
    if layer.is_convolution:
        geometry = layer.geometry
        P = symbol(P, replace(geometry, padding_mode="circular", padding=None), frequency_grid(layer))
        columns = len(P) * P.shape[-1] if layer.form == "linear" else len(t)
    s = np.linalg.svdvals(P)
    frequencies = s[0, ..., 0].size if layer.is_convolution else 1
    squares = float(((1 - s * s) ** 2).sum()) + columns * frequencies - s.size
    return Spectrum(np.sort(s.ravel())[::-1], max(0.0, squares / frequencies) ** 0.5)
