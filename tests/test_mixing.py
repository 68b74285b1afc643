"""Laws of the low-rank solver: feasible, gap closed as asked, equivariant, and in agreement with the interior point."""

from dataclasses import replace

import numpy as np
import pytest

import sdplip.solvers._climb
import sdplip.solvers.mixing
from sdplip.errors import SolverUnavailable
from sdplip.geometry import Geometry
from sdplip.proposals import certify
from sdplip.scalings import aol
from sdplip.solvers import CVXPY, prove
from sdplip.solvers._prices import Symbols
from sdplip.solvers.interior_point import InteriorPoint
from sdplip.solvers.mixing import Mixing
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, ResidualLMI
from sdplip.solvers.solution import Status

from .test_interior_point import WEIGHTS, least_eigenvalue, trained


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-8])
def test_feasible_and_optimal(name, tolerance):
    W = WEIGHTS[name]
    problem = MinTrace(W)
    solution = Mixing(tolerance=tolerance).run(problem)
    assert solution.status is Status.OPTIMAL
    assert least_eigenvalue(W.astype(float), solution.t) >= -1e-14  # rounding of the eigenvalue itself
    assert np.array_equal(solution.t > 0, W.any(0))
    assert np.all((solution.dual**2).sum(1) <= problem.cost)
    rounding = 1e-13 * solution.objective  # the dual is shortened by 1e-14
    assert -rounding <= solution.objective - solution.lower <= tolerance * solution.objective + rounding


@pytest.mark.parametrize("name", WEIGHTS)
def test_agrees_with_interior_point(name):
    """Two intervals for one number must meet."""
    problem = MinTrace(WEIGHTS[name], cost=np.logspace(-1, 1, WEIGHTS[name].shape[1]))
    inner, low = InteriorPoint(gap=1e-8).run(problem), Mixing(tolerance=1e-5).run(problem)
    rounding = 1e-13 * inner.objective
    assert low.lower <= inner.objective + rounding and inner.lower <= low.objective + rounding


def test_above_the_checked_order(monkeypatch):
    """Without matrices of order n, from W alone: the lift is by Lanczos iteration."""
    monkeypatch.setattr(sdplip.solvers._climb, "CHECKED_ORDER", 0)
    for name in ("wide", "square", "tall", "positive", "duplicate columns", "zero column"):
        solution = Mixing(tolerance=1e-4).run(MinTrace(WEIGHTS[name]))
        assert solution.status is Status.OPTIMAL, name
        assert least_eigenvalue(WEIGHTS[name], solution.t) >= -1e-10, name  # as Lanczos iteration resolves it


def test_equivariant():
    W = WEIGHTS["wide"]
    t = Mixing(tolerance=1e-9).run(MinTrace(W)).t
    order = np.random.default_rng(0).permutation(W.shape[1])
    np.testing.assert_allclose(Mixing(tolerance=1e-9).run(MinTrace(W[:, order])).t, t[order], rtol=1e-4)
    assert np.array_equal(Mixing(tolerance=1e-9).run(MinTrace(2.0**-30 * W)).t, 2.0**-60 * t)


def test_numpy_and_torch_agree(monkeypatch):
    """One text for both: small matrices are solved without torch."""
    for name in ("wide", "tall", "duplicate columns"):
        problem = MinTrace(WEIGHTS[name])
        numpy = Mixing().run(problem)
        with monkeypatch.context() as large:
            large.setattr(sdplip.solvers.mixing, "SMALL", 0)
            torch = Mixing().run(problem)
        assert numpy.status is torch.status is Status.OPTIMAL
        assert numpy.lower <= torch.objective * (1 + 1e-13) and torch.lower <= numpy.objective * (1 + 1e-13)


def test_one_row_by_hand():
    w = WEIGHTS["one row"][0]
    t = Mixing(tolerance=1e-9).run(MinTrace(w[None])).t
    np.testing.assert_allclose(t, abs(w) * abs(w).sum(), rtol=1e-4)  # the root of the gap


def test_rank_is_that_asked_for_and_then_that_needed():
    W = WEIGHTS["square"]
    assert Mixing(rank=5, max_sweeps=3).run(MinTrace(W)).dual.shape == (30, 5)
    assert Mixing(max_sweeps=3).run(MinTrace(W)).dual.shape == (30, 8)  # 8 * 9 / 2 = 36 > 30
    assert Mixing().run(MinTrace(W)).dual.shape[1] < 8


