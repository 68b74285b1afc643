"""Laws of the midpoint-radius matrix, against exact rational arithmetic: what may be in, is in."""
# ruff: noqa: ARG005

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from sdplip.arithmetic.matrix import Enclosure, enclose, lengths, norm_above
from sdplip.arithmetic.rounding import TINY
from tests.flush import denormals

exact = np.vectorize(Fraction, otypes=[object])
Exact = np.ndarray


def drawn(rng: np.random.Generator, shape: tuple[int, ...], spread: int) -> np.ndarray:
    """Doubles of all sizes within 2^+-spread, some zero, some subnormal where the spread allows."""
    found = np.ldexp(rng.normal(size=shape), rng.integers(-spread, min(spread, 1000) + 1, size=shape))
    return np.where(rng.random(shape) < 0.15, 0.0, found)


def members(
    rng: np.random.Generator, shape: tuple[int, ...], spread: int
) -> tuple[np.ndarray, np.ndarray, Exact]:
    """A midpoint, a radius, and an exact member."""
    mid = drawn(rng, shape, spread)
    rad = abs(drawn(rng, shape, spread)) * float(rng.choice([0.0, 1.0, 2.0**-30]))
    share = exact(rng.choice([-1.0, 1.0, 0.5, 0.0], size=shape))
    return mid, rad, exact(mid) + exact(rad) * share


def assert_contains(A: Enclosure, M: Exact) -> None:
    mid, rad = A.mid, A.radius()
    assert mid.shape == M.shape
    assert np.isfinite(mid).all() and not np.isnan(rad).any()
    for x in (mid, rad):
        assert not ((abs(x) < TINY) & (x != 0)).any()
    for m, r, true in zip(mid.ravel(), rad.ravel(), M.ravel(), strict=True):
        assert r == np.inf or abs(Fraction(m) - true) <= Fraction(r)


def scaled(M: Exact, rows: np.ndarray, columns: np.ndarray) -> Exact:
    two = Fraction(2)
    factor = [[two ** int(r + c) for c in columns] for r in rows]
    return M * np.array(factor, dtype=object)


E, F = np.array([3, -500, 700]), np.array([-30, 600, -1000])
OPERATIONS: dict[str, tuple[Callable, Callable]] = {
    "sum": (lambda A, B, v: A + B, lambda A, B, v: A + B),
    "difference": (lambda A, B, v: A - B, lambda A, B, v: A - B),
    "negation": (lambda A, B, v: -A, lambda A, B, v: -A),
    "product": (lambda A, B, v: A @ B, lambda A, B, v: A @ B),
    "product with its transpose": (lambda A, B, v: A.T @ A, lambda A, B, v: A.T @ A),
    "product with a vector": (lambda A, B, v: A @ v, lambda A, B, v: A @ v),
    "three factors": (lambda A, B, v: A @ (B @ A), lambda A, B, v: A @ (B @ A)),
    "entries": (lambda A, B, v: A * B, lambda A, B, v: A * B),
    "columns": (lambda A, B, v: A * v, lambda A, B, v: A * v),
    "rows": (lambda A, B, v: A.T * v, lambda A, B, v: A.T * v),
    "powers of two": (lambda A, B, v: A.shifted(E, F), lambda A, B, v: scaled(A, E, F)),
    "there and back": (lambda A, B, v: A.shifted(-900).shifted(900), lambda A, B, v: A),
    "a product made large": (
        lambda A, B, v: (A @ B).shifted(columns=900),
        lambda A, B, v: (A @ B) * Fraction(2) ** 900,
    ),
    "diagonal": (lambda A, B, v: A.diagonal(), lambda A, B, v: np.diagonal(A)),
    "plus a diagonal": (lambda A, B, v: A.plus_diagonal(v), lambda A, B, v: A + np.diag(v)),
    "blocks": (lambda A, B, v: Enclosure.block([[A, B], [B, A]]), lambda A, B, v: np.block([[A, B], [B, A]])),
    "a part": (lambda A, B, v: A[1:, [0, 2]], lambda A, B, v: A[1:, [0, 2]]),
}


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_contain_the_exact_result(name: str, flush: bool) -> None:
    rng = np.random.default_rng(len(name))
    ours, true = OPERATIONS[name]
    for spread in (3, 300, 500, 1074) * 8:
        (a, ra, A), (b, rb, B), (v, rv, V) = (members(rng, s, spread) for s in ((3, 3), (3, 3), (3,)))
        with denormals(flush):
            found = ours(enclose(a, ra), enclose(b, rb), enclose(v, rv))
        assert_contains(found, true(A, B, V))


