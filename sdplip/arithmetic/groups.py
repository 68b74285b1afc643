r"""Functions of groups of entries with a proven Lipschitz constant: softmax, layer normalisation and their kind.

Weights and shifts of normalisation layers are diagonal maps of their own: $\max |w| / \sqrt\varepsilon$ is a product.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdplip.arithmetic.elementwise import need, need_finite
from sdplip.arithmetic.rounding import down, up
from sdplip.shapes import Float

Groups = Float[np.ndarray, "*batch count size"]


@dataclass(frozen=True)
class GroupFunction:
    r"""`value(x)` acts on the last axis; `constant(size)` is a proven Lipschitz constant of one group in Euclidean norms, rounded
    up. Both take the parameters by keyword, each a number or one number a group; `constant` checks them (`InvalidWeight`)."""

    parameters: tuple[str, ...]
    value: Callable[..., Groups]
    constant: Callable[..., float]


def _softmax(x: Groups) -> Groups:
    with np.errstate(all="ignore"):
        y = np.exp(x - x.max(-1, keepdims=True))
        return y / y.sum(-1, keepdims=True)


def _half(size: int) -> float:  # noqa: ARG001  (the same for all)
    r"""The Jacobian $\mathrm{diag}(p) - p p^\top$ is symmetric, with absolute row sums $2 p_i (1 - p_i) \le 1/2$."""
    return 0.5


def _log_softmax(x: Groups) -> Groups:
    with np.errstate(all="ignore"):
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _root_of_size(size: int) -> float:
    r"""The Jacobian $I - A$, $A = 1 p^\top$, $A^2 = A$, is an oblique projection and has the norm of A (Szyld, Numer. Algorithms
    42, 2006), which is $\sqrt n \lVert p \rVert \le \sqrt n$. Of one entry it is 0."""
    return up(float(np.sqrt(size))) if size > 1 else 0.0


def _shared_logsumexp(x: Groups) -> Groups:
    """Of each group, at each of its n entries, the n-th part of $\\log \\sum_i e^{x_i}$: its sum is a Scatter of norm $\\sqrt n$."""
    with np.errstate(all="ignore"):
        top = x.max(-1, keepdims=True)
        return np.broadcast_to((np.log(np.exp(x - top).sum(-1, keepdims=True)) + top) / x.shape[-1], x.shape)


def _one_over_root(size: int) -> float:
    r"""The Jacobian $\frac1n 1 p^\top$ has the norm $\lVert p \rVert / \sqrt n \le 1 / \sqrt n$."""
    return up(1 / down(float(np.sqrt(size))))


def _layer_norm(x: Groups, eps: Any) -> Groups:
    z = x - x.mean(-1, keepdims=True)
    return z / np.sqrt((z * z).mean(-1, keepdims=True) + _column(eps))


def _rms_norm(x: Groups, eps: Any) -> Groups:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + _column(eps))


def _root_of_eps(size: int, eps: Any) -> float:  # noqa: ARG001
    r"""$z / s$ with $s^2 = \lVert z \rVert^2 / n + \varepsilon$ has the Jacobian $\frac1s (I - \frac{z z^\top}{n s^2})$ with
    eigenvalues in $[0, 1/s]$, since $\lVert z \rVert^2 < n s^2$; so $1 / \sqrt\varepsilon$, which it reaches at z = 0. Layer
    normalisation
    is the same behind the projection to mean 0."""
    return _inverse(down(float(np.sqrt(_least("eps", eps)))))


def _normalize(x: Groups, eps: Any) -> Groups:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), _column(eps))


def _one_over_eps(size: int, eps: Any) -> float:  # noqa: ARG001
    r"""The projection onto the ball of radius $\varepsilon$, times $1 / \varepsilon$."""
    return _inverse(_least("eps", eps))


def _householder(x: Groups, a: Any, b: Any) -> Groups:
    r"""$z + 2 v\,\mathrm{relu}(-v^\top z)$ with $v = (a, b)$: the reflection of what lies behind a mirror."""
    v = np.stack(np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64)), -1)
    return x + 2 * v * np.maximum(-(v * x).sum(-1, keepdims=True), 0.0)


def _reflection(size: int, a: Any, b: Any) -> float:
    r"""Continuous, with the Jacobians I and $I - 2 v v^\top$: $\max(1, 2 \lVert v \rVert^2 - 1)$."""
    need(size == 2, f"Householder activations act on pairs, not on groups of {size}.")
    need_finite("householder", a=a, b=b)
    longest = np.max(np.square(a) + np.square(b)) * (1 + 2.0**-50) + 2.0**-1000
    return max(1.0, up(up(float(2 * longest)) - 1))


def _column(eps: Any) -> Any:
    return np.asarray(eps, np.float64)[..., None]


def _least(name: str, eps: Any) -> float:
    need_finite("normalisation", **{name: eps})
    least = float(np.min(eps))
    need(
        least >= 2.0**-1022,
        f"`{name}` is {least}: without it the map has no finite constant. Use a positive `{name}`.",
    )
    return least


def _inverse(x: float) -> float:
    found = up(1 / x)
    need(bool(np.isfinite(found)), f"1 over {x} leaves the range of double precision. Use a larger `eps`.")
    return found


GROUPED: Mapping[str, GroupFunction] = {
    "softmax": GroupFunction((), _softmax, _half),
    "softmin": GroupFunction((), lambda x: _softmax(-x), _half),
    "log_softmax": GroupFunction((), _log_softmax, _root_of_size),
    "shared_logsumexp": GroupFunction((), _shared_logsumexp, _one_over_root),
    "layer_norm": GroupFunction(("eps",), _layer_norm, _root_of_eps),
    "rms_norm": GroupFunction(("eps",), _rms_norm, _root_of_eps),
    "normalize": GroupFunction(("eps",), _normalize, _one_over_eps),
    "householder": GroupFunction(("a", "b"), _householder, _reflection),
}
"""By name. Lengths of groups (l2 pooling) are `Norms`, sorted groups `Sort`."""
