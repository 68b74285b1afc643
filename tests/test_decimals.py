"""Printed decimals are bounds of what they stand for."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip.arithmetic.decimals import above, below, percent_above, percent_below
from sdplip.cli.render.frame import above as shown_above
from sdplip.cli.render.frame import below as shown_below

NUMBERS = [
    0.48,
    0.47999999999999998,
    3.3105e-09,
    1.0,
    1 + 2.0**-52,
    1 - 2.0**-53,
    1 + 3e-7,
    5e-324,
    1.7e308,
    0.1,
    1 / 3,
    123456789.5,
]


@pytest.mark.parametrize("digits", [1, 2, 6, 12, 17])
def test_decimals_lie_outward(digits):
    rng = np.random.default_rng(0)
    for x in [*NUMBERS, *(rng.normal(size=200) * 10.0 ** rng.integers(-30, 30, 200))]:
        assert Fraction(below(float(x), digits)) <= Fraction(float(x)) <= Fraction(above(float(x), digits))


def value(text):
    whole, _, rest = text.partition(" ")
    return Fraction(whole) + (Fraction(rest.replace(" ", "")) if rest else 0)


def test_what_tables_show_lies_outward():
    rng = np.random.default_rng(1)
    near = [1 + s * 10.0**-k for k in range(3, 16) for s in (1, -1, 3.3, -7.7)]
    for x in [*NUMBERS, *near, *rng.uniform(0, 3, 200)]:
        assert value(shown_below(float(x))) <= Fraction(float(x)) <= value(shown_above(float(x)))


def test_shares_are_rounded_as_counted():
    assert percent_below(2 / 3) == "66.66 %" and percent_above(2 / 3) == "66.67 %"
    assert (
        percent_below(0.29) == "29.00 %" and percent_above(29 / 100) == "29.00 %"
    )  # 0.29 is less than 29 / 100 as a double
    assert percent_below(1.0) == "100.00 %" and percent_below(0.0, 1) == "0.0 %"
