"""The kernel against exact rational arithmetic: no false certificate, no false violation, on 2,340 matrices."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import pytest

from sdplip import scalings
from sdplip.arithmetic import semidefinite
from sdplip.arithmetic.matrix import Enclosure
from sdplip.errors import NotProvable
from sdplip.kernel.condition import dense, holds, lower_bound
from sdplip.proposals import certify
from sdplip.proposals import dense as proposals_dense
from tests.exact import inertia_signs, residual_matrix

KINDS = (
    "random",
    "rank_one",
    "equal_rows",
    "hadamard",
    "graded",
    "graded_rows",
    "subnormal",
    "zero_columns",
    "integer",
    "float32",
    "duplicate_columns",
    "nearly_singular",
    "tall",
)
SCALINGS = ("aol", "spectral", "perron", "multi_step", "squared_norms", "graded")


def hadamard(order: int) -> np.ndarray:
    H = np.ones((1, 1))
    while len(H) < order:
        H = np.block([[H, H], [H, -H]])
    return H


def matrix(kind: str, rng: np.random.Generator) -> np.ndarray:
    m, n = rng.integers(1, 7, 2)
    W = rng.normal(size=(m, n))
    match kind:
        case "rank_one":
            W = np.outer(rng.normal(size=m), rng.normal(size=n))
        case "equal_rows":
            W = np.repeat(rng.normal(size=(1, n)), m, 0)
        case "hadamard":
            W = hadamard(int(2 ** rng.integers(0, 4))) * rng.choice([1.0, 0.1, 3.0])
        case "graded":
            W = W * 10.0 ** rng.uniform(-150, 150, n)
        case "graded_rows":
            W = W * 10.0 ** rng.uniform(-150, 150, (m, 1))
        case "subnormal":
            W = np.where(rng.random((m, n)) < 0.5, W * 2.0**-1070, W)
            W[0, 0] = 2.0**-1074
        case "zero_columns":
            W[:, rng.random(n) < 0.4] = 0
            W[0, 0] = 1.0
        case "integer":
            W = rng.integers(-9, 10, (m, n))
            W[0, 0] = 7
        case "float32":
            W = W.astype(np.float32)
        case "duplicate_columns":
            W = W[:, rng.integers(0, n, n)]
        case "nearly_singular":
            W = np.outer(rng.normal(size=m), np.ones(n)) * (1 + 2.0**-50 * rng.integers(-3, 4, (m, n)))
        case "tall":  # long sums of equal terms: their rounding errors all point the same way
            W = np.full((200, min(n, 3)), rng.choice([0.1, 0.3, 0.7])) * rng.choice([1.0, -1.0], min(n, 3))
    return W


def proposed(name: str, W: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scaling that was proposed for `W`, good or bad; the kernel must be right about every one."""
    W = np.asarray(W, np.float64)
    nonzero = (W != 0).any(0)
    top = np.frexp(abs(W).max(0))[
        1
    ]  # column exponents, so that the proposal neither overflows nor underflows
    unit = np.ldexp(W, -top)
    match name:
        case "squared_norms":
            t = (unit * unit).sum(0)
        case "graded":
            t = rng.uniform(0.1, 10, W.shape[1])
        case _:
            t = getattr(scalings, name)(unit)
    t = np.ldexp(t, np.clip(2 * top, -1000, 1000))
    return np.where(nonzero & (t == 0), 2.0**-1060, t)


def cases(per_pair: int = 30, kinds: Sequence[str] = KINDS) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(20230303)
    for kind in kinds:
        for name in SCALINGS:
            for _ in range(per_pair):
                W = matrix(kind, rng)
                yield f"{kind}/{name}", W, proposed(name, W, rng)


def statements(kinds: Sequence[str] = KINDS) -> Iterator[str]:
    """Of every certificate that is issued, what exact arithmetic refutes, or nothing."""
    for label, W, t in cases(kinds=kinds):
        try:
            certificate = certify(W, t)
        except NotProvable:
            continue
        if not inertia_signs(residual_matrix(W, t, certificate.c))[0]:
            yield f"{label}: W^T W <= c^2 T is false"
        elif inertia_signs(residual_matrix(W, t, certificate.c_lower))[1]:
            yield f"{label}: c_lower exceeds the least c"
        else:
            yield ""


