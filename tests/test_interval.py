"""The interval that the kernel proves around every optimum, and the residual LMI in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from sdplip import scalings
from sdplip.errors import InvalidProblem, InvalidScaling, InvalidWeight, NotProvable
from sdplip.kernel.condition import residual_holds, residual_lower_bound
from sdplip.proposals import certify, certify_residual
from sdplip.solvers import CVXPY, ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, ResidualLMI, prove
from tests.exact import inertia_signs

RNG = np.random.default_rng(7)
W = RNG.normal(size=(6, 8))
PROBLEMS = {
    "min_trace": MinTrace(W),
    "weighted": MinTrace(W, np.linspace(0.5, 3, 8)),
    "max_volume": MaxVolume(W),
    "nearest": Nearest(W, np.full(8, 5.0)),
    "residual": ResidualLMI(RNG.normal(size=(4, 6)), RNG.normal(size=(4, 8)), W),
    "residual_slopes": ResidualLMI(RNG.normal(size=(4, 6)), RNG.normal(size=(4, 8)), W, -0.2, 1.1),
}


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_every_solution_leaves_as_a_proven_interval(problem):
    solution = CVXPY(solver="SCS", eps=1e-8).run(problem)
    interval = prove(problem, solution)
    assert interval.lower <= interval.upper
    assert interval.gap < 1e-4
    if interval.t is not None:
        assert certify(problem.W, interval.t).c <= 1 + 1e-12


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)
def test_without_a_dual_point_the_interval_is_open_below(problem):
    solution = CVXPY(solver="SCS", eps=1e-6).run(problem)
    bare = type(solution)(**{**vars(solution), "dual": None})
    assert prove(problem, bare).lower <= 0


def test_the_optimum_of_every_analytic_scaling_is_above_the_lower_end():
    interval = prove(PROBLEMS["min_trace"], CVXPY().run(PROBLEMS["min_trace"]))
    for scaling in (scalings.aol, scalings.spectral, scalings.perron, scalings.multi_step):
        assert scaling(W).sum() >= interval.lower


def test_convolutions_are_proven_from_their_kernel():
    problem = ConvolutionMinTrace(np.ones((1, 2, 2), complex), np.ones(1))
    with pytest.raises(InvalidProblem, match="certify_convolution"):
        prove(problem, CVXPY().run(problem))


def exact_lmi(H, G, W, L, gamma, slopes) -> list[list[Fraction]]:
    """The matrix of the residual LMI in rational arithmetic."""
    H, G, W = ([[Fraction(x) for x in row] for row in np.asarray(X, float).tolist()] for X in (H, G, W))
    a, b = map(Fraction, slopes)
    L = [Fraction(x) for x in L.tolist()]
    k, d, n = len(H), len(H[0]), len(L)
    A = [
        [
            (Fraction(gamma) if i == j else 0)
            - sum(H[r][i] * H[r][j] for r in range(k))
            + 2 * a * b * sum(W[i][s] * L[s] * W[j][s] for s in range(n))
            for j in range(d)
        ]
        for i in range(d)
    ]
    B = [
        [-sum(H[r][i] * G[r][j] for r in range(k)) - (a + b) * W[i][j] * L[j] for j in range(n)]
        for i in range(d)
    ]
    C = [
        [(2 * L[i] if i == j else 0) - sum(G[r][i] * G[r][j] for r in range(k)) for j in range(n)]
        for i in range(n)
    ]
    top = [A[i] + B[i] for i in range(d)]
    return top + [[B[j][i] for j in range(d)] + C[i] for i in range(n)]


@pytest.mark.parametrize("slopes", [(0.0, 1.0), (-0.25, 1.0), (0.1, 0.9)])
def test_residual_certificates_in_exact_arithmetic(slopes):
    rng = np.random.default_rng(1)
    for _ in range(40):
        k, d, n = rng.integers(1, 5, 3)
        H, G, W = rng.normal(size=(k, d)), rng.normal(size=(k, n)), rng.normal(size=(d, n))
        multipliers = rng.uniform(1, 3, n) * (np.linalg.norm(G, 2) ** 2)
        certificate = certify_residual(H, G, W, multipliers, slopes)
        assert inertia_signs(exact_lmi(H, G, W, certificate.multipliers, certificate.gamma, slopes))[0]


def test_the_papers_layer_has_constant_one():
    t = scalings.aol(W)
    certificate = certify_residual(np.eye(6), -2 * W / t, W, 2 / t)
    assert 1 <= certificate.bound <= 1 + 1e-12


@pytest.mark.parametrize(("h", "L"), [(0.0, 1.0), (0.5, 1.0), (-0.9, 2.0), (1.0, 3.0)])
def test_the_closed_form_has_constant_L(h, L):
    """x -> h x - (h + L) W T^-1 sigma(W^T x) with multipliers (h (h + L) + L^2 - h^2) / t (reference section 3)."""
    t = scalings.aol(W)
    multipliers = (h * (h + L) + L * L - h * h) / t
    certificate = certify_residual(h * np.eye(6), -(h + L) * W / t, W, multipliers)
    assert certificate.bound <= L * (1 + 1e-12)


def test_one_dimension_by_hand():
    """x - 3 relu(x): slopes 1 and -2, so gamma = 4."""
    one = np.ones((1, 1))
    problem = ResidualLMI(one, -3 * one, one)
    interval = prove(problem, CVXPY(eps=1e-9).run(problem))
    assert interval.lower <= 4 <= interval.upper
    assert interval.upper == pytest.approx(4, rel=1e-5)


def test_multipliers_that_prove_nothing_are_refused():
    G = np.eye(2)
    with pytest.raises(NotProvable):
        certify_residual(np.eye(2), G, np.eye(2), np.full(2, 0.4))  # 2 Lambda < G^T G
    assert not residual_holds(np.eye(2), G, np.eye(2), np.full(2, 2.0), 0.5)


def test_bad_input_is_refused():
    eye = np.eye(2)
    with pytest.raises(InvalidWeight, match="shapes"):
        certify_residual(eye, np.ones((3, 2)), eye, np.ones(2))
    with pytest.raises(InvalidWeight, match="not finite"):
        certify_residual(eye, eye * np.nan, eye, np.ones(2))
    with pytest.raises(InvalidScaling, match="multipliers"):
        certify_residual(eye, eye, eye, -np.ones(2))
    with pytest.raises(InvalidScaling, match="slopes"):
        certify_residual(eye, eye, eye, np.ones(2), (1.0, 0.0))
    with pytest.raises(InvalidScaling, match="4 rows"):
        residual_lower_bound(eye, eye, eye, np.ones((3, 1)))
