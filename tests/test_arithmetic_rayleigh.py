"""Lower bounds from witnesses: never above the norm, near the quotient, and nothing from forged data."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.rayleigh import quotient
from sdplip.errors import NotProvable
from sdplip.network.operators import Dense
from tests.flush import denormals

exact = np.vectorize(Fraction, otypes=[object])


def square(A: np.ndarray, v: np.ndarray, tau: np.ndarray) -> Fraction:
    y = exact(A) @ exact(v)
    return (y * y).sum() / (exact(tau) * exact(v) ** 2).sum()


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("kind", [Enclosure.exact, Dense])
def test_below_the_quotient_and_near_it(kind, flush: bool) -> None:
    rng = np.random.default_rng(0)
    for k in range(300):
        m, n = rng.integers(1, 6, size=2)
        A, v, tau = rng.normal(size=(m, n)), rng.normal(size=n), rng.random(n) + 0.01
        e, g, h = (int(x) for x in rng.integers(-400, 400, size=3)) if k % 2 else (0, 0, 0)
        A, v, tau = np.ldexp(A, e), np.ldexp(v, g), np.ldexp(tau, h)
        with denormals(flush):
            found = quotient(kind(A), v, tau)
        true = square(A, v, tau)
        assert Fraction(found) ** 2 <= true
        if kind is Enclosure.exact or not k % 2:
            size = np.linalg.norm(A) / np.sqrt(tau.min()) * 1e-13
            assert (
                found
                >= float(np.sqrt(float(true / Fraction(4) ** (e - h // 2)))) * 2.0 ** (e - h // 2) - size
            )


def test_graded_metrics_and_subnormal_weights() -> None:
    """The largest quotient is that of one column, which is known exactly."""
    rng = np.random.default_rng(1)
    for flush in (False, True):
        for _ in range(200):
            n = int(rng.integers(1, 5))
            w, t = (
                np.ldexp(rng.random(n) + 0.5, rng.integers(-500, 400, size=n)),
                np.ldexp(rng.random(n) + 0.5, rng.integers(-900, 900, size=n)),
            )
            v = np.ldexp(rng.normal(size=n), rng.integers(-1070, 1020, size=n))
            with denormals(flush):
                found = [quotient(op, v, t) for op in (Enclosure.exact(np.diag(w)), Dense(np.diag(w)))]
            best = max(Fraction(a) ** 2 / Fraction(b) for a, b in zip(w, t, strict=True))
            assert all(Fraction(x) ** 2 <= best for x in found)
    with denormals(True):
        assert (
            quotient(Enclosure.exact(np.array([[1e-300, 1e-310]])), np.ones(2), np.array([1, 1e-322]))
            <= 1.0001e-150
        )


def test_radii_count() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        A, R, v = rng.normal(size=(3, 4)), abs(rng.normal(size=(3, 4))) * 0.1, rng.normal(size=4)
        found = quotient(enclose(A, R), v)
        for sign in (-1, 1):
            member = exact(A) + sign * exact(R) * exact(np.sign(v)) * exact(np.sign(A @ v))[:, None]
            y = member @ exact(v)
            assert Fraction(found) ** 2 <= (y * y).sum() / (exact(v) ** 2).sum()
    assert quotient(enclose(np.ones((2, 2)), 2.0), np.ones(2)) == 0
    assert quotient(enclose(np.ones((2, 2)), np.inf), np.ones(2)) == 0


def test_known_answers() -> None:
    A = np.full((2, 2), 0.24)
    for op in (Enclosure.exact(A), Dense(A)):
        for size in (1.0, 9e153, 1e300, 1e-300, 5e-324):
            found = quotient(op, np.full(2, size))
            assert 0.4799999999999 < found <= 0.48
        assert quotient(op, np.zeros(2)) == 0
        assert quotient(op, np.array([1, 1])) > 0.4799
    assert quotient(Enclosure.exact(np.full((1, 2), 1e300)), np.full(2, 1e-320)) > 1.41e300
    assert quotient(Enclosure.exact(np.full((2, 2), 1e308)), np.ones(2)) == 0  # the norm is no double
    assert quotient(Enclosure.exact(np.zeros((2, 2))), np.ones(2)) == 0


@pytest.mark.parametrize(
    "v",
    [
        np.ones(3),
        np.ones((2, 1)),
        np.ones((2, 2)),
        np.array([np.nan, 1]),
        np.array([np.inf, 1]),
        np.array([1j, 1]),
        np.array(["a", "b"]),
        np.array([None, 1]),
        np.array([True, False]),
        np.float64(1.0),
    ],
)
def test_forged_witnesses_are_refused(v: np.ndarray) -> None:
    for op in (Enclosure.exact(np.eye(2)), Dense(np.eye(2))):
        with pytest.raises(NotProvable):
            quotient(op, v)
    with pytest.raises(NotProvable):
        quotient(Enclosure.exact(np.eye(2)), np.ones(2), np.array([1.0, -1.0]))
