"""Printed decimals that are still bounds: rounded outward, exactly."""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from math import ceil, floor, isfinite


def above(x: float, digits: int = 12) -> str:
    """A decimal of at most `digits` significant digits that is at least `x`, as `format(x, ".12g")` would write it.

    The double `x` is a binary fraction with a finite decimal expansion; that is rounded up, exactly. "inf", "-inf", "nan" stay.
    """
    return _rounded(x, digits, ROUND_CEILING)


def below(x: float, digits: int = 12) -> str:
    """A decimal of at most `digits` significant digits that is at most `x`, likewise."""
    return _rounded(x, digits, ROUND_FLOOR)


def percent_below(share: float, digits: int = 2) -> str:
    """A share of counted things in percent, rounded down: "66.66 %" of two thirds. Shares are doubles nearest to a fraction."""
    return _percent(share, digits, floor)


def percent_above(share: float, digits: int = 2) -> str:
    """Likewise, rounded up."""
    return _percent(share, digits, ceil)


def _percent(share: float, digits: int, rounding: Callable[[Fraction], int]) -> str:
    if not isfinite(share):
        return f"{share} %"
    whole = Fraction(share).limit_denominator(10**7) * 100 * 10**digits
    return f"{Decimal(rounding(whole)).scaleb(-digits):.{digits}f} %"


def _rounded(x: float, digits: int, rounding: str) -> str:
    exact = Decimal(x) if isinstance(x, int) else Decimal(float(x))
    if not exact.is_finite():
        return str(float(x))
    if not exact:
        return "0"
    found = Context(prec=max(1, digits), rounding=rounding).plus(exact)
    sign, figures, _ = found.as_tuple()
    text, exponent = "".join(map(str, figures)).rstrip("0"), found.adjusted()
    minus = "-" if sign else ""
    if exponent < -4 or exponent >= max(1, digits):
        tail = "." + text[1:] if text[1:] else ""
        return f"{minus}{text[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{minus}0.{'0' * (-exponent - 1)}{text}"
    whole, tail = text[: exponent + 1].ljust(exponent + 1, "0"), text[exponent + 1 :]
    return f"{minus}{whole}{'.' + tail if tail else ''}"