def test_no_false_certificate_and_no_false_violation():
    issued = list(statements())
    assert not any(issued)
    assert len(issued) >= 2000


def test_sums_in_pieces(monkeypatch: pytest.MonkeyPatch):
    """The Gram matrix and its factor as large layers have them: in small pieces and blocks."""
    monkeypatch.setattr(dense, "PIECE", 3)
    for name, size in (("WHOLE", 1), ("BLOCK", 2), ("PIECE", 2)):
        monkeypatch.setattr(semidefinite, name, size)
    issued = list(statements(kinds=("tall", "nearly_singular", "duplicate_columns")))
    assert not any(issued)
    assert len(issued) >= 200


def test_without_the_guards_certificates_are_false(monkeypatch: pytest.MonkeyPatch):
    def factors(M: Enclosure) -> np.ndarray:
        try:
            np.linalg.cholesky(M.mid)
        except np.linalg.LinAlgError:
            return np.zeros(len(M), bool)
        return np.ones(len(M), bool)

    monkeypatch.setattr(dense, "which", factors)
    monkeypatch.setattr(dense, "gamma", lambda _: 0.0)
    monkeypatch.setattr(dense, "UNIT", 0.0)
    monkeypatch.setattr(proposals_dense, "slack", lambda _: 0.0)
    assert any("W^T W <= c^2 T is false" in line for line in statements(KINDS[::-1]))


def test_every_certificate_can_be_proven_again():
    for label, W, t in cases(per_pair=4):
        certificate = certify(W, t)
        assert holds(W, t, certificate.c), label
        again = lower_bound(W, t, certificate.witness)
        assert certificate.c_lower <= again <= certificate.c_lower * (1 + 1e-12), label
        assert not holds(W, t, certificate.c_lower * (1 - 1e-9)), label


def test_enclosures_are_tight():
    for label, W, t in cases(per_pair=4):
        certificate = certify(W, t)
        assert certificate.c_lower <= certificate.c <= certificate.c_lower * (1 + 1e-12), label


def test_relative_looseness_at_500():
    W = np.random.default_rng(0).normal(size=(500, 500))
    for scaling in (scalings.aol, scalings.spectral, scalings.multi_step):
        certificate = certify(W, scaling(W))
        assert 0 <= certificate.c / certificate.c_lower - 1 < 1e-9


@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 0.03, 0.2, 0.6])
def test_clustered_spectra_are_enclosed_tightly(spread):
    """What an optimal t leaves: hundreds of eigenvalues within `spread` of the largest, the hard case for Lanczos iteration."""
    rng = np.random.default_rng(0)
    Q, _ = np.linalg.qr(rng.normal(size=(300, 300)))
    W = (Q * np.sqrt(1 + spread * rng.uniform(-1, 1, 300))) @ np.linalg.qr(rng.normal(size=(300, 300)))[0]
    certificate, norm = certify(W, np.ones(300)), np.linalg.norm(W, 2)
    assert certificate.c_lower <= certificate.c <= certificate.c_lower * (1 + 1e-7)
    assert certificate.c == pytest.approx(norm, rel=3e-8)


def test_known_answer_two_by_two():
    """W = [[3, 0], [4, 5]], T = I: the eigenvalues of W^T W are 45 and 5, so c^2 = 45 exactly."""
    certificate = certify(np.array([[3, 0], [4, 5]]), np.ones(2))
    assert Fraction(certificate.c_lower) ** 2 <= 45 <= Fraction(certificate.c) ** 2
    assert certificate.c == pytest.approx(45**0.5, rel=1e-14)
    assert certificate.bound == certificate.c


def test_residual_bound_is_attained():
    """x - 2 w t^-1 relu(w x), w^2 = 3 t: the slope 1 - 6 = -5 is 2 c^2 - 1 in absolute value."""
    certificate = certify(np.array([[3.0**0.5]]), np.ones(1), form="residual")
    assert certificate.bound == pytest.approx(5, rel=1e-14)
    assert certificate.bound >= 2 * Fraction(certificate.c) ** 2 - 1
    assert certify(np.array([[0.5]]), np.ones(1), form="residual").bound == 1


def test_no_negative_bound_holds():
    """Its square would: a certificate file that says -9 in place of 9 must not be proven again."""
    W = np.eye(2)
    assert holds(W, np.ones(2), 9.0) and not holds(W, np.ones(2), -9.0)
