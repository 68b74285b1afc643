"""Linear maps and blocks of two of them, as they round: the steps that the rules of `forward_error` share."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.nn.activations import Abs
from sdplip.nn.slopes import monotone_slope
from sdplip.robustness.absolute import Format, LinearMap, length_above, norm_above
from sdplip.robustness.rounding_flow import REACH, Affine, RoundingContext, Step, lengths
from sdplip.robustness.rounding_sums import Sums, block_sums

ROUNDINGS: dict[type, int] = {nn.ReLU: 0, nn.ReLU6: 0, nn.Identity: 0, Abs: 0, nn.LeakyReLU: 2}
"""Elementwise activations that are computed by comparisons and products alone, with the roundings of a result."""

SINGLE = 1 + 2.0**-21
"""Covers the rounding of an activation's parameter to single precision."""


def affine(
    map: LinearMap,
    run: Callable[[Tensor], Tensor],
    format: Format,
    found: Sums | None = None,
    roundings: int | None = None,
) -> Step:
    r"""$|fl(A z + b) - (A z + b)| \le \gamma_n (|A| |z| + |b|)$, and the same of lengths; by `found` if there is one.

    Args:
        roundings: that a product takes part in, n; as many as there are products if None.
    """
    A, gamma = norm_above(map.M), format.gamma(roundings or map.terms)

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        y = run(z)
        size = A * norm + _length(map.bias, y[0].numel())
        if found is None:
            delta = gamma * size
        else:
            delta = (found.steep * A) * distance + lengths(found.lost(z, y))
        return y, within_range(delta + 4 * map.terms * format.tiny * y[0].numel(), size, format)

    return step


# Note [block]. The exact block is B(z) = h z + D sigma(U z + b), with |U|, |D| bounded by M_u, M_d (n and m terms a sum) and
# slopes of sigma in [0, beta]. For any positive weights w of the hidden units:
#   computed U z + b is off by at most gamma_n (|U| |z| + |b|) entry by entry, hence the output by
#   beta gamma_n (|M_d M_u| |z| + |M_d / w| |w b|), where |M_d M_u| is one norm of a product, less than the product of norms;
#   computed D v is off by at most gamma_m |M_d / w| |w v|, v being what sigma returned;
#   the sum by at most gamma_3 of its parts (h may be rounded as well).
# Where the sums are known entry by entry, Note [measured sums], the first is beta | |M_d| e | with the e of U z + b at the image, and
# beta (u + gamma_n) |M_d M_u| d around it; the second is that of D v at the image, and (k u + gamma_m) (beta |M_d M_u| d + 2 first)
# around it, because v moves by no more than beta (|U| d + e + e') entry by entry.
# w = sqrt(column length of M_d / row length of M_u) balances the two factors; in a residual layer it is the root of the step.


def block(
    up: LinearMap,
    down: LinearMap,
    hidden: Callable[[Tensor], Tensor],
    module: nn.Module,
    activation: nn.Module,
    h: float,
    context: RoundingContext,
    layers: tuple[nn.Module, nn.Module] | None = None,
) -> Step:
    """The step of $h z + D \\sigma(U z + b)$, see Note [block]. `hidden` computes $U z + b$; `layers` are both maps, if stored."""
    if type(activation) not in ROUNDINGS:
        raise context.refuse(activation, "its activation calls mathematical functions.")
    format, k = context.format, ROUNDINGS[type(activation)]
    beta = monotone_slope(activation) * SINGLE
    w = _balance(up.M, down.M)
    inverse = np.divide(1.0, w, out=np.zeros_like(w), where=w > 0)
    U, D, both = norm_above(w[:, None] * up.M), norm_above(down.M * inverse), norm_above(up.M, down.M)
    U, D = U * GENEROUS, D * GENEROUS  # of the products with w and its inverse
    plain_U, plain_D = norm_above(up.M), norm_above(down.M)
    weighted_bias = None if up.bias is None else w * up.bias
    g_up, g_down, g_add = format.gamma(up.terms), format.gamma(down.terms + k + 1), format.gamma(3)
    found = None if layers is None else block_sums(layers, (up.terms, down.terms + k + 1), k + 2, format)

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        a = hidden(z)
        units = a[0].numel()
        b, plain_b = _length(weighted_bias, units), _length(up.bias, units)
        v = activation(a)
        before = (beta * g_up) * (both * norm + D * b)
        noise = (2 * beta * g_up) * (U * norm + b)
        hidden_size = (beta * U) * distance + noise + lengths(_weigh(v, w, up.axes))
        out = (D * (1 + 4 * format.gamma(k + 1))) * hidden_size
        out = out + _length(down.bias, z[0].numel())
        after = g_down * out
        if found is not None:
            before, after = found(z, (a, v), (beta, both), distance)
        tiny = 4 * (up.terms + down.terms + 8) * format.tiny * (units + z[0].numel())
        delta = before + after + (2 * g_add) * (abs(h) * norm + out) + tiny * (1 + (beta + 1) * plain_D)
        inner = plain_U * norm + plain_b
        size = (1 + plain_D * (beta + 1)) * inner + plain_D * lengths(v)
        return module(z), within_range(delta, size, format)

    return step


def within_range(delta: Affine, size: Affine, format: Format) -> Affine:
    """`delta`, or infinity where sums of at most `size` might overflow at images within `REACH`."""
    safe = size.constant + size.slope * REACH < format.large
    return Affine(np.where(safe, delta.constant, np.inf), delta.slope)


def _balance(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Weights of hidden units that make both factors equally long; 0 where nothing leaves the unit, 1 where nothing enters."""
    enter, leave = length_above(up), length_above(down.T)
    return np.where(down.any(0), np.where(up.any(1), np.sqrt(leave / enter), 1.0), 0.0)


def _weigh(v: Tensor, w: np.ndarray, axes: int) -> Tensor:
    """Hidden units times their weights, in double precision; `axes` image axes follow theirs."""
    weights = torch.from_numpy(w).to(v.device)
    return v.double() * weights.reshape(-1, *(1,) * axes)


def _length(bias: np.ndarray | None, entries: int) -> float:
    """Length of a bias that is repeated until it has so many entries."""
    return 0.0 if bias is None else float(length_above(bias)) * sqrt(entries / len(bias)) * GENEROUS