@pytest.mark.parametrize("flush", [False, True])
def test_operations_with_arrays_and_with_common_radii(flush: bool) -> None:
    rng = np.random.default_rng(1)
    for spread in (3, 400, 1074) * 10:
        a, b, v = (drawn(rng, s, spread) for s in ((3, 4), (4, 2), (4,)))
        one = abs(drawn(rng, (1, 4), spread))
        M = exact(a) + exact(np.broadcast_to(one, a.shape)) * exact(rng.choice([-1.0, 1.0], size=a.shape))
        with denormals(flush):
            A = enclose(a, one)
            found = A @ b, a @ Enclosure.exact(b), b.T @ A.T, A * v, v + A, v - A
        truth = M @ exact(b), exact(a) @ exact(b), (M @ exact(b)).T, M * exact(v), exact(v) + M, exact(v) - M
        for ours, true in zip(found, truth, strict=True):
            assert_contains(ours, true)


@dataclass(frozen=True)
class Gauss:
    """An exact complex number."""

    re: Fraction
    im: Fraction

    def __add__(self, other: "Gauss") -> "Gauss":
        return Gauss(self.re + other.re, self.im + other.im)

    def __sub__(self, other: "Gauss") -> "Gauss":
        return self + other * Gauss(Fraction(-1), Fraction(0))

    def __mul__(self, other: "Gauss") -> "Gauss":
        return Gauss(self.re * other.re - self.im * other.im, self.re * other.im + self.im * other.re)

    def conjugate(self) -> "Gauss":
        return Gauss(self.re, -self.im)


