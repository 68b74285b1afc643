"""The prover never says yes to a matrix that is not positive semidefinite, and says yes where there is a little room."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

import sdplip.arithmetic.semidefinite
from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.arithmetic.semidefinite import Arrow, proves, proves_arrow, slack, which
from tests.exact import inertia_signs
from tests.flush import denormals


def is_semidefinite(M: np.ndarray) -> bool:
    return inertia_signs([[Fraction(x) for x in row] for row in M.tolist()])[0]


def near_the_boundary(rng: np.random.Generator, n: int) -> np.ndarray:
    """Symmetric, with a smallest eigenvalue within a few roundings of 0."""
    B = rng.normal(size=(n, rng.integers(1, n + 1)))
    M = B @ B.T
    M = np.tril(M) + np.tril(M, -1).T
    room = rng.choice([0, 1e-16, -1e-16, 1e-15, -1e-15, 1e-14, 1e-13, 1e-12], size=n) * rng.choice([1, 100])
    return M + np.diag(room)


def hadamard(order: int) -> np.ndarray:
    H = np.ones((1, 1))
    while len(H) < order:
        H = np.block([[H, H], [H, -H]])
    return H


@pytest.mark.parametrize("flush", [False, True])
def test_what_is_proven_is_true(flush: bool) -> None:
    rng = np.random.default_rng(0)
    proven = 0
    for k in range(1200):
        n = int(rng.integers(1, 7))
        M = near_the_boundary(rng, n)
        if k % 2:
            e = rng.integers(-500, 500, size=n)
            M = np.ldexp(M, e[:, None] + e)
        if k % 3 == 0:
            M = np.ldexp(M, int(rng.integers(-1060, -900)))
        with denormals(flush):
            found = proves(Enclosure.exact(M))
        if found:
            proven += 1
            assert is_semidefinite(M)
    assert proven > 200


def test_every_member_is_meant() -> None:
    rng = np.random.default_rng(1)
    proven = 0
    for k in range(800):
        n = int(rng.integers(2, 6))
        M, R = near_the_boundary(rng, n), abs(rng.normal(size=(n, n))) * 2.0 ** -float(rng.integers(2, 60))
        R = R + R.T
        M = M + np.diag(R.sum(1)) * float(rng.choice([0.3, 0.9, 1, 1.1]))
        if k % 2:
            e = rng.integers(-400, 400, size=n)
            M, R = np.ldexp(M, e[:, None] + e), np.ldexp(R, e[:, None] + e)
        if not proves(enclose(M, R)):
            continue
        proven += 1
        signs = rng.choice([-1, 1], size=n)
        for S in (np.outer(signs, signs), -np.ones((n, n)), -np.eye(n)):
            member = [
                [Fraction(M[i, j]) + Fraction(R[i, j]) * int(S[i, j]) for j in range(n)] for i in range(n)
            ]
            assert inertia_signs(member)[0]
    assert proven > 100


@pytest.mark.parametrize("order", [32, 256, 512])
def test_large_orders_with_known_eigenvalues(order: int) -> None:
    """H D H / n has the eigenvalues D, and its entries are exact in double precision."""
    rng = np.random.default_rng(order)
    H = hadamard(order)
    for least in (-(2.0**-38), 2.0**-38, 2.0**-30):
        d = np.ldexp(np.round(np.ldexp(rng.random(order), 10)) + 1, -10)
        d[order // 3] = least
        M = (H * d) @ H / order
        assert (M == M.T).all()
        found = proves(Enclosure.exact(M))
        assert found <= (least > 0) and found >= (least > 2 * slack(order))
        e = rng.integers(-300, 300, size=order)
        assert proves(Enclosure.exact(np.ldexp(M, e[:, None] + e))) <= (least > 0)


def test_small_blocks_and_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What large orders are cut into, at an order where the eigenvalues are known."""
    for name, size in (("WHOLE", 4), ("BLOCK", 6), ("PIECE", 10), ("LARGE", 64), ("WIDE", 14)):
        monkeypatch.setattr(sdplip.arithmetic.semidefinite, name, size)
    for order in (32, 128):
        H, rng = hadamard(order), np.random.default_rng(order)
        for least in (-(2.0**-40), 2.0**-38):
            d = np.ldexp(np.round(np.ldexp(rng.random(order), 10)) + 1, -10)
            d[3] = least
            assert proves(Enclosure.exact((H * d) @ H / order)) == (least > 0)


