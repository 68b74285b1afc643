r"""Elementary functions with proven errors, made of IEEE $+, -, \times, /, \sqrt{\cdot}$ and powers of two alone.

No mathematical library is trusted: each function is a reduction of its argument and a series whose remainder is stated. All act
entry by entry on arrays, take infinities, and return NaN for NaN. $u = 2^{-53}$.
"""

import numpy as np

from sdplip.shapes import Float

Array = Float[np.ndarray, "..."]

FAR = 760.0
r"""$e^{-\mathrm{FAR}}$ is below $2^{-1074}$."""

EXP = 2.0**-46
"""Relative error of `decay`, above the absolute one of `rounding.TINY`."""

LOG = 2.0**-46
"""Relative error of `log1p`; that of `log` is `LOG` $(1 + |\\log y|)$."""

LN2 = 0.6931471805599453
"""Within $u$ of its size."""

ERF = 2.0**-44
"""Absolute error of `erf`."""

ATAN = 2.0**-47
"""Absolute error of `atan`."""

_LN2_HIGH = float.fromhex("0x1.62e42feep-1")
"""The first 32 bits of ln 2: its products with whole numbers below 2^21 are exact."""
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
"""The rest, off by less than 2^-86."""
_SERIES = [1.0]
for _k in range(1, 15):
    _SERIES.append(_SERIES[-1] / _k)  # 1 / k!, off by at most k u


@np.errstate(all="ignore")
def decay(a: Array) -> Array:
    r"""$e^{-a}$ for $a \ge 0$, within `EXP` of its size, or within `TINY` where it is below `TINY`.

    With $k = \mathrm{rint}(x / \ln 2)$ and $x = -a$, $r = (x - k \ell_1) - k \ell_2$ has $|r| \le 0.35$. The product and the
    first difference are exact (Sterbenz), $k \ell_2$ rounds by $2^{-75}$ and the last difference by $0.35 u$, and $k (\ln 2 -
    \ell_1 - \ell_2)$ is below $2^{-75}$: r is off by less than $u / 2$. The Taylor polynomial of degree 14 leaves out at most
    $2 \cdot 0.35^{15} / 15! < 2^{-62}$. Horner's rule makes 28 roundings and the coefficients at most 14: less than
    $\gamma_{42} e^{0.35} \le 1.43 \gamma_{42}$, or $86 u$ relative to $e^r \ge 0.7$. All together $88 u < 2^{-46}$. The power
    of two is exact, unless the result is subnormal.
    """
    x = -np.minimum(a, FAR)  # NaN stays NaN
    k = np.rint(x * 1.4426950408889634)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    y = np.full_like(r, _SERIES[-1])
    for c in _SERIES[-2::-1]:
        y = y * r + c
    return np.ldexp(y, np.where(np.isfinite(k), k, 0).astype(np.int64))


@np.errstate(all="ignore")
def log1p(z: Array) -> Array:
    r"""$\log(1 + z)$ for $0 \le z \le 1$, within `LOG` of its size.

    $\log(1 + z) = 2\,\mathrm{artanh}(s) = 2 s \sum_i s^{2i} / (2i + 1)$ with $s = z / (2 + z) \le 1/3$. Twenty terms leave
    out at most $9^{-20} / 41 \cdot 9/8 < 2^{-68}$ of the first. All terms are positive: s is off by $2 u$ relatively, so
    $s^2$ by $5 u$, and Horner's rule with $t = s^2 \le 1/9$ makes an error of at most $(2 + 8 \sum_i i\,9^{-i}) u < 4 u$ and
    those of $t$, likewise $5 u \sum_i i\,9^{-i}$. With the factor $s$ below $16 u < 2^{-46}$.
    """
    s = z / (2 + z)
    t, y = s * s, np.zeros_like(s)
    for i in range(19, -1, -1):
        y = y * t + 1 / (2 * i + 1)
    return 2 * s * y