gauss = np.vectorize(lambda z: Gauss(Fraction(z.real), Fraction(z.imag)), otypes=[object])
conjugate = np.vectorize(Gauss.conjugate, otypes=[object])
COMPLEX: dict[str, tuple[Callable, Callable]] = {
    "sum": (lambda A, B: A + B, lambda A, B: A + B),
    "difference": (lambda A, B: A - B, lambda A, B: A - B),
    "product": (lambda A, B: A @ B, lambda A, B: A @ B),
    "adjoint": (lambda A, B: A.H @ A, lambda A, B: conjugate(A.T) @ A),
    "entries": (lambda A, B: A * B, lambda A, B: A * B),
    "powers of two": (
        lambda A, B: A.shifted(-600, 100), lambda A, B: A * np.array(Gauss(Fraction(2) ** -500, Fraction(0)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("name", COMPLEX)
def test_complex_operations_contain_the_exact_result(name: str, flush: bool) -> None:
    """With radii in all directions, and with a real operand."""
    rng = np.random.default_rng(len(name))
    ours, true = COMPLEX[name]
    for k, spread in enumerate((3, 300, 500, 1074) * 8):
        mids, rads, truths = [], [], []
        for j in range(2):
            mid = drawn(rng, (3, 3), spread) + (0 if k % 3 == 1 and j else 1j) * drawn(rng, (3, 3), spread)
            rad = abs(drawn(rng, (3, 3), spread)) * float(rng.choice([0.0, 1.0, 2.0**-30]))
            turn = gauss(rng.choice([1.0, -1j, 0.6 + 0.79j, 0.0, 0.5j], size=(3, 3)) + 0j)
            if not np.iscomplexobj(mid):
                turn = gauss(rng.choice([-1.0, 1.0, 0.5], size=(3, 3)) + 0j)
            mids.append(mid)
            rads.append(rad)
            truths.append(gauss(mid + 0j) + gauss(rad + 0j) * turn)
        with denormals(flush):
            found = ours(*map(enclose, mids, rads))
        mid, rad, truth = found.mid.ravel(), found.radius().ravel(), true(*truths).ravel()
        for m, r, z in zip(mid, rad, truth, strict=True):
            far = (Fraction(m.real) - z.re) ** 2 + (Fraction(m.imag) - z.im) ** 2
            assert r == np.inf or far <= Fraction(r) ** 2


def test_errors_stay_near_the_roundings() -> None:
    rng = np.random.default_rng(2)
    A, B = Enclosure.exact(rng.normal(size=(40, 50))), Enclosure.exact(rng.normal(size=(50, 30)))
    assert (A @ B).rad.max() < 60 * 2.0**-53 * 80
    assert (A + A).rad.max() < 2.0**-53 * 16
    assert Enclosure.block([[A, np.zeros((40, 3))]]).radius().max() == 0
    C = Enclosure.exact(A.mid + 1j * rng.normal(size=(40, 50)))
    assert (C @ C.H).rad.max() < 60 * 2.0**-53 * 80 * 8


def test_exact_zeros_stay_exact() -> None:
    A = Enclosure.exact(np.diag([1e-160, 1.0]))
    assert A.shifted(500, 500).radius()[0, 1] == 0
    assert (A * np.array([1e-200, 3.0])).radius()[1, 0] == 0
    assert (A + np.zeros((2, 2))).radius()[0, 1] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_becomes_an_infinite_radius_and_stays_it(bad: float) -> None:
    M = np.ones((2, 2))
    M[0, 1] = bad
    for A in (
        Enclosure.exact(M),
        enclose(np.ones((2, 2)), abs(M)),
        enclose(np.ones((2, 2)), np.where(M == 1, 0, -1.0)),
    ):
        assert A.radius()[0, 1] == np.inf and np.isfinite(A.mid).all()
        for B in (A + 1.0, A * 0.5, A.shifted(-3), A @ np.ones((2, 2)), -A, A.T.T, Enclosure.of(M, 0.1)):
            assert B.radius()[0, 1] == np.inf
        assert A.error() == np.inf == A.norm()


def test_overflow_is_an_infinite_radius() -> None:
    A = Enclosure.exact(np.full((2, 2), 1e200))
    for B in (A @ A, A * 1e200, A.shifted(1000, 1000), A * A):
        assert (B.radius() == np.inf).all() and np.isfinite(B.mid).all()


def test_relative_errors() -> None:
    rng = np.random.default_rng(3)
    for spread, relative in product((3, 1074), (2.0**-53, 0.3, 1e10)):
        M = drawn(rng, (4, 4), spread)
        A = Enclosure.of(M, relative)
        for share in (-1, 1, Fraction(1, 3)):
            assert_contains(A, exact(M) * (1 + Fraction(relative) * share))
        assert (A.radius()[M == 0] == 0).all()


def test_lengths_and_norms_are_above() -> None:
    rng = np.random.default_rng(4)
    for spread in (2, 100, 480, 900):
        A = np.ldexp(rng.normal(size=(5, 6)), rng.integers(-spread, spread, size=(5, 1)))
        for row, length in zip(exact(A), lengths(A), strict=True):
            assert Fraction(length) ** 2 >= (row * row).sum()
        A = np.ldexp(rng.normal(size=(5, 6)), spread)
        norm = norm_above(abs(A))
        assert norm >= np.linalg.norm(np.ldexp(abs(A), -spread), 2) * 2.0**spread * (1 - 1e-12)
        assert norm <= 1.5 * np.linalg.norm(np.ldexp(abs(A), -spread), "fro") * 2.0**spread


def test_ends() -> None:
    rng = np.random.default_rng(5)
    for spread in (3, 1000):
        mid, rad, M = members(rng, (4, 4), spread)
        low, high = enclose(mid, rad).ends()
        assert all(
            Fraction(a) <= x <= Fraction(b)
            for a, x, b in zip(low.ravel(), M.ravel(), high.ravel(), strict=True)
        )