def test_a_rank_that_is_too_small_grows():
    """One column has local maxima (that of MaxCut, signs); the eigenvector above 1 shows the way up."""
    problem = MinTrace(WEIGHTS["square"])
    solution = Mixing(rank=1).run(problem)
    assert solution.status is Status.OPTIMAL and solution.dual.shape[1] > 1
    assert solution.objective == pytest.approx(InteriorPoint().run(problem).objective, rel=1e-8)


def test_zero_weight():
    solution = Mixing().run(MinTrace(np.zeros((3, 4))))
    assert solution.status is Status.OPTIMAL and not solution.t.any()


def test_interrupted_or_limited_solve_returns_a_feasible_point():
    def interrupt(progress):
        if progress.iteration == 4:
            raise KeyboardInterrupt

    W = WEIGHTS["square"]
    stopped = Mixing(tolerance=1e-12).run(MinTrace(W), progress=interrupt)
    limited = [Mixing(tolerance=1e-12, max_sweeps=4), Mixing(tolerance=1e-12, time_limit=0.0)]
    solutions = [
        (stopped, Status.INTERRUPTED),
        *((solver.run(MinTrace(W)), Status.STOPPED) for solver in limited),
    ]
    for solution, status in solutions:
        assert solution.status is status
        assert least_eigenvalue(W, solution.t) >= -1e-14
        assert solution.lower <= solution.objective


def test_only_problems_with_a_diagonal():
    with pytest.raises(SolverUnavailable, match="ResidualLMI"):
        Mixing().run(ResidualLMI(np.eye(2), np.eye(2), np.eye(2)))


def test_log_det_agrees_with_the_interior_point():
    for name in ("square", "wide", "tall", "duplicate columns", "zero column", "bad columns", "positive"):
        problem = MaxVolume(WEIGHTS[name])
        inner, low = InteriorPoint().run(problem), Mixing().run(problem)
        n = int(problem.W.any(0).sum())
        assert low.status is Status.OPTIMAL, name
        assert abs(low.objective - inner.objective) <= 1.5e-8 * n + 1e-12 * abs(inner.objective), name
        assert least_eigenvalue(problem.W, low.t) >= -1e-14, name


def test_nearest_agrees_with_the_reference():
    """Targets below, above and on both sides of what the condition asks for, one negative, one of a zero column."""
    for name in ("one row", "zero column", "duplicate columns"):
        W = WEIGHTS[name]
        n = W.shape[1]
        for target in (np.linspace(-1, 60, n), np.full(n, 8.0)):
            problem = Nearest(W, target, np.linspace(0.5, 2, n))
            low, reference = Mixing().run(problem), CVXPY("CLARABEL", eps=1e-9).run(problem)
            assert low.status is Status.OPTIMAL, name
            assert low.objective == pytest.approx(reference.objective, rel=1e-6), name
            assert np.linalg.eigvalsh(np.diag(low.t) - W.T @ W)[0] >= -1e-12 * low.t.max(), name
            assert low.lower <= low.objective * (1 + 1e-13) <= low.lower + 1e-8 * low.objective + 1e-13, name


def test_nearest_to_what_is_feasible_is_that():
    W = np.c_[WEIGHTS["square"], np.zeros(30)]
    target = np.append(aol(WEIGHTS["square"]), -2.0)
    solution = Mixing().run(Nearest(W, target))
    assert np.array_equal(solution.t, np.append(target[:-1], 0.0))
    assert solution.objective == 4 == pytest.approx(solution.lower)


def test_intervals_are_as_narrow_as_asked_for():
    """With the proof, not only in floating point."""
    W = np.random.default_rng(0).standard_normal((150, 150))
    for problem, size in ((MinTrace(W), 1), (Nearest(W, np.linspace(0, 900, 150)), 1), (MaxVolume(W), 150)):
        interval = prove(problem, Mixing().run(problem))
        width = interval.upper - interval.lower
        assert 0 <= width <= 1e-8 * (size if size > 1 else interval.upper)


def test_a_dual_point_that_was_tampered_with_proves_less_never_too_much():
    rng = np.random.default_rng(3)
    W = rng.standard_normal((40, 40))
    for problem in (MinTrace(W), Nearest(W, np.linspace(0, 90, 40)), MaxVolume(W)):
        solution = Mixing().run(problem)
        good = prove(problem, solution)
        noise = rng.standard_normal(solution.dual.shape)
        for dual in (3 * solution.dual, solution.dual + 0.1 * noise, noise):
            assert prove(problem, replace(solution, dual=dual)).lower <= good.upper
        low = prove(problem, replace(solution, t=0.5 * solution.t))  # far from feasible: it is lifted
        assert low.upper >= good.lower and certify(W, low.t).c <= 1 + 1e-9


