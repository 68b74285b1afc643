"""Laws of the interior-point solver: feasible, closed gap, equivariant, and known answers."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from sdplip.convolution import dense_matrix
from sdplip.errors import InvalidScaling, SolverUnavailable
from sdplip.geometry import Geometry
from sdplip.scalings import aol
from sdplip.solvers.interior_point import InteriorPoint
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest
from sdplip.solvers.solution import Status

GAP = 1e-8
SLACK = 1 + 1e-9  # rounding of the objective and of the lower value, each a sum of products

rng = np.random.default_rng(7)
WEIGHTS = {
    "square": rng.standard_normal((30, 30)),
    "wide": rng.standard_normal((8, 40)),
    "tall": rng.standard_normal((50, 12)),
    "one column": rng.standard_normal((5, 1)),
    "one row": rng.standard_normal((1, 20)),
    "zero column": rng.standard_normal((10, 8)) * (np.arange(8) != 3),
    "duplicate columns": np.repeat(rng.standard_normal((10, 8)), 2, axis=1),
    "blocks": np.kron(np.eye(4), rng.standard_normal((6, 8))),
    "orthogonal": np.linalg.qr(rng.standard_normal((16, 16)))[0],
    "all equal": np.ones((9, 9)),
    "positive": abs(rng.standard_normal((20, 20))),
    "bad columns": rng.standard_normal((20, 20)) * np.logspace(-8, 8, 20),
    "tiny": 1e-8 * rng.standard_normal((10, 10)),
    "huge": 1e8 * rng.standard_normal((10, 10)),
    "single precision": rng.standard_normal((15, 15)).astype(np.float32),
}


@pytest.fixture(params=WEIGHTS, name="W")
def weight(request: pytest.FixtureRequest) -> np.ndarray:
    return WEIGHTS[request.param]


def least_eigenvalue(W: np.ndarray, t: np.ndarray) -> float:
    """Of I - T^{-1/2} W^* W T^{-1/2}, without the zero columns."""
    P = W[:, t > 0] * t[t > 0] ** -0.5
    return np.linalg.eigvalsh(np.eye(P.shape[1]) - P.conj().T @ P)[0]


def test_min_trace_is_feasible_and_optimal(W):
    problem = MinTrace(W)
    solution = InteriorPoint(gap=GAP).run(problem)
    assert solution.status is Status.OPTIMAL
    assert least_eigenvalue(W.astype(float), solution.t) >= -1e-14  # rounding of the eigenvalue itself
    assert np.array_equal(solution.t > 0, W.any(0))
    assert np.all((solution.dual**2).sum(1) <= problem.cost)
    assert 0 <= solution.objective - solution.lower <= GAP * SLACK * solution.objective
    assert solution.objective <= aol(W).sum() * SLACK


def test_max_volume_is_feasible_and_optimal(W):
    problem = MaxVolume(W)
    solution = InteriorPoint(gap=GAP).run(problem)
    assert solution.status is Status.OPTIMAL
    assert least_eigenvalue(W.astype(float), solution.t) >= -1e-14
    assert np.array_equal(solution.t > 0, W.any(0))
    assert np.linalg.eigvalsh(solution.dual)[0] >= -1e-14 * np.trace(solution.dual)
    rounding = 1e-12 * abs(np.log(solution.t[solution.t > 0])).sum()
    assert -rounding <= solution.objective - solution.lower <= GAP * W.any(0).sum() + rounding


@pytest.mark.parametrize("kind", [MinTrace, MaxVolume])
def test_karush_kuhn_tucker(kind):
    W = WEIGHTS["wide"]
    solution = InteriorPoint(gap=1e-9).run(kind(W))
    if kind is MinTrace:
        X, Z = solution.dual @ solution.dual.T, np.diag(solution.t) - W.T @ W
        stationary = abs(np.diag(X) - 1).max()
        total = solution.objective
    else:
        X, Z = solution.dual, np.eye(len(W)) - (W / solution.t) @ W.T
        stationary = abs((W * (X @ W)).sum(0) / solution.t - 1).max()
        total = W.shape[1]
    # <X, Z> is the gap; X, Z >= 0 then give ||X Z|| <= sqrt(<X, Z>) times norms. Stationarity: Newton's error is quadratic.
    assert 0 <= np.sum(X * Z) <= 2e-9 * total
    assert stationary <= 1e-4


def test_orthogonal_weight_needs_no_scaling():
    for kind in (MinTrace, MaxVolume):
        t = InteriorPoint().run(kind(WEIGHTS["orthogonal"])).t
        np.testing.assert_allclose(t, 1, atol=1e-6)


def test_one_row_by_hand():
    """W = w^T: the optimum is t = |w| ||w||_1, of trace ||w||_1^2; of least product: t = n w^2."""
    w = WEIGHTS["one row"][0]
    solution = InteriorPoint(gap=1e-10).run(MinTrace(w[None]))
    # the optimum is sharp only to second order, hence the root of the gap
    np.testing.assert_allclose(solution.t, abs(w) * abs(w).sum(), rtol=1e-4)
    np.testing.assert_allclose(solution.objective, abs(w).sum() ** 2, rtol=1e-9)
    np.testing.assert_allclose(InteriorPoint(gap=1e-10).run(MaxVolume(w[None])).t, 20 * w**2, rtol=1e-4)


def test_positive_weight_meets_aol():
    """For W >= 0 no scaling has a smaller trace than AOL: X = 1 1^T proves it."""
    W = WEIGHTS["positive"]
    np.testing.assert_allclose(InteriorPoint().run(MinTrace(W)).objective, aol(W).sum(), rtol=1e-8)


@pytest.mark.parametrize("kind", [MinTrace, MaxVolume])
def test_equivariant(kind):
    W = WEIGHTS["tall"]
    t = InteriorPoint(gap=1e-10).run(kind(W)).t
    order = np.random.default_rng(0).permutation(W.shape[1])
    np.testing.assert_allclose(InteriorPoint(gap=1e-10).run(kind(W[:, order])).t, t[order], rtol=1e-4)
    np.testing.assert_allclose(InteriorPoint(gap=1e-10).run(kind(3e5 * W)).t, 9e10 * t, rtol=1e-4)
    assert np.array_equal(InteriorPoint(gap=1e-10).run(kind(2.0**20 * W)).t, 2.0**40 * t)


def test_max_volume_does_not_mind_column_scales():
    """t of W diag(d) is d^2 t: the objective only shifts."""
    W, d = WEIGHTS["square"], np.logspace(-4, 4, 30)
    t = InteriorPoint(gap=1e-10).run(MaxVolume(W)).t
    np.testing.assert_allclose(InteriorPoint(gap=1e-10).run(MaxVolume(W * d)).t / d**2, t, rtol=1e-4)


def test_cost_is_a_change_of_units():
    """Cost c on W is cost 1 on W diag(c)^{1/2}."""
    W, c = WEIGHTS["square"], np.logspace(-2, 2, 30)
    solution, scaled = (InteriorPoint().run(p) for p in (MinTrace(W, c), MinTrace(W * np.sqrt(c))))
    assert solution.status is Status.OPTIMAL
    np.testing.assert_allclose(solution.objective, scaled.objective, rtol=2e-8)
    assert np.all((solution.dual**2).sum(1) <= c)


def test_volume_is_no_worse_than_trace_in_its_own_measure():
    W = WEIGHTS["square"]
    trace, volume = (InteriorPoint().run(kind(W)).t for kind in (MinTrace, MaxVolume))
    assert trace.sum() < volume.sum() and np.log(volume).sum() < np.log(trace).sum()


@pytest.mark.parametrize("kind", [MinTrace, MaxVolume])
def test_start_does_not_change_the_answer(kind):
    problem = kind(WEIGHTS["square"])
    cold = InteriorPoint().run(problem)
    for start in (cold.t, 1e-3 * cold.t, 1e6 * np.arange(1.0, 31)):
        warm = InteriorPoint().run(problem, start=start)
        assert warm.status is Status.OPTIMAL
        np.testing.assert_allclose(warm.objective, cold.objective, rtol=2e-8)


def test_refusals():
    problem = MinTrace(WEIGHTS["square"])
    with pytest.raises(InvalidScaling, match=r"entry 0 is 0\.0"):
        InteriorPoint().run(problem, start=np.zeros(30))
    with pytest.raises(InvalidScaling, match="shape"):
        InteriorPoint().run(problem, start=np.ones(3))
    with pytest.raises(SolverUnavailable, match="Nearest"):
        InteriorPoint().run(Nearest(np.eye(2), np.ones(2)))
    with pytest.raises(SolverUnavailable, match="device"):
        InteriorPoint(device="nonsense").run(problem)


def test_zero_weight():
    for problem in (MinTrace(np.zeros((3, 4))), MaxVolume(np.zeros((3, 4)))):
        solution = InteriorPoint().run(problem)
        assert solution.status is Status.OPTIMAL and not solution.t.any()
        assert solution.objective == solution.lower == 0


@pytest.mark.parametrize("stop_at", [1, 3])
@pytest.mark.parametrize("kind", [MinTrace, MaxVolume])
def test_interrupted_solve_returns_its_best_point(kind, stop_at):
    def interrupt(progress):
        seen.append(progress)
        if progress.iteration == stop_at:
            raise KeyboardInterrupt

    seen, W = [], WEIGHTS["square"]
    solution = InteriorPoint().run(kind(W), progress=interrupt)
    assert solution.status is Status.INTERRUPTED and solution.iterations == stop_at
    assert least_eigenvalue(W, solution.t) > 0
    np.testing.assert_allclose(
        [solution.objective, solution.lower], [seen[-1].objective, seen[-1].lower], rtol=1e-9
    )


def test_limits():
    problem = MinTrace(WEIGHTS["square"])
    for solver in (InteriorPoint(max_iterations=2), InteriorPoint(time_limit=0.0), InteriorPoint(gap=1e-30)):
        solution = solver.run(problem)
        assert solution.status is Status.STOPPED
        assert least_eigenvalue(problem.W, solution.t) >= -1e-14
    assert (
        solution.objective - solution.lower
    ) / solution.objective < 1e-10  # as far as double precision goes


# Convolutions: one t for all frequencies.

KERNEL = np.random.default_rng(3).standard_normal((3, 4, 3, 3))
CIRCULAR = Geometry(padding=1, padding_mode="circular", image_size=(6, 5))


@pytest.mark.parametrize("form", ["linear", "residual"])
def test_convolution_against_its_dense_matrix(form):
    """With one t a channel, averaged over the pixels, the dense problem has the same optimum."""
    K = KERNEL * np.array([1, 1e-2, 5])[:, None, None, None]
    problem = ConvolutionMinTrace.from_kernel(K, CIRCULAR, form)
    solution = InteriorPoint(gap=1e-8).run(problem)
    C = dense_matrix(K, CIRCULAR)
    C = C if form == "linear" else C.T
    dense = InteriorPoint(gap=1e-8).run(MinTrace(C))
    assert solution.status is Status.OPTIMAL
    assert least_eigenvalue(C, np.repeat(solution.t, 30)) >= -1e-13
    assert 0 <= solution.objective - solution.lower <= 1e-8 * SLACK * solution.objective
    np.testing.assert_allclose(30 * solution.objective, dense.objective, rtol=2e-8)


def test_convolution_dual_is_feasible():
    problem = ConvolutionMinTrace.from_kernel(KERNEL, CIRCULAR, cost=np.array([1.0, 2, 3, 4]))
    dual = InteriorPoint().run(problem).dual
    used = problem.multiplicity @ (abs(dual) ** 2).sum(-1)
    assert np.all(used <= problem.cost)
    np.testing.assert_allclose(used, problem.cost, rtol=1e-12)


def test_few_frequencies_decide():
    """The working set stays small, and the answer is that of all frequencies at once."""
    K = np.random.default_rng(4).standard_normal((8, 8, 3, 3))
    problem = ConvolutionMinTrace.from_kernel(
        K, Geometry(padding=1, padding_mode="circular", image_size=(16, 16))
    )
    solution = InteriorPoint(gap=1e-6).run(problem)
    assert solution.status is Status.OPTIMAL
    assert solution.dual.any((1, 2)).sum() < len(problem.symbols) / 2
    assert min(least_eigenvalue(S, solution.t) for S in problem.symbols) >= -1e-14


def test_convolution_from_a_start_and_interrupted():
    def interrupt(progress):
        if progress.iteration == 3:
            raise KeyboardInterrupt

    problem = ConvolutionMinTrace.from_kernel(KERNEL, CIRCULAR)
    cold = InteriorPoint(gap=1e-8).run(problem)
    warm = InteriorPoint(gap=1e-8).run(problem, start=1e-2 * cold.t)
    np.testing.assert_allclose(warm.objective, cold.objective, rtol=2e-8)
    stopped = InteriorPoint().run(problem, progress=interrupt)
    assert stopped.status is Status.INTERRUPTED and stopped.lower <= cold.objective <= stopped.objective
    assert min(least_eigenvalue(S, stopped.t) for S in problem.symbols) >= -1e-14


def test_one_frequency_is_a_layer():
    W = WEIGHTS["square"]
    one = InteriorPoint().run(ConvolutionMinTrace(W[None]))
    np.testing.assert_allclose(one.objective, InteriorPoint().run(MinTrace(W)).objective, rtol=2e-8)


def test_convolution_of_a_zero_kernel_and_of_a_zero_channel():
    assert not InteriorPoint().run(ConvolutionMinTrace(np.zeros((5, 2, 3)))).t.any()
    symbols = ConvolutionMinTrace.from_kernel(KERNEL, CIRCULAR).symbols * np.array([1, 0, 1, 1])
    t = InteriorPoint().run(ConvolutionMinTrace(symbols)).t
    assert np.array_equal(t > 0, [True, False, True, True])


# Trained layers.


def trained(folder: Path) -> dict[str, np.ndarray]:
    names = ("lipsdp_mnist_weights", "eclipse_mnist_lyr3n100test1")
    layers = {f"{name} {i}": W for name in names for i, W in enumerate(_cells(folder / f"{name}.mat"))}
    with np.load(folder / "seqlip_fork_mnist_500_200_50.npz") as archive:
        layers |= {f"seqlip {key}": archive[key] for key in archive.files if archive[key].ndim == 2}
    return layers


def _cells(path: Path) -> list[np.ndarray]:
    return [np.asarray(W, dtype=float) for W in loadmat(path)["weights"].ravel()]


def test_trained_layers(benchmark_files):
    for name, W in trained(benchmark_files).items():
        if W.shape[1] <= 400:  # the wider ones take seconds: see benchmarks/solvers.py
            solution = InteriorPoint().run(MinTrace(W))
            assert solution.status is Status.OPTIMAL, name
            assert least_eigenvalue(W, solution.t) >= -1e-14, name


def test_first_layer_of_lipsdp_mnist(benchmark_files):
    """Residual form, 50 hidden units: AOL is 1.62 times the optimum, the spectral scaling 1.28 times."""
    W = _cells(benchmark_files / "lipsdp_mnist_weights.mat")[0].T
    optimum = InteriorPoint().run(MinTrace(W)).objective
    assert round(aol(W).sum() / optimum, 2) == 1.62
    assert round(np.linalg.norm(W, 2) ** 2 * W.shape[1] / optimum, 2) == 1.28
