r"""Sums of products as they are at an image: what their rounding can be, by the sizes of the very terms and not by norms."""

# Note [measured sums]. A sum of n products p_i is computed in any order, fused or not. Let S = sum |p_i|, and m = max(P, N) of the sums of
# the positive and of the negative products. Products are off by u |p_i| at most (if fused, by nothing). A partial sum lies between -N and P
# times (1 + u)^n, by induction over the additions, so each of the n - 1 additions rounds by at most u (1 + u)^n m: together
#     |computed - exact| <= u S + gamma_n m,    m = (S + |sum p_i|) / 2,    |sum p_i| <= |computed| + gamma_n S,
# about half of the usual gamma_n S where signs alternate. A bias is one of the products. At an image whose inputs are off by d entry by
# entry, S and |sum p_i| grow by at most (|A| d)_i, so the bound by at most (u + gamma_n) |A| d, whose length is that times | |A| | |d|.

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.nn.blocked import Blocked
from sdplip.nn.plain import applied
from sdplip.robustness.absolute import Format
from sdplip.robustness.rounding_flow import Affine, lengths


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of a linear map, entry by entry.

    Attributes:
        sizes: $|A| |z| + |b|$ of a batch, in double precision; a transposed convolution takes the size of its result from the second.
        roundings: of one product, those of its factors included.
        gamma: of the sums, bias included.
        unit: unit roundoff.
        ordered: gamma is that of all roundings of a product, and nothing is known of the partial sums.
    """

    sizes: Callable[[Tensor, Tensor | None], Tensor]
    roundings: int
    gamma: float
    unit: float
    ordered: bool = False

    @property
    def steep(self) -> float:
        """By how much the error grows with $|A| d$, see Note [measured sums]."""
        return (self.roundings * self.unit + self.gamma) * GENEROUS

    def lost(self, z: Tensor, y: Tensor, like: Tensor | None = None) -> Tensor:
        """What each sum can be off by, if `y` was computed from `z`."""
        S = self.sizes(z, like)
        if self.ordered:
            return self.gamma * S * GENEROUS
        most = (S * (1 + self.gamma) + abs(y.double())) / 2
        return (self.roundings * self.unit * S + self.gamma * most) * GENEROUS


def sums(module: nn.Module, terms: int, format: Format, roundings: int = 1) -> Sums | None:
    """Of a linear layer or convolution whose weight is stored; None where it is computed, and in double precision, where norms do.

    By blocks each product takes part in k roundings, so that the error is at most $\\gamma_k S$.

    Args:
        terms: of one sum, bias included.
        roundings: of one product.
    """
    if isinstance(module, Blocked):
        found = sums(module.layer, terms, format, 0)
        gamma = format.gamma(module.roundings + roundings - 1)
        return None if found is None else replace(found, gamma=gamma, ordered=True)
    if format.unit < 2.0**-40 or torch.nn.utils.parametrize.is_parametrized(module):
        return None
    rough: Any = copy.deepcopy(module).double()
    rough.requires_grad_(False)
    rough.weight.abs_()
    if rough.bias is not None:
        rough.bias.abs_()

    def sizes(z: Tensor, like: Tensor | None) -> Tensor:
        return applied(rough, abs(z.double()), like)

    return Sums(sizes, roundings, format.gamma(terms), format.unit)


Pair = tuple[Tensor, Tensor]


def block_sums(
    layers: tuple[nn.Module, nn.Module], terms: tuple[int, int], roundings: int, format: Format
) -> Callable[[Tensor, Pair, tuple[float, float], Affine], tuple[Affine, Affine]] | None:
    r"""Both errors of $D \sigma(U z + b)$ by the sums as they are, see Note [block]; None as of `sums`.

    The function takes z, what the units hold before and after the activation, the largest slope and the norm of $|D| |U|$, and the
    distance.

    Args:
        terms: of a sum of both layers; those of the second with the roundings of the activation.
        roundings: of one product of the second layer.
    """
    up, down = sums(layers[0], terms[0], format), sums(layers[1], terms[1], format, roundings)
    if up is None or down is None:
        return None
    twice = 1 + 4 * format.gamma(roundings) + 4 * down.steep  # the roundings of the activation at both images

    def found(
        z: Tensor, units: Pair, factors: tuple[float, float], distance: Affine
    ) -> tuple[Affine, Affine]:
        (a, v), (beta, both) = units, factors
        e = up.lost(z, a)
        before = (beta * up.steep * both) * distance + lengths(beta * down.sizes(e, z))
        here = lengths(down.lost(v, applied(layers[1], v, z), z)) * twice
        return before, (down.steep * twice) * (beta * both * distance + 2.0 * before) + here

    return found
