r"""Smooth functions (and some with one kink): values and derivatives at points from `elementary`, ranges by their turns.

**Errors.** With $a = |x| \le 760$ and $E = e^{-a}$ each function is written as $p + q$: p is exact (0, 1 or x), and q is a rational
expression of E, a and constants, made of positive terms, at most two of which are subtracted at the end. Relatively, E is off by at most $2^{-46} + 8 u
a \le 2^{-40.3}$ (the argument of a parameter or a polynomial is off by at most $8 u$ relatively), and a positive expression with at most four factors E
in numerator and denominator and 64 operations by less than $2^{-38}$ of its terms' sum. Absolutely, the error of a term $a^j E$ is at most $2^{-46}
a^j E + 8 u a^{j+1} E$, and $a^3 E \le 1.4$: less than $2^{-44}$ for the expressions below, and the error function adds $8.5 \cdot 2^{-45}$. So $\min(2^{-41},
2^{-38} |q|_{\text{terms}})$ and the rounding of the last sum cover everything. Beyond a = 760 the terms q are below $2^{-1000}$.

**Ranges.** Derivatives are monotone between their turns. That there are no others is shown in the docstrings, for Mish and the tanh form of
GELU by interval arithmetic in `tests/test_arithmetic_functions.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sdplip.arithmetic import elementary
from sdplip.arithmetic.elementary import FAR, decay, log1p
from sdplip.arithmetic.elementwise import (
    LOST, Array, Function, Point, Turn, intervals, need, need_finite, outward, ranged, within,
)  # fmt: skip
from sdplip.arithmetic.rounding import UNIT

ABSOLUTE, RELATIVE = 2.0**-41, 2.0**-38
ROOT_2 = 1.4142135623730951
ROOT_2_PI = 0.3989422804014327
"""1 / sqrt(2 pi)."""
TANH_GELU = 1.5957691216057308
"""2 sqrt(2 / pi)."""


def _sum(p: "Array | float", q: Array, terms: Array | None = None) -> tuple[Array, Array]:
    """Enclosure of $p + q$ with the error of q stated above; `terms` is the sum of absolute values in q, |q| if None."""
    y = p + q
    pad = np.minimum(ABSOLUTE, RELATIVE * (abs(q) if terms is None else terms)) + LOST
    return outward(y, y, pad + 4 * UNIT * abs(q))


def _near(x: Array) -> tuple[Array, Array]:
    """|x|, cut where nothing happens any more, and $e^{-|x|}$."""
    a = np.minimum(abs(x), FAR)
    return a, decay(a)


def _sigmoid(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return within(_sum(0.0, np.where(x >= 0, 1.0, E) / (1 + E)), 0.0, 1.0)


def _sigmoid_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return _sum(0.0, E / (1 + E) ** 2)


def _tanh(x: Array) -> tuple[Array, Array]:
    r"""$a - a^3 / 3 \le \tanh a \le a$ is used where it is better: near 0."""
    a, E = _near(2 * x)
    low, high = _sum(0.0, (1 - E) / (1 + E), np.ones_like(E))
    a = a / 2
    low = np.maximum(low, np.where(a < 1, a * (1 - a * a / 3) * (1 - 2.0**-48) - LOST, 0.0))
    high = np.minimum(high, np.minimum(abs(x), 1.0))
    low, high = np.maximum(low, 0.0), np.where(np.isnan(x), x, high)
    return np.where(x < 0, -high, low), np.where(x < 0, -low, high)


def _tanh_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(2 * x)
    return _sum(0.0, 4 * E / (1 + E) ** 2)


def _tanhshrink(x: Array) -> tuple[Array, Array]:
    low, high = _tanh(x)
    return outward(np.where(np.isinf(x), x, x - high), np.where(np.isinf(x), x, x - low))


def _tanhshrink_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(2 * x)
    return within(_sum(1.0, -4 * E / (1 + E) ** 2), 0.0, 1.0)


def _softplus(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return _sum(np.maximum(x, 0.0), log1p(E))


def _logsigmoid(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return _sum(np.minimum(x, 0.0), -log1p(E))


def _softsign(x: Array) -> tuple[Array, Array]:
    y = np.where(np.isinf(x), np.sign(x), x / (1 + abs(x)))
    return within(outward(y, y, 4 * UNIT * abs(y)), -1.0, 1.0)


def _softsign_slope(x: Array) -> tuple[Array, Array]:
    return _sum(0.0, 1 / (1 + abs(x)) ** 2)


def _exponential(x: Array) -> tuple[Array, Array]:
    """$e^{x} - 1$ below 0, as in ELU; x above."""
    _, E = _near(np.minimum(x, 0.0))
    return _sum(np.maximum(x, 0.0), E - 1, np.ones_like(E))


def _exponential_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(np.minimum(x, 0.0))
    return within(_sum(0.0, E), 0.0, 1.0)


def _silu(x: Array) -> tuple[Array, Array]:
    a, E = _near(x)
    return _sum(np.maximum(x, 0.0), -a * E / (1 + E))


def _silu_slope(x: Array) -> tuple[Array, Array]:
    r"""$\sigma(-a) - a \sigma(a) \sigma(-a)$ left of 0, 1 minus that on the right. The second derivative is $\sigma(x) \sigma(-x) (2
    - x \tanh(x / 2))$, and $x \tanh(x / 2)$ rises with |x|: it vanishes twice."""
    a, E = _near(x)
    return _mirrored(x, E / (1 + E), a * E / (1 + E) ** 2)


def _mish(x: Array) -> tuple[Array, Array]:
    r"""$\tanh(\log(1 + e^x)) = n / (n + 2)$ with $n = e^x (e^x + 2)$; with $E = e^{-x}$ it is $1 - 2 E^2 / (1 + 2 E + 2 E^2)$."""
    a, E = _near(x)
    n = E * (E + 2)
    return _sum(np.maximum(x, 0.0), np.where(x < 0, -a * n / (n + 2), -a * 2 * E**2 / (1 + 2 * E + 2 * E**2)))


def _mish_slope(x: Array) -> tuple[Array, Array]:
    r"""$w + x w'$ of the same $w = n / (n + 2)$, $w' = 4 E (E + 1) / (n + 2)^2$ left of 0 and $4 E^2 (E + 1) / (1 + 2 E + 2 E^2)^2$ right."""
    a, E = _near(x)
    n, d = E * (E + 2), 1 + 2 * E + 2 * E**2
    left, fall = n / (n + 2), 4 * a * E * (E + 1) / (n + 2) ** 2
    right, rise = 2 * E**2 / d, 4 * a * E**2 * (E + 1) / d**2
    q = np.where(x < 0, left - fall, rise - right)
    return _sum(np.where(x < 0, 0.0, 1.0), q, np.where(x < 0, left + fall, rise + right))


def _gelu(x: Array) -> tuple[Array, Array]:
    r"""$x \Phi(x) = \max(x, 0) - a \Phi(-a)$, and $a \Phi(-a) \le e^{-a^2 / 2}$."""
    a = np.minimum(abs(x), 10.0)
    return _sum(np.maximum(x, 0.0), -a * _below(a), np.ones_like(a))


def _gelu_slope(x: Array) -> tuple[Array, Array]:
    r"""$\Phi(-a) - a \varphi(a)$ left of 0, 1 minus that right. The second derivative is $\varphi(x) (2 - x^2)$."""
    a = np.minimum(abs(x), 40.0)
    q, fall = _below(a), a * ROOT_2_PI * decay(a * a / 2)
    return _mirrored(x, q, fall, np.ones_like(a))


def _below(a: Array) -> Array:
    r"""$\Phi(-a)$, off by at most $2^{-45}$ and by the rounding of $a / \sqrt 2$, whose effect is at most $2 u a \varphi(a)$."""
    return (1 - elementary.erf(a / ROOT_2)) / 2


def _gelu_tanh(x: Array) -> tuple[Array, Array]:
    r"""$x (1 + \tanh(z / 2)) / 2 = x \sigma(z)$ with $z = 2 \sqrt{2 / \pi} (x + 0.044715 x^3)$."""
    a, z, E = _bent(x)
    return _sum(np.maximum(x, 0.0), -a * E / (1 + E))


def _gelu_tanh_slope(x: Array) -> tuple[Array, Array]:
    r"""$\sigma(z) + x z' \sigma(z) \sigma(-z)$."""
    a, z, E = _bent(x)
    return _mirrored(x, E / (1 + E), a * TANH_GELU * (1 + 3 * 0.044715 * a * a) * E / (1 + E) ** 2)