def test_single_precision_comes_first_in_torch(monkeypatch):
    monkeypatch.setattr(sdplip.solvers.mixing, "SMALL", 0)
    for problem in (MinTrace(WEIGHTS["square"]), MaxVolume(WEIGHTS["square"])):
        lines = []
        solution = Mixing().run(problem, progress=lines.append)
        assert solution.status is Status.OPTIMAL
        assert all(line.lower <= solution.objective * (1 + 1e-13) for line in lines)
        assert (
            lines[0].objective == lines[3].objective > solution.objective
        )  # `t` is made in double precision


def test_trained_layers(benchmark_files):
    for name, W in trained(benchmark_files).items():
        solution = Mixing(tolerance=1e-6).run(MinTrace(W))
        assert solution.status is Status.OPTIMAL, name
        assert least_eigenvalue(W.astype(float), solution.t) >= -1e-14, name


def kernel_problem(channels: int, size: int) -> ConvolutionMinTrace:
    K = np.random.default_rng(0).standard_normal((channels, channels, 3, 3)) / channels
    return ConvolutionMinTrace.from_kernel(
        K, Geometry(padding=1, padding_mode="circular", image_size=(size, size))
    )


def test_waves_agree_with_the_interior_point():
    problem = kernel_problem(6, 6)
    inner, low = InteriorPoint().run(problem), Mixing().run(problem)
    assert low.status is Status.OPTIMAL
    assert low.objective == pytest.approx(inner.objective, rel=1e-8)
    assert low.lower <= low.objective <= low.lower + 1e-8 * low.objective
    assert min(least_eigenvalue(S, low.t) for S in problem.symbols) >= -1e-14


def test_waves_with_lanczos_iteration_and_stops():
    """More channels than are solved exactly; only some frequencies are in the working set; limits leave a feasible point."""
    problem = kernel_problem(66, 6)
    solution = Mixing(tolerance=1e-6).run(problem)
    assert solution.status is Status.OPTIMAL
    assert (abs(solution.dual).max((1, 2)) > 0).sum() < len(problem.symbols)
    assert min(least_eigenvalue(S, solution.t) for S in problem.symbols) >= -1e-8
    stopped = Mixing(max_sweeps=9).run(problem)
    assert stopped.status is Status.STOPPED
    assert stopped.objective < 3 * solution.objective
    assert min(least_eigenvalue(S, stopped.t) for S in problem.symbols) >= -1e-8


def test_prices_are_largest_eigenvalues():
    """In double precision the highest; the others roughly, and those that are not asked for are not computed."""
    problem = kernel_problem(66, 4)
    keep, t = np.ones(66, bool), np.linspace(30, 60, 66)
    symbols = Symbols.of(problem.symbols, keep, np.ones(66))
    t = t * (np.linalg.norm(problem.symbols * t**-0.5, 2, (-2, -1)).max() ** 2)
    P = problem.symbols * t**-0.5
    exact = np.linalg.eigvalsh(P.conj().mT @ P)[:, -1]
    warm, asked = np.ones((len(symbols), 66), np.complex64), exact > exact.min()
    found, vectors = symbols.priced(t, 1e-8, warm, asked)
    assert (found[~asked] == 0).all() and (vectors[~asked] == warm[~asked]).all()
    assert found.max() == pytest.approx(1, abs=1e-8)
    assert (found[asked] >= exact[asked] - 1e-5).all() and (found[exact > 0.99] <= 1 + 1e-5).all()
    images = problem.symbols.conj().mT @ (problem.symbols @ np.ones((66, 1)))
    np.testing.assert_allclose(symbols.gram(warm), images[..., 0], rtol=1e-3, atol=1e-4)


def test_waves_of_zeros_and_of_a_zero_channel():
    assert not Mixing().run(ConvolutionMinTrace(np.zeros((3, 4, 5)))).t.any()
    rng = np.random.default_rng(1)
    S = rng.standard_normal((4, 5, 6)) + 1j * rng.standard_normal((4, 5, 6))
    S[..., 2] = 0
    solution = Mixing().run(ConvolutionMinTrace(S, np.arange(1.0, 5), np.linspace(1, 2, 6)))
    assert solution.status is Status.OPTIMAL and solution.t[2] == 0
    assert solution.lower <= solution.objective <= solution.lower * (1 + 1e-8)
