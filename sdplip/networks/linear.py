r"""Consecutive linear layers as one dense matrix, and a bound of what its rounding leaves out.

A kernel's entries are those of its dense matrix, bit for bit; products with other layers round, and pooling by a window that is
no power of two does. Every error here is a bound in spectral norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from jaxtyping import Float

from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.errors import InvalidProblem
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal
from sdplip.networks.network import Affine, Linear
from sdplip.networks.pooling import AveragePool

Matrix = Float[np.ndarray, "m n"]
LARGEST = 1 << 25
"""Entries of the largest dense matrix that is formed: 256 MB."""


@dataclass(frozen=True, eq=False)
class Merged:
    r"""A matrix with $\lVert W^* - W \rVert_2 \le$ `error` for the exact product $W^*$."""

    W: Matrix
    error: float = 0.0


def fits(layers: Sequence[Linear]) -> bool:
    """Whether the dense matrices of these consecutive layers may be formed."""
    return all(layer.inputs * layer.outputs <= LARGEST for layer in layers if not isinstance(layer, Diagonal))


def merged(layers: Sequence[Linear]) -> Merged:
    """The product of consecutive linear layers, the first one first.

    Raises:
        InvalidProblem: a matrix of more than `LARGEST` entries.
    """
    if not fits(layers):
        raise InvalidProblem(
            f"A dense matrix of these layers would have more than {LARGEST} entries. Use the method 'frequency' or 'product'."
        )
    total: Merged | None = None
    for layer in layers:
        if isinstance(layer, Diagonal):
            total = _scaled(layer, total)
        else:
            total = _single(layer) if total is None else _product(_single(layer), total)
    assert total is not None
    return total


def _single(layer: Linear) -> Merged:
    if isinstance(layer, Affine):
        return Merged(np.asarray(layer.W, np.float64))
    if isinstance(layer, Convolution):
        return Merged(layer.matrix())
    assert isinstance(layer, AveragePool)
    A = layer.matrix()
    error = 0.0 if powers_of_two(A) else UNIT * float(np.linalg.norm(A)) * (1 + gamma(A.size)) * GENEROUS
    return Merged(A, error)


def _scaled(layer: Diagonal, before: Merged | None) -> Merged:
    d = np.asarray(layer.d, np.float64)
    W = np.diag(d) if before is None else d[:, None] * before.W
    made = (UNIT * (before is not None) + layer.error) * float(np.linalg.norm(W))
    inherited = 0.0 if before is None else before.error * float(abs(d).max()) * (1 + layer.error)
    return Merged(W, (made * (1 + gamma(W.size)) + inherited + W.size * TINY) * GENEROUS)


def _product(left: Merged, right: Merged) -> Merged:
    P = left.W @ right.W
    a, b = (float(np.linalg.norm(M.W)) * (1 + gamma(M.W.size)) for M in (left, right))
    made = 0.0
    if not (_selects(right.W.T, left.W) or _selects(left.W, right.W)):
        made = gamma(left.W.shape[1]) * a * b + 2 * prod(P.shape) * left.W.shape[1] * TINY
    return Merged(P, (made + a * right.error + left.error * (b + right.error)) * GENEROUS)


def _selects(A: Matrix, W: Matrix) -> bool:
    """Whether rows of A hold at most one power of two, so that products with W are exact."""
    if ((A != 0).sum(1) > 1).any() or not powers_of_two(A):
        return False
    least = abs(A[A != 0]).min(initial=1.0) * abs(W[W != 0]).min(initial=1.0)
    return bool(least > 2.0**-900)


def powers_of_two(A: Matrix) -> bool:
    """Whether all entries that are not 0 are powers of two up to their sign."""
    return bool((np.frexp(abs(A[A != 0]))[0] == 0.5).all())