def _bent(x: Array) -> tuple[Array, Array, Array]:
    a = np.minimum(abs(x), 25.0)  # where z exceeds FAR
    z = TANH_GELU * (a + 0.044715 * a * a * a)
    return a, z, decay(z)


def _mirrored(x: Array, q: Array, fall: Array, terms: Array | None = None) -> tuple[Array, Array]:
    """$q - $ fall left of 0, 1 minus that right of 0."""
    sign = np.where(x < 0, 1.0, -1.0)
    return _sum(np.where(x < 0, 0.0, 1.0), sign * (q - fall), q + fall if terms is None else terms)


def _erf(x: Array) -> tuple[Array, Array]:
    y = elementary.erf(x)
    return within(outward(y, y, ABSOLUTE), -1.0, 1.0)


def _erf_slope(x: Array) -> tuple[Array, Array]:
    a = np.minimum(abs(x), 40.0)
    return _sum(0.0, 1.1283791670955126 * decay(a * a))


def _atan(x: Array) -> tuple[Array, Array]:
    y = elementary.atan(x)
    return outward(y, y, ABSOLUTE)


def _atan_slope(x: Array) -> tuple[Array, Array]:
    return _sum(0.0, 1 / (1 + x * x))


def _hardswish(x: Array) -> tuple[Array, Array]:
    y = _hardswish_value(x)
    return outward(y, y, 8 * UNIT * abs(y) + LOST)