@pytest.mark.parametrize("n", [1, 3, 70, 300])
def test_a_little_room_is_enough(n: int) -> None:
    rng = np.random.default_rng(n)
    B = rng.normal(size=(n, n // 2 + 1))
    M = B @ B.T + np.eye(n) * 1e-3
    d = np.sqrt(M.diagonal())
    M = M / d[:, None] / d
    M = (M + M.T) / 2
    M -= np.linalg.eigvalsh(M)[0] * np.eye(n)
    assert proves(Enclosure.exact(M + slack(n) * 2 * np.eye(n)))
    assert not proves(Enclosure.exact(M - slack(n) * np.eye(n)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(2, 0), (1, 1), (2, 2), (0, 2)])
def test_what_is_not_finite_is_not_proven(bad: float, place: tuple[int, int]) -> None:
    for n in (3, 300):
        M = np.eye(n)
        M[place] = M[place[::-1]] = bad
        zero = np.zeros((1, 1))
        assert not proves(Enclosure.exact(M))
        assert not proves(Enclosure(M, zero))  # even one that breaks the rule of enclosures
        assert not proves(Enclosure(np.eye(n), abs(M)))
        assert not proves(Enclosure.exact(np.stack([np.eye(n), M])))
        E = Enclosure(M, zero)
        empty = Enclosure(np.zeros((0, n)), zero)
        assert not proves_arrow(Arrow([E], [], [empty], Enclosure(np.zeros((0, 0)), zero)))


def test_shapes_and_zeros() -> None:
    assert proves(Enclosure.exact(np.zeros((0, 0))))
    assert proves(Enclosure.exact(np.zeros((2, 2))))
    assert not proves(Enclosure.exact(np.ones((2, 3))))
    assert not proves(Enclosure.exact(np.ones(3)))
    M = np.diag([1.0, 0.0, 2.0])
    assert proves(Enclosure.exact(M))
    M[0, 1] = M[1, 0] = 1e-300
    assert not proves(Enclosure.exact(M))
    assert not proves(enclose(np.diag([1.0, 0.0]), np.diag([0, 1e-300])))
    assert not proves(Enclosure.exact(-np.eye(2)))
    assert proves(enclose(np.eye(3), 0.3)) and not proves(enclose(np.eye(3), 0.34))


@pytest.mark.parametrize("n", [2, 5, 70, 300])
def test_enclosures_that_are_not_symmetric_hold_symmetric_matrices_too(n: int) -> None:
    rng = np.random.default_rng(n)
    B = rng.normal(size=(n, n))
    S = B @ B.T / n + np.eye(n)
    S = (S + S.T) / 2
    S -= (np.linalg.eigvalsh(S)[0] + 1e-9) * np.eye(n)
    for size in (1e-12, 1e-6, 0.1):
        for part in (np.ones((n, n)), np.tril(np.ones((n, n))), np.triu(np.ones((n, n)))):
            P = rng.normal(size=(n, n)) * part * size
            assert not proves(enclose(S + P, abs(P) * (1 + 1e-9)))


def arrow_of(M: np.ndarray, sizes: list[int], m: int, rad: float = 0.0) -> Arrow:
    ends = np.cumsum([0, *sizes])
    blocks = [slice(a, b) for a, b in pairwise(ends)]
    border = slice(len(M) - m, len(M))
    return Arrow(
        [enclose(M[b, b], rad) for b in blocks],
        [enclose(M[b, a], rad) for a, b in pairwise(blocks)],
        [enclose(M[border, b], rad) for b in blocks],
        enclose(M[border, border], rad),
    )


def banded(rng: np.random.Generator, sizes: list[int], m: int) -> np.ndarray:
    """L L' of the shape of an arrow, in whole numbers: exact."""
    ends, order = np.cumsum([0, *sizes]), sum(sizes) + m
    L = np.tril(rng.integers(-3, 4, size=(order, order))).astype(float)
    for k in range(len(sizes)):
        until = ends[min(k + 2, len(sizes))]
        L[until : order - m, ends[k] : ends[k + 1]] = 0
    return L @ L.T


def test_arrows_agree_with_the_truth_and_with_the_dense_form() -> None:
    rng = np.random.default_rng(2)
    proven = 0
    for _ in range(250):
        sizes, m = rng.integers(1, 4, size=int(rng.integers(1, 5))).tolist(), int(rng.integers(0, 3))
        M = banded(rng, sizes, m) + np.diag(rng.choice([0, 1e-13, -1e-13, 1e-9], size=sum(sizes) + m))
        if rng.random() < 0.5:
            e = rng.integers(-300, 300, size=len(M))
            M = np.ldexp(M, e[:, None] + e)
        if not M.diagonal().all():
            continue
        found = proves_arrow(arrow_of(M, sizes, m))
        proven += found
        assert found <= is_semidefinite(M)
        room = M + np.diag(M.diagonal() * 1e-10)
        assert proves_arrow(arrow_of(room, sizes, m)) == proves(Enclosure.exact(room))
        assert not proves_arrow(arrow_of(M, sizes, m, float(M.max())))
    assert proven > 20


def test_long_arrows_with_large_blocks() -> None:
    rng = np.random.default_rng(3)
    sizes, m = [80, 300, 60, 260], 5
    M = banded(rng, sizes, m)
    scale = 1 / np.sqrt(M.diagonal())
    M = M * scale[:, None] * scale
    least = np.linalg.eigvalsh(M)[0]
    above, below = (M + (x - least) * np.eye(len(M)) for x in (1e-9, -1e-9))
    assert proves_arrow(arrow_of(above, sizes, m)) and not proves_arrow(arrow_of(below, sizes, m))


def test_arrows_whose_blocks_do_not_fit_are_refused() -> None:
    A = arrow_of(np.eye(5), [2, 2], 1)
    assert proves_arrow(A)
    for other in (
        Arrow(A.diagonal, [], A.border, A.corner),
        Arrow(A.diagonal, A.lower, A.border[:1], A.corner),
        Arrow(A.diagonal, A.lower, A.border, Enclosure.exact(np.eye(2))),
        Arrow([], [], [], A.corner),
    ):
        assert not proves_arrow(other)


def test_hermitian_batches() -> None:
    rng = np.random.default_rng(4)
    B = rng.normal(size=(6, 5, 3)) + 1j * rng.normal(size=(6, 5, 3))
    H = B @ B.conj().mT
    for item, room, expected in ((0, 1e-9, True), (3, -1e-9, False)):
        G = H + 1e-9 * np.eye(5)
        G[item] += (room - 1e-9) * np.eye(5)
        assert proves(Enclosure.exact(G)) is expected
        assert which(Enclosure.exact(G)).tolist() == [expected or k != item for k in range(6)]
        assert not proves(enclose(G, np.full((6, 1, 1), 1e-8)))


def test_matrices_of_many_small_eigenvalues_need_no_more_room() -> None:
    """At an optimum many eigenvalues vanish at once, in the midst of the factorization."""
    rng = np.random.default_rng(5)
    n = 400
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    M = (Q * np.where(np.arange(n) < 200, 0.0, 1.0)) @ Q.T
    M = (M + M.T) / 2
    assert proves(Enclosure.exact(M + 2 * slack(n) * np.eye(n)))
    assert not proves(Enclosure.exact(M - slack(n) * np.eye(n)))
