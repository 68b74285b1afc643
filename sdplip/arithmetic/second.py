r"""Second derivatives of smooth functions: ranges on intervals, from polynomials in the proven range of the function itself.

With $t = \tanh x$, $u = \sigma(x)$ (sigmoid): $\tanh'' = -2 t (1 - t^2)$, $\sigma'' = u (1 - u) (1 - 2 u)$, $\mathrm{softplus}'' = u (1 - u)$;
$\mathrm{atan}'' = -2 x / (1 + x^2)^2$, $\mathrm{gelu}'' = \varphi(x) (2 - x^2)$, $\mathrm{erf}'' = -4 x e^{-x^2} / \sqrt\pi$. Each is monotone
between its turns, so that ends and turns give its range. Every value is at most 2 in size and made of at most eight operations, of factors
below 4, or of an exponential that is known to $2^{-40}$ (`arithmetic.points`): `PAD` covers both. What lies beyond `FAR` is below it.

$\mathrm{silu}'' = \sigma'(x) (2 - x \tanh(x / 2))$ is a product of two ranges, the second of a function that falls with $|x|$; and it lies
between -0.05 and 1/2, since $\sigma' \le e^{-|x|}$ and $(|x| - 2) e^{-|x|} \le e^{-3}$.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sdplip.arithmetic.elementary import decay
from sdplip.arithmetic.elementwise import Array, intervals, outward
from sdplip.arithmetic.smooth import SMOOTH

PAD = 2.0**-36
NEAR = 2.0**-30
"""How far from a turn an interval counts as holding it."""
FAR = 26.0
Ends = tuple[Array, Array]
Turns = Sequence[tuple[float, float]]


def _ranged(value: Callable[[Array], Array], low: Array, high: Array, turns: Turns) -> Ends:
    """The range on intervals of a function that is monotone between its turns (place, value)."""
    a, b = value(low), value(high)
    least, most = np.minimum(a, b), np.maximum(a, b)
    for near, at in turns:
        inside = (low <= near + NEAR) & (high >= near - NEAR)
        least = np.where(inside, np.minimum(least, at), least)
        most = np.where(inside, np.maximum(most, at), most)
    return least - PAD, most + PAD


def _tanh(low: Array, high: Array) -> Ends:
    t = SMOOTH["tanh"].values(low, high)
    top = 0.7698003589195010
    return _ranged(
        lambda t: -2 * t * (1 - t * t), *t, [(-0.5773502691896258, top), (0.5773502691896258, -top)]
    )


def _tanhshrink(low: Array, high: Array) -> Ends:
    a, b = _tanh(low, high)
    return -b, -a


def _sigmoid(low: Array, high: Array) -> Ends:
    u = SMOOTH["sigmoid"].values(low, high)
    top = 0.09622504486493763
    turns = [(0.21132486540518713, top), (0.7886751345948129, -top)]
    return _ranged(lambda u: u * (1 - u) * (1 - 2 * u), *u, turns)


def _bump(low: Array, high: Array) -> Ends:
    u = SMOOTH["sigmoid"].values(low, high)
    return _ranged(lambda u: u * (1 - u), *u, [(0.5, 0.25)])


def _softplus(low: Array, high: Array, *, beta: Any = 1.0, threshold: Any = 20.0) -> Ends:  # noqa: ARG001
    beta = np.asarray(beta, np.float64)
    a, b = _bump(*outward(low * beta, high * beta))
    return outward(a * beta, b * beta)


def _logsigmoid(low: Array, high: Array) -> Ends:
    a, b = _bump(low, high)
    return -b, -a


def _atan(low: Array, high: Array) -> Ends:
    top = 0.6495190528383290
    turns = [(-0.5773502691896258, top), (0.5773502691896258, -top)]
    return _ranged(lambda x: -2 * x / (1 + x * x) ** 2, *_cut(low, high, 1e60), turns)


def _gelu(low: Array, high: Array) -> Ends:
    def value(x: Array) -> Array:
        return 0.3989422804014327 * decay(x * x / 2) * (2 - x * x)

    turns = [(0.0, 0.7978845608028654), (-2.0, -0.1079819330263761), (2.0, -0.1079819330263761)]
    return _ranged(value, *_cut(low, high, FAR), turns)


def _erf(low: Array, high: Array) -> Ends:
    def value(x: Array) -> Array:
        return -2.2567583341910251 * x * decay(x * x)

    top = 0.9678828980765735
    turns = [(-0.7071067811865475, top), (0.7071067811865475, -top)]
    return _ranged(value, *_cut(low, high, FAR), turns)


def _silu(low: Array, high: Array, *, beta: Any = 1.0) -> Ends:
    beta = np.asarray(beta, np.float64)
    low, high = outward(low * beta, high * beta)
    slope = SMOOTH["sigmoid"].derivatives(low, high)
    near = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(abs(low), abs(high)))
    far = np.minimum(np.maximum(abs(low), abs(high)), 1e60)
    most = 2 - np.minimum(near, 1e60) * np.tanh(near / 2) + PAD * (1 + np.minimum(near, 1e60))
    least = 2 - far * np.tanh(far / 2) - PAD * (1 + far)
    ends = [s * f for s in slope for f in (least, most)]
    a = np.fmax(np.minimum.reduce(ends), -0.05) - PAD
    b = np.fmin(np.maximum.reduce(ends), 0.5) + PAD
    a, b = outward(a * beta, b * beta)
    return a, b


def _cut(low: Array, high: Array, far: float) -> Ends:
    return np.clip(low, -far, far), np.clip(high, -far, far)


SECOND: Mapping[str, Callable[..., Ends]] = {
    "tanh": _tanh,
    "tanhshrink": _tanhshrink,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "logsigmoid": _logsigmoid,
    "atan": _atan,
    "gelu": _gelu,
    "erf": _erf,
    "silu": _silu,
}
"""By the names of `arithmetic.functions`; the others have corners, or no range is known here."""


@np.errstate(all="ignore")
def second_derivatives(name: str, low: Array, high: Array, /, **parameters: Any) -> Ends | None:
    """Proven ends of the second derivative on intervals of arguments; None of a function that is not in `SECOND`."""
    return SECOND[name](*intervals(low, high), **parameters) if name in SECOND else None