def _hardswish_value(x: Array) -> Array:
    return np.where(x <= -3, 0.0, x * np.clip(x + 3.0, 0.0, 6.0) / 6.0)


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
        below = _exponential(np.minimum(low, 0.0))[0], np.minimum(_exponential(np.minimum(high, 0.0))[1], 0.0)
        above = np.maximum(low, 0.0), np.maximum(high, 0.0)
        found = _hull(*_multiple(*below, alpha, gamma), low < 0, *_multiple(*above, 1.0, gamma), high >= 0)
        return within(found, -np.inf, np.inf)

    @np.errstate(all="ignore")
    def derivatives(low: Array, high: Array, /, **given: Any) -> tuple[Array, Array]:
        alpha, gamma = known(given)
        low, high = intervals(low, high)
        below = _exponential_slope(low)[0], _exponential_slope(high)[1]
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
    lambda x: x * _plain_sigmoid(x), _silu, _silu_slope, (-0.09983932012886701, 1.0998393201288671),
    [Turn(-1.2784645427610738, -0.2784645427610738)],
    [Turn(-2.3993572805154677, -0.09983932012886692), Turn(2.3993572805154677, 1.099839320128867)],
)  # fmt: skip
_SOFTPLUS = _smooth(lambda x: np.logaddexp(0.0, x), _softplus, _sigmoid, (0.0, 1.0))
_CELU = _smooth(
    lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))), _exponential, _exponential_slope, (0.0, 1.0)
)

SMOOTH: Mapping[str, Function] = {
    "sigmoid": _smooth(_plain_sigmoid, _sigmoid, _sigmoid_slope, (0.0, 0.25), (), [Turn(0.0, 0.25, 0.0)]),
    "tanh": _smooth(np.tanh, _tanh, _tanh_slope, (0.0, 1.0), (), [Turn(0.0, 1.0, 0.0)]),
    "tanhshrink": _smooth(
        lambda x: x - np.tanh(x), _tanhshrink, _tanhshrink_slope, (0.0, 1.0), (), [Turn(0.0, 0.0, 0.0)]
    ),
    "softsign": _smooth(
        lambda x: np.where(np.isinf(x), np.sign(x), x / (1 + abs(x))), _softsign, _softsign_slope, (0.0, 1.0), (),
        [Turn(0.0, 1.0, 0.0)], 2,
    ),
    "logsigmoid": _smooth(
        lambda x: -np.logaddexp(0.0, -x), _logsigmoid, lambda x: _sigmoid(-x), (0.0, 1.0)
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
        lambda x: x * np.tanh(np.logaddexp(0.0, x)), _mish, _mish_slope, (-0.1125261223894626, 1.0884981612517279),
        [Turn(-1.1924312145154953, -0.30884341301725043)],
        [Turn(-2.256376396360793, -0.11252612238946257), Turn(1.4905711794854283, 1.0884981612517279)],
    ),
    "gelu": _smooth(
        lambda x: x * (1 + elementary.erf(x / ROOT_2)) / 2, _gelu, _gelu_slope, (-0.1289041451851548, 1.128904145185155),
        [Turn(-0.7517915246935645, -0.1699712074799036)],
        [Turn(-ROOT_2, -0.12890414518515478), Turn(ROOT_2, 1.1289041451851548)],
    ),
    "gelu_tanh": _smooth(
        lambda x: x * _plain_sigmoid(TANH_GELU * (x + 0.044715 * x**3)), _gelu_tanh, _gelu_tanh_slope,
        (-0.1289930686587718, 1.128993068658772),
        [Turn(-0.7524614220710163, -0.17004075057125406)],
        [Turn(-1.4185040087908284, -0.12899306865877177), Turn(1.4185040087908284, 1.1289930686587718)],
    ),
    "hardswish": Function(
        {}, np.errstate(all="ignore")(_hardswish_value), lambda: (-0.5, 1.5),
        lambda low, high: within(
            ranged(_hardswish, [Turn(-1.5, -0.375, 0.0), Turn(-3.0, 0.0, 0.0)])(*intervals(low, high)), -np.inf, np.inf
        ),
        _hardswish_derivatives, None, 3,
    ),
    "erf": _smooth(
        elementary.erf, _erf, _erf_slope, (0.0, 1.1283791670955128), (), [Turn(0.0, 1.1283791670955126, 0.0)]
    ),
    "atan": _smooth(np.arctan, _atan, _atan_slope, (0.0, 1.0), (), [Turn(0.0, 1.0, 0.0)]),
}  # fmt: skip
"""Functions that call elementary functions, and hard swish, by name."""
