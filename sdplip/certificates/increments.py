"""Increments from a centre behind matrices, sums and sorted pairs, rounding included: values and a matrix with row errors.

`docs/rounding-systems.md`, section 4.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.certificates.system import Layers, Map, Sort
from sdplip.certificates.validate import as_weight
from sdplip.errors import InvalidProblem, InvalidWeight

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Increments:
    """Values at the centre to within `slop`, and the matrix of increments to within `error`, row by row."""

    center: Vector
    slop: Vector
    A: Matrix
    error: Vector


@dataclass(frozen=True, eq=False)
class Front:
    """A network whose leading matrices are multiplied once, for all centres and radii.

    Attributes:
        maps: the leading matrices.
        A, error: their product, and how far each row may be off.
        rest: the layers behind them.
    """

    maps: tuple[Map, ...]
    A: Matrix
    error: Vector
    rest: Layers

    @staticmethod
    @np.errstate(over="ignore", invalid="ignore")
    def of(layers: Layers, inputs: int) -> "Front":
        """Of a network on `inputs` numbers.

        Raises:
            InvalidWeight: widths that do not fit.
        """
        count = next((k for k, layer in enumerate(layers) if not isinstance(layer, Map)), len(layers))
        maps = tuple(layer for layer in layers[:count] if isinstance(layer, Map))
        if not maps:
            return Front((), np.eye(inputs), np.zeros(inputs), layers)
        W = as_weight(maps[0].W, zero=True)
        A, error = W, lengths(W) * maps[0].error
        for layer in maps[1:]:
            A, error = product(layer, A, error)
        return Front(maps, A, error, layers[count:])


def lengths(A: Matrix) -> Vector:
    """Lengths of the rows, rounded up."""
    n = A.shape[1]
    return np.sqrt(np.einsum("ij,ij->i", A, A)) * (1 + gamma(n + 4)) + n * 2.0**-500


def halved(layer: Sort, n: int) -> tuple[Map, Map, Vector]:
    """Half sums and half differences of pairs, what makes minima and maxima of them, and slopes below 0 between."""
    a, b = np.asarray(layer.groups).T
    apart, together, left = np.eye(n), np.eye(n), np.ones(n)
    apart[a, a], apart[a, b], apart[b, a], apart[b, b] = 0.5, 0.5, -0.5, 0.5
    together[a, b], together[b, a], left[b] = -1.0, 1.0, -1.0
    return Map(apart), Map(together), left


def mapped(layer: Map, z: Increments) -> Increments:
    A, error = product(layer, z.A, z.error)
    return Increments(A=A, error=error, **values(layer, z.center, z.slop))


def product(layer: Map, A: Matrix, error: Vector) -> tuple[Matrix, Vector]:
    """W A, and how far its rows may be off: $|W||A|$ has rows of length at most $|W_i| |A|_F$."""
    W = as_weight(layer.W, zero=True)
    if W.shape[1] != len(A):
        raise InvalidWeight(f"A weight of shape {W.shape} is given {len(A)} numbers.")
    n = W.shape[1]
    frobenius = float(np.sqrt(np.einsum("ij,ij->", A, A))) * (1 + gamma(A.size + 4))
    relative = gamma(n + 4) + layer.error * (1 + gamma(n + 4))
    lost = 4 * n * TINY * (1 + float(abs(W).max())) * A.shape[1]
    off = abs(W) @ error * (1 + layer.error) + relative * lengths(W) * frobenius + lost
    return W @ A, off * GENEROUS


def values(layer: Map, center: Vector, slop: Vector) -> dict[str, Vector]:
    """The values behind a matrix, and how far they may be off."""
    W = as_weight(layer.W, zero=True)
    n, A = W.shape[1], abs(W)
    b = np.zeros(len(W)) if layer.b is None else np.asarray(layer.b, np.float64)
    if layer.error and b.any():
        raise InvalidProblem(
            "The shift of a batch normalisation is known up to its rounding only, so it is not covered around a point. Fold it"
            " into the weights and biases of the layer before."
        )
    relative = gamma(n + 6) + layer.error * (1 + gamma(n + 6))
    lost = 4 * n * TINY * (1 + float(A.max()))
    off = A @ slop * (1 + layer.error) + relative * (A @ abs(center) + abs(b)) + lost
    return {"center": W @ center + b, "slop": off * GENEROUS}


def added(z: Increments, after: Increments) -> Increments:
    """A residual sum; blocks of the branch do not stand in its input."""
    A = after.A.copy()
    A[:, : z.A.shape[1]] += z.A
    center = z.center + after.center
    slop = (z.slop + after.slop + UNIT * abs(center)) * GENEROUS
    error = (z.error + after.error + UNIT * lengths(A)) * GENEROUS
    return Increments(center, slop, A, error)
