r"""Values and derivatives of smooth functions at points, enclosed: built on `elementary`, each error counted.

With $a = |x| \le 760$ and $E = e^{-a}$ each function is written as $p + q$: p is exact (0, 1 or x), and q is a rational
expression of E, a and constants, made of positive terms, at most two of which are subtracted at the end.

**Relatively**, E is off by at most $2^{-46} + 8 u a \le 2^{-40.3}$ (an argument that is a product or a polynomial is off by
at most $8 u$), and a positive expression with at most four factors E in numerator and denominator and 64 operations by less
than $2^{-38}$ of the sum of its terms.

**Absolutely**, the error of a term $a^j E$ is at most $2^{-46} a^j E + 8 u a^{j+1} E$, and $a^3 E \le 1.4$: less than
$2^{-44}$ for the expressions below; the error function adds $8.5 \cdot 2^{-45}$.

So $\min(2^{-41}, 2^{-38} \cdot \text{terms})$ and the rounding of the last sum cover everything. Beyond a = 760 the terms of
q are below $2^{-1000}$.
"""

import numpy as np

from sdplip.arithmetic import elementary
from sdplip.arithmetic.elementary import FAR, decay, log1p
from sdplip.arithmetic.elementwise import LOST, Array, outward, within
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


def sigmoid(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return within(_sum(0.0, np.where(x >= 0, 1.0, E) / (1 + E)), 0.0, 1.0)


def sigmoid_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return _sum(0.0, E / (1 + E) ** 2)


def tanh(x: Array) -> tuple[Array, Array]:
    r"""$a - a^3 / 3 \le \tanh a \le a$ is used where it is better: near 0."""
    a, E = _near(2 * x)
    low, high = _sum(0.0, (1 - E) / (1 + E), np.ones_like(E))
    a = a / 2
    low = np.maximum(low, np.where(a < 1, a * (1 - a * a / 3) * (1 - 2.0**-48) - LOST, 0.0))
    high = np.minimum(high, np.minimum(abs(x), 1.0))
    low, high = np.maximum(low, 0.0), np.where(np.isnan(x), x, high)
    return np.where(x < 0, -high, low), np.where(x < 0, -low, high)


def tanh_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(2 * x)
    return _sum(0.0, 4 * E / (1 + E) ** 2)


def tanhshrink(x: Array) -> tuple[Array, Array]:
    low, high = tanh(x)
    return outward(np.where(np.isinf(x), x, x - high), np.where(np.isinf(x), x, x - low))


def tanhshrink_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(2 * x)
    return within(_sum(1.0, -4 * E / (1 + E) ** 2), 0.0, 1.0)


def softplus(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return _sum(np.maximum(x, 0.0), log1p(E))


def logsigmoid(x: Array) -> tuple[Array, Array]:
    _, E = _near(x)
    return _sum(np.minimum(x, 0.0), -log1p(E))


def softsign(x: Array) -> tuple[Array, Array]:
    y = np.where(np.isinf(x), np.sign(x), x / (1 + abs(x)))
    return within(outward(y, y, 4 * UNIT * abs(y)), -1.0, 1.0)


def softsign_slope(x: Array) -> tuple[Array, Array]:
    return _sum(0.0, 1 / (1 + abs(x)) ** 2)


def exponential(x: Array) -> tuple[Array, Array]:
    """$e^{x} - 1$ below 0, as in ELU; x above."""
    _, E = _near(np.minimum(x, 0.0))
    return _sum(np.maximum(x, 0.0), E - 1, np.ones_like(E))


def exponential_slope(x: Array) -> tuple[Array, Array]:
    _, E = _near(np.minimum(x, 0.0))
    return within(_sum(0.0, E), 0.0, 1.0)


def silu(x: Array) -> tuple[Array, Array]:
    a, E = _near(x)
    return _sum(np.maximum(x, 0.0), -a * E / (1 + E))


def silu_slope(x: Array) -> tuple[Array, Array]:
    r"""$\sigma(-a) - a \sigma(a) \sigma(-a)$ left of 0, 1 minus that right."""
    a, E = _near(x)
    return _mirrored(x, E / (1 + E), a * E / (1 + E) ** 2)


def mish(x: Array) -> tuple[Array, Array]:
    r"""$\tanh(\log(1 + e^x)) = n / (n + 2)$ with $n = e^x (e^x + 2)$; with $E = e^{-x}$ it is $1 - 2 E^2 / (1 + 2 E + 2 E^2)$."""
    a, E = _near(x)
    n = E * (E + 2)
    return _sum(np.maximum(x, 0.0), np.where(x < 0, -a * n / (n + 2), -a * 2 * E**2 / (1 + 2 * E + 2 * E**2)))


def mish_slope(x: Array) -> tuple[Array, Array]:
    r"""$w + x w'$ of the same w; $w' = 4 E (E + 1) / (n + 2)^2$ left of 0, $4 E^2 (E + 1) / (1 + 2 E + 2 E^2)^2$ right."""
    a, E = _near(x)
    n, d = E * (E + 2), 1 + 2 * E + 2 * E**2
    left, fall = n / (n + 2), 4 * a * E * (E + 1) / (n + 2) ** 2
    right, rise = 2 * E**2 / d, 4 * a * E**2 * (E + 1) / d**2
    q = np.where(x < 0, left - fall, rise - right)
    return _sum(np.where(x < 0, 0.0, 1.0), q, np.where(x < 0, left + fall, rise + right))


def gelu(x: Array) -> tuple[Array, Array]:
    r"""$x \Phi(x) = \max(x, 0) - a \Phi(-a)$, and $a \Phi(-a) \le e^{-a^2 / 2}$."""
    a = np.minimum(abs(x), 10.0)
    return _sum(np.maximum(x, 0.0), -a * _below(a), np.ones_like(a))


def gelu_slope(x: Array) -> tuple[Array, Array]:
    r"""$\Phi(-a) - a \varphi(a)$ left of 0, 1 minus that right."""
    a = np.minimum(abs(x), 40.0)
    q, fall = _below(a), a * ROOT_2_PI * decay(a * a / 2)
    return _mirrored(x, q, fall, np.ones_like(a))


def _below(a: Array) -> Array:
    r"""$\Phi(-a)$, off by at most $2^{-45}$ and by the rounding of $a / \sqrt 2$, whose effect is at most $2 u a \varphi(a)$."""
    return (1 - elementary.erf(a / ROOT_2)) / 2


def gelu_tanh(x: Array) -> tuple[Array, Array]:
    r"""$x (1 + \tanh(z / 2)) / 2 = x \sigma(z)$ with $z = 2 \sqrt{2 / \pi} (x + 0.044715 x^3)$."""
    a, E = _bent(x)
    return _sum(np.maximum(x, 0.0), -a * E / (1 + E))


def gelu_tanh_slope(x: Array) -> tuple[Array, Array]:
    r"""$\sigma(z) + x z' \sigma(z) \sigma(-z)$."""
    a, E = _bent(x)
    return _mirrored(x, E / (1 + E), a * TANH_GELU * (1 + 3 * 0.044715 * a * a) * E / (1 + E) ** 2)


def _bent(x: Array) -> tuple[Array, Array]:
    a = np.minimum(abs(x), 25.0)  # where z exceeds FAR
    z = TANH_GELU * (a + 0.044715 * a * a * a)
    return a, decay(z)


def _mirrored(x: Array, q: Array, fall: Array, terms: Array | None = None) -> tuple[Array, Array]:
    """$q - $ fall left of 0, 1 minus that right of 0."""
    sign = np.where(x < 0, 1.0, -1.0)
    return _sum(np.where(x < 0, 0.0, 1.0), sign * (q - fall), q + fall if terms is None else terms)


def erf(x: Array) -> tuple[Array, Array]:
    y = elementary.erf(x)
    return within(outward(y, y, ABSOLUTE), -1.0, 1.0)


def erf_slope(x: Array) -> tuple[Array, Array]:
    a = np.minimum(abs(x), 40.0)
    return _sum(0.0, 1.1283791670955126 * decay(a * a))


def atan(x: Array) -> tuple[Array, Array]:
    y = elementary.atan(x)
    return outward(y, y, ABSOLUTE)


def atan_slope(x: Array) -> tuple[Array, Array]:
    return _sum(0.0, 1 / (1 + x * x))


def hardswish(x: Array) -> tuple[Array, Array]:
    y = hardswish_value(x)
    return outward(y, y, 8 * UNIT * abs(y) + LOST)


def hardswish_value(x: Array) -> Array:
    return np.where(x <= -3, 0.0, x * np.clip(x + 3.0, 0.0, 6.0) / 6.0)