def log_above(n: int) -> float:
    r"""At least $\log n$ of a positive whole number below $2^{52}$: $n = 2^k m$ with $1 \le m < 2$, $\log n = k \log 2 + \log(1 + (m - 1))$."""
    k = n.bit_length() - 1
    return float((k * 0.6931471805599454 + log1p(np.asarray(n * 2.0**-k - 1))) * (1 + 2.0**-44))


@np.errstate(all="ignore")
def log(y: Array) -> Array:
    r"""$\log y$ for normal $y > 0$, within `LOG` $(1 + |\log y|)$; NaN for what is not positive.

    $y = m 2^e$ with $1/2 \le m < 1$, and $\log m = -\log(1 + z)$ with $z = (1 - m) / m \in (0, 1]$, whose numerator is exact
    (Sterbenz): off by $(2^{-46} + u) \ln 2$. $e \ln 2$ is off by $2 u |e| \ln 2 \le 2 u (|\log y| + \ln 2)$, the difference by $u
    |\log y|$ and the two errors. Together less than $0.8 \cdot 2^{-46} + 4 u |\log y|$.
    """
    m, e = np.frexp(y)
    return np.where(y > 0, e * LN2 - log1p((1 - m) / m), np.nan)


@np.errstate(all="ignore")
def erf(x: Array) -> Array:
    r"""The error function, within `ERF`.

    For $a = |x| < 6$ the series $\frac{2}{\sqrt\pi} a e^{-a^2} \sum_n t_n$, $t_n = (2 a^2)^n / (2n + 1)!!$, has positive
    terms only (Abramowitz and Stegun 7.1.6). By Horner's rule the term n makes 4n roundings, and $\sum_n n t_n \le a^2 \sum_n
    t_n$ since $n t_n \le a^2 t_{n-1}$: an error of at most $(4 \cdot 36 + 4) u$. The exponent $a^2 \le 36$ is off by $36 u$,
    $e^{-a^2}$ by `EXP` $= 128 u$, the constant and products by $5 u$: $321 u < 2^{-44}$ together, and erf is at most 1. The
    ratio of terms is below 0.27 from n = 130 on, where $t_n$ is below $2^{-60}$ of the sum. For $a \ge 6$, $1 -
    \mathrm{erf}(a) \le e^{-36} < 2^{-51}$.
    """
    a = np.minimum(abs(x), 6.0)
    q, y = 2 * a * a, np.ones_like(a)
    largest = np.nanmax(q, initial=0.0)
    for n in range(60 + int(largest) if largest < 70 else 130, 0, -1):
        y = 1 + y * q / (2 * n + 1)
    y = np.minimum(1.1283791670955126 * a * decay(a * a) * y, 1.0)
    return np.copysign(np.where(a >= 6, 1.0, y), x)


@np.errstate(all="ignore")
def atan(x: Array) -> Array:
    r"""The arcus tangent, within `ATAN`.

    $\arctan a = \pi / 2 - \arctan(1 / a)$ for $a > 1$; then twice $\arctan a = 2 \arctan(a / (1 + \sqrt{1 + a^2}))$, which
    leads to $a \le \tan(\pi / 16) < 0.2$, off by less than $16 u$ relatively. The series $a \sum_k (-a^2)^k / (2k + 1)$ with
    13 terms leaves out $0.2^{27} / 27 < 2^{-67}$ and rounds by less than $4 u$ of its size, which is at most 0.2. Times four,
    with the last difference: below $20 u < 2^{-48}$.
    """
    a = abs(x)
    s = np.where(a > 1, 1 / a, a)
    for _ in range(2):
        s = s / (1 + np.sqrt(1 + s * s))
    t, y = s * s, np.zeros_like(s)
    for k in range(12, -1, -1):
        y = 1 / (2 * k + 1) - y * t
    y = 4 * s * y
    return np.copysign(np.where(a > 1, 1.5707963267948966 - y, y), x)
