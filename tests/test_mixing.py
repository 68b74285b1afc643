"""Laws of the low-rank solver: feasible, gap closed as asked, equivariant, and in agreement with the interior point."""

import numpy as np
import pytest

import sdplip.solvers.mixing
from sdplip.errors import SolverUnavailable
from sdplip.solvers.interior_point import InteriorPoint
from sdplip.solvers.mixing import Mixing
from sdplip.solvers.problems import MaxVolume, MinTrace
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
    monkeypatch.setattr(sdplip.solvers.mixing, "CHECKED_ORDER", 0)
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


def test_rank_is_that_asked_for():
    W = WEIGHTS["square"]
    assert Mixing(rank=5, max_sweeps=3).run(MinTrace(W)).dual.shape == (30, 5)
    assert Mixing().run(MinTrace(W)).dual.shape == (30, 8)  # 8 * 9 / 2 = 36 > 30


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


def test_only_min_trace():
    with pytest.raises(SolverUnavailable, match="MaxVolume"):
        Mixing().run(MaxVolume(np.eye(2)))


def test_trained_layers(benchmark_files):
    for name, W in trained(benchmark_files).items():
        solution = Mixing(tolerance=1e-6).run(MinTrace(W))
        assert solution.status is Status.OPTIMAL, name
        assert least_eigenvalue(W.astype(float), solution.t) >= -1e-14, name
