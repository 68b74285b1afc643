r"""Batch normalisation in evaluation mode as factors and shifts, with what rounding loses."""

from dataclasses import dataclass

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.shapes import Float

Channels = Float[np.ndarray, " channels"]
ERROR = 2.0**-50
"""Relative error of the factors."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """$d x + b$ a channel; `d` within `ERROR`, `b` within `slack`."""

    d: Channels
    b: Channels
    slack: Channels


def normalisation(
    gamma: Channels, beta: Channels, mean: Channels, variance: Channels, eps: float
) -> Normalisation:
    r"""$\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$.

    Raises:
        InvalidWeight: a variance below zero, numbers that are not finite, a factor below the range of double precision.
    """
    gamma, beta, mean, variance = (
        np.asarray(v, np.float64).reshape(-1) for v in (gamma, beta, mean, variance)
    )
    if not all(np.isfinite(v).all() for v in (gamma, beta, mean, variance)):
        raise InvalidWeight("A batch normalisation holds NaN or infinity. Repair or retrain the layer.")
    if not (variance + eps > 0).all():
        raise InvalidWeight("The running variance of a batch normalisation must not be negative.")
    d = gamma / np.sqrt(variance + eps)
    if ((gamma != 0) & (abs(d) < 2.0**-900)).any():
        raise InvalidWeight("A factor of a batch normalisation is too small for double precision.")
    return Normalisation(d, beta - d * mean, (abs(beta) + 4 * abs(d * mean)) * ERROR)
