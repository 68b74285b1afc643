r"""Smooth functions (and some with one kink): ranges on intervals, from points and turns.

Values and derivatives are monotone between their turns; the derivative of each function here turns at 0 only (sigmoid and its
kind, which are even), or, of the functions that lie between 0 and x, once on each side: it falls from 0 to its least value,
rises to its largest beyond 1, and falls to 1. So it vanishes once, where the function turns.

- SiLU: $f'' = \sigma(x) \sigma(-x) (2 - x \tanh(x / 2))$, and $x \tanh(x / 2)$ rises with |x|.
- GELU: $f'' = \varphi(x) (2 - x^2)$.
- GELU by tanh, $f = x \sigma(z)$, $z = c (x + a x^3)$: f'' vanishes where $2 = c x (1 + 3 a x^2)^2 / (1 + 6 a x^2) \tanh(z /
  2)$, and $(1 + 3 a x^2)^2 / (1 + 6 a x^2) = 1 + 9 a^2 x^4 / (1 + 6 a x^2)$ rises with |x|, like the other factors.
- Mish: with $E = e^x$, f'' has the sign of $h = 2 E^3 + 6 E^2 + 8 E + 4 + x (2 + 2 E - 3 E^2 - 2 E^3)$. Left of 0, $h' \ge 2
  + 2 x E > 0$. Right of 0, with $F = 1 / E$, $h / E^3 = (2 + 6 F + 8 F^2 + 4 F^3) - x q$, $q = 2 + 3 F - 2 F^2 - 2 F^3$: the
  first part falls, and $(x q)' \ge q
  - 3 F \log(1 / F) > 0$, since q is concave, $q \ge 1.2 > 3 / e$ up to F = 0.97, and from there $q \ge 1 > 3 (1 - F)$.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sdplip.arithmetic import elementary, points
from sdplip.arithmetic.elementwise import (
    Array,
    Function,
    Point,
    Turn,
    intervals,
    need,
    need_finite,
    outward,
    ranged,
    within,
)  # fmt: skip
from sdplip.arithmetic.rounding import UNIT


@np.errstate(all="ignore")
def _hardswish_derivatives(low: Array, high: Array) -> tuple[Array, Array]:
    """0, then (2 x + 3) / 6 between -3 and 3, then 1; it jumps at both."""
    low, high = intervals(low, high)
    a, b = outward((2 * np.maximum(low, -3.0) + 3) / 6, (2 * np.minimum(high, 3.0) + 3) / 6, 4 * UNIT)
    inside = (low < 3) & (high > -3)
    least = np.where(inside, a, np.inf)
    most = np.where(inside, b, -np.inf)
    for met, slope in (((low < -3) | (high <= -3), 0.0), ((high > 3) | (low >= 3), 1.0)):
        least = np.where(met, np.minimum(least, slope), least)
        most = np.where(met, np.maximum(most, slope), most)
    return within((least, most), -0.5, 1.5)


def _smooth(
    value: Callable[..., Array],
    point: Point,
    slope: Point,
    slopes: tuple[float, float],
    turns: Sequence[Turn] = (),
    bends: Sequence[Turn] = (),
    roundings: int | None = None,
) -> Function:
    """A function without parameters: `turns` are those of its values, `bends` those of its derivative."""
    found, steep = ranged(point, turns), ranged(slope, bends)
    return Function(
        {}, np.errstate(all="ignore")(value), lambda: slopes,
        lambda low, high: within(found(*intervals(low, high)), -np.inf, np.inf),
        lambda low, high: within(steep(*intervals(low, high)), *slopes), None, roundings,
    )  # fmt: skip


def _stretched(
    name: str,
    key: str,
    of: Function,
    value: Callable[..., Array],
    *,
    divides: bool = False,
    check: Any = None,
) -> Function:
    r"""$\varphi(\beta x) / \beta$ of a function without parameters, $\beta > 0$; or $\alpha \varphi(x / \alpha)$ if `divides`."""

    def factor(given: Mapping[str, Any]) -> Any:
        given = {**parameters, **given}
        need_finite(name, **given)
        need(np.all(np.greater(given[key], 0)), f"`{key}` of `{name}` must be positive, but is {given[key]}.")
        if check:
            check(given)
        return np.asarray(given[key], np.float64)

    parameters = {key: 1.0} | ({"threshold": 20.0} if check else {})

    def times(low: Array, high: Array, f: Array, up: bool) -> tuple[Array, Array]:
        return outward(low * f, high * f) if up else outward(low / f, high / f)

    def slopes(**given: Any) -> tuple[Any, Any]:
        factor(given)
        return of.slopes()

    @np.errstate(all="ignore")
    def values(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        f = factor(given)
        inner = of.values(*times(*intervals(low, high), f, not divides))
        return within(times(*inner, f, divides), -np.inf, np.inf)

    @np.errstate(all="ignore")
    def derivatives(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        f = factor(given)
        return of.derivatives(*times(*intervals(low, high), f, not divides))

    return Function(parameters, np.errstate(all="ignore")(value), slopes, values, derivatives)


def _bent_at_zero(name: str, parameters: Mapping[str, float]) -> Function:
    r"""ELU and SELU: $\gamma x$ above 0 and $\gamma \alpha (e^x - 1)$ below. A difference quotient is a mean of derivatives on
    both sides."""

    def known(given: Mapping[str, Any]) -> tuple[Any, Any]:
        given = {**parameters, **given}
        need_finite(name, **given)
        return given["alpha"], given.get("gamma", 1.0)

    def slopes(**given: Any) -> tuple[Any, Any]:
        alpha, gamma = known(given)
        below = gamma * np.asarray(alpha, np.float64)
        low, high = outward(below, below) if "gamma" in parameters else (below, below)
        least, most = np.minimum(np.minimum(low, 0.0), gamma), np.maximum(np.maximum(high, 0.0), gamma)
        return (float(least), float(most)) if not np.ndim(least) else (least, most)

    @np.errstate(all="ignore")
    def value(x: Array, **given: Any) -> Array:
        alpha, gamma = known(given)
        return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))

    @np.errstate(all="ignore")
    def values(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        alpha, gamma = known(given)
        low, high = intervals(low, high)
        below = (
            points.exponential(np.minimum(low, 0.0))[0],
            np.minimum(points.exponential(np.minimum(high, 0.0))[1], 0.0),
        )
        above = np.maximum(low, 0.0), np.maximum(high, 0.0)
        found = _hull(*_multiple(*below, alpha, gamma), low < 0, *_multiple(*above, 1.0, gamma), high >= 0)
        return within(found, -np.inf, np.inf)

    @np.errstate(all="ignore")
    def derivatives(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        alpha, gamma = known(given)
        low, high = intervals(low, high)
        below = points.exponential_slope(low)[0], points.exponential_slope(high)[1]
        one = np.ones_like(low)
        found = _hull(
            *_multiple(*below, alpha, gamma), low < 0, one * gamma, one * gamma, (high > 0) | (low >= 0)
        )
        return within(found, *slopes(**given))

    return Function(parameters, value, slopes, values, derivatives)


def _multiple(low: Array, high: Array, alpha: Any, gamma: Any) -> tuple[Array, Array]:
    """The ends times both factors, of any sign."""
    f = np.asarray(alpha, np.float64) * gamma
    a, b = low * f, high * f
    least, most = np.minimum(a, b), np.maximum(a, b)
    return outward(
        least, most, 4 * UNIT * np.where(np.isfinite(a) & np.isfinite(b), np.maximum(abs(a), abs(b)), 0.0)
    )


def _hull(a: Array, b: Array, first: Array, c: Array, d: Array, second: Array) -> tuple[Array, Array]:
    """Of [a, b] where `first`, and [c, d] where `second`."""
    least = np.minimum(np.where(first, a, np.inf), np.where(second, c, np.inf))
    return least, np.maximum(np.where(first, b, -np.inf), np.where(second, d, -np.inf))


def _threshold(given: Mapping[str, Any]) -> None:
    need(
        np.all(np.greater_equal(given["threshold"], 20)),
        f"`threshold` of `softplus` must be at least 20, but is {given['threshold']}: below, the step down to the identity is"
        " visible, and no finite constant holds. Use torch's default.",
    )


def _plain_sigmoid(x: Array) -> Array:
    return (1 + np.tanh(x / 2)) / 2


_SILU = _smooth(
    lambda x: x * _plain_sigmoid(x), points.silu, points.silu_slope, (-0.09983932012886701, 1.0998393201288671),
    [Turn(-1.2784645427610738, -0.2784645427610738)],
    [Turn(-2.3993572805154677, -0.09983932012886692), Turn(2.3993572805154677, 1.099839320128867)],
)  # fmt: skip
_SOFTPLUS = _smooth(lambda x: np.logaddexp(0.0, x), points.softplus, points.sigmoid, (0.0, 1.0))
_CELU = _smooth(
    lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    points.exponential,
    points.exponential_slope,
    (0.0, 1.0),
)

SMOOTH: Mapping[str, Function] = {
    "sigmoid": _smooth(_plain_sigmoid, points.sigmoid, points.sigmoid_slope, (0.0, 0.25), (), [Turn(0.0, 0.25, 0.0)]),
    "tanh": _smooth(np.tanh, points.tanh, points.tanh_slope, (0.0, 1.0), (), [Turn(0.0, 1.0, 0.0)]),
    "tanhshrink": _smooth(
        lambda x: x - np.tanh(x), points.tanhshrink, points.tanhshrink_slope, (0.0, 1.0), (), [Turn(0.0, 0.0, 0.0)]
    ),
    "softsign": _smooth(
        lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + abs(x))), points.softsign, points.softsign_slope, (0.0, 1.0), (),
        [Turn(0.0, 1.0, 0.0)], 2,
    ),
    "logsigmoid": _smooth(
        lambda x: -np.logaddexp(0.0, -x), points.logsigmoid, lambda x: points.sigmoid(-x), (0.0, 1.0)
    ),
    "softplus": _stretched(
        "softplus", "beta", _SOFTPLUS, lambda x, beta=1.0, threshold=20.0: np.logaddexp(0.0, beta * x) / beta,  # noqa: ARG005
        check=_threshold,
    ),
    "elu": _bent_at_zero("elu", {"alpha": 1.0}),
    "selu": _bent_at_zero("selu", {"alpha": 1.6732632423543772, "gamma": 1.0507009873554805}),
    "celu": _stretched(
        "celu", "alpha", _CELU,
        lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha)), divides=True,
    ),
    "silu": _stretched("silu", "beta", _SILU, lambda x, beta=1.0: x * _plain_sigmoid(beta * x)),
    "mish": _smooth(
        lambda x: x * np.tanh(np.logaddexp(0.0, x)), points.mish, points.mish_slope, (-0.1125261223894626, 1.0884981612517279),
        [Turn(-1.1924312145154953, -0.30884341301725043)],
        [Turn(-2.256376396360793, -0.11252612238946257), Turn(1.4905711794854283, 1.0884981612517279)],
    ),
    "gelu": _smooth(
        lambda x: x * (1 + elementary.erf(x / points.ROOT_2)) / 2, points.gelu, points.gelu_slope, (-0.1289041451851548,
        1.128904145185155), [Turn(-0.7517915246935645, -0.1699712074799036)], [Turn(-points.ROOT_2, -0.12890414518515478),
        Turn(points.ROOT_2, 1.1289041451851548)],
    ),
    "gelu_tanh": _smooth(
        lambda x: x * _plain_sigmoid(points.TANH_GELU * (x + 0.044715 * x**3)), points.gelu_tanh, points.gelu_tanh_slope,
        (-0.1289930686587718, 1.128993068658772),
        [Turn(-0.7524614220710163, -0.17004075057125406)],
        [Turn(-1.4185040087908284, -0.12899306865877177), Turn(1.4185040087908284, 1.1289930686587718)],
    ),
    "hardswish": Function(
        {}, np.errstate(all="ignore")(points.hardswish_value), lambda: (-0.5, 1.5),
        lambda low, high: within(
            ranged(points.hardswish, [Turn(-1.5, -0.375, 0.0), Turn(-3.0, 0.0, 0.0)])(*intervals(low, high)), -np.inf, np.inf
        ),
        _hardswish_derivatives, None, 3,
    ),
    "erf": _smooth(
        elementary.erf, points.erf, points.erf_slope, (0.0, 1.1283791670955128), (), [Turn(0.0, 1.1283791670955126, 0.0)]
    ),
    "atan": _smooth(np.arctan, points.atan, points.atan_slope, (0.0, 1.0), (), [Turn(0.0, 1.0, 0.0)]),
}  # fmt: skip
"""Functions that call elementary functions, and hard swish, by name."""
