"""Multiplication of every coordinate by a constant: input normalisation, batch normalisation in evaluation mode."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidWeight


@dataclass(frozen=True, eq=False)
class Diagonal:
    r"""$x \mapsto d x + b$, entry by entry.

    Attributes:
        d: the factors, one for each coordinate.
        b: the shift; None is 0.
        error: relative error of the factors, where they are roundings of what is meant.
    """

    d: Float[np.ndarray, " n"]
    b: Float[np.ndarray, " n"] | None = None
    error: float = 0.0

    def __post_init__(self) -> None:
        if np.ndim(self.d) != 1 or not np.isfinite(self.d).all():
            raise InvalidWeight("The factors of a normalisation must be a vector of finite numbers.")
        if self.b is not None and (np.shape(self.b) != np.shape(self.d) or not np.isfinite(self.b).all()):
            raise InvalidWeight(f"The shift of a normalisation must hold {len(self.d)} finite numbers.")

    @property
    def inputs(self) -> int:
        return len(self.d)

    @property
    def outputs(self) -> int:
        return len(self.d)


def batch_norm(
    gamma: Float[np.ndarray, " c"],
    beta: Float[np.ndarray, " c"],
    mean: Float[np.ndarray, " c"],
    variance: Float[np.ndarray, " c"],
    eps: float,
    pixels: int,
) -> Diagonal:
    r"""$\gamma (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta$ on `pixels` pixels a channel, with its four roundings.

    Raises:
        InvalidWeight: a variance below zero.
    """
    gamma, beta, mean, variance = (np.asarray(v, np.float64) for v in (gamma, beta, mean, variance))
    if not (variance + eps > 0).all():
        raise InvalidWeight("The running variance of a batch normalisation must not be negative.")
    d = gamma / np.sqrt(variance + eps)
    return Diagonal(np.repeat(d, pixels), np.repeat(beta - d * mean, pixels), error=2.0**-50)
