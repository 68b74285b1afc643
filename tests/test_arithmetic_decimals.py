"""Printed decimals lie outside of the number, next to it."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip.arithmetic.decimals import above, below


@pytest.mark.parametrize("digits", [1, 3, 12, 17])
def test_outward_and_as_near_as_digits_allow(digits: int) -> None:
    rng = np.random.default_rng(digits)
    drawn = np.frombuffer(rng.bytes(8 * 3000), np.float64)
    for x in [
        *drawn[np.isfinite(drawn)].tolist(),
        0.1,
        0.48,
        1e-5,
        1e-4,
        9.9999,
        123456789012345.0,
        100.0,
        5e-324,
        1e16,
    ]:
        low, high = below(x, digits), above(x, digits)
        assert Fraction(low) <= Fraction(x) <= Fraction(high)
        assert f"{x:.{digits}g}" in (low, high)
        figures = high.lstrip("-").split("e")[0].replace(".", "").strip("0")
        assert len(figures) <= digits


def test_known_answers() -> None:
    assert (above(0.48), below(0.48)) == ("0.48", "0.479999999999")
    assert (above(np.float64(0.25)), below(0.25)) == ("0.25", "0.25")
    assert (above(np.inf), below(-np.inf), above(np.nan)) == ("inf", "-inf", "nan")
    assert (above(0.0), below(-0.0), above(3), below(-7)) == ("0", "0", "3", "-7")
    assert (above(2**60 + 1, 4), below(2**60 + 1, 30)) == ("1.153e+18", "1152921504606846977")
    assert (above(99.99, 3), below(-99.99, 3), above(-99.99, 3)) == ("100", "-100", "-99.9")
    assert (above(1e-7 / 3, 3), below(2e5 / 3, 3)) == ("3.34e-08", "6.66e+04")
