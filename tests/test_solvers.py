"""Laws of every solver on every problem it takes, then the known answers; what is special to CVXPY comes last."""

import runpy
import subprocess
import sys
from pathlib import Path

import cvxpy as cp
import numpy as np
import pytest

from sdplip.errors import InvalidProblem, SolverUnavailable
from sdplip.geometry import Geometry
from sdplip.scalings import aol
from sdplip.solvers import (
    CVXPY,
    ConvolutionMinTrace,
    InteriorPoint,
    MaxVolume,
    MinTrace,
    Mixing,
    MixingThenInteriorPoint,
    Nearest,
    ResidualLMI,
    Status,
    solve,
)
from sdplip.solvers.auto import suitable
from sdplip.solvers.formulations import (
    compiled,
    convolution_min_trace,
    max_volume,
    min_trace,
    nearest,
    residual_lmi,
)

REFERENCE = CVXPY("CLARABEL", eps=1e-9)
ALL = (MinTrace, MaxVolume, Nearest, ResidualLMI, ConvolutionMinTrace)
SOLVERS = {
    "scs": (CVXPY(), ALL),
    "clarabel": (REFERENCE, ALL),
    "interior_point": (InteriorPoint(), (MinTrace, MaxVolume, ConvolutionMinTrace)),
    "mixing": (Mixing(tolerance=1e-7), (MinTrace, MaxVolume, Nearest, ConvolutionMinTrace)),
    "auto": (MixingThenInteriorPoint(), (MinTrace, MaxVolume, Nearest, ConvolutionMinTrace)),
}
if "SDPA" in cp.installed_solvers():
    SOLVERS["sdpa"] = CVXPY("SDPA"), (MinTrace, Nearest, ResidualLMI, ConvolutionMinTrace)
# What eps = 1e-6 of the first-order solvers leaves in an objective, relative, at these sizes.
TOLERANCE = 2e-5
ROUNDING = 1e-9


def solvers_for(kind):
    return [pytest.param(solver, id=name) for name, (solver, kinds) in SOLVERS.items() if kind in kinds]


def excess(W, t):
    """Smallest c^2 with W^T W <= c^2 diag(t): what `certify` finds, without its rounding."""
    scale = np.where(t > 0, t, 1) ** -0.5
    return np.linalg.norm(W * scale, 2) ** 2


def gaussian(m, n, seed=0):
    return np.random.default_rng(seed).normal(size=(m, n))


def spread(W, exponents):
    return W * 10.0 ** np.resize(np.array(exponents, dtype=float), W.shape[1])


# Weights that have broken a solver somewhere.
zero_column, duplicate = gaussian(4, 5), gaussian(4, 5)
zero_column[:, 2] = 0
duplicate[:, 3] = duplicate[:, 1]
WEIGHTS = {
    "square": gaussian(6, 6),
    "wide": gaussian(3, 7),
    "tall": gaussian(9, 4),
    "one_column": gaussian(4, 1),
    "one_row": gaussian(1, 5),
    "scalar": np.array([[-0.3]]),
    "zero_column": zero_column,
    "duplicate_columns": duplicate,
    "orthogonal": np.linalg.qr(gaussian(5, 5))[0],
    "block_diagonal": np.kron(np.eye(2), gaussian(3, 3)),
    "low_rank": gaussian(6, 2) @ gaussian(2, 6, 1),
    "tiny": 1e-8 * gaussian(4, 5),
    "huge": 1e8 * gaussian(4, 5),
    "mixed": spread(gaussian(4, 5), [-4, 0, 4]),
    "zero": np.zeros((2, 3)),
}
EVERY_WEIGHT = [pytest.param(W, id=name) for name, W in WEIGHTS.items()]


# Laws of min trace and max volume.


@pytest.mark.parametrize("W", EVERY_WEIGHT)
@pytest.mark.parametrize(
    ("kind", "solver"),
    [p for kind in (MinTrace, MaxVolume) for p in [(kind, s) for s, k in SOLVERS.values() if kind in k]],
)
def test_repaired_point_and_dual_point_enclose_the_optimum(kind, solver, W):
    problem = kind(W)
    solution = solver.run(problem)
    # Columns of lengths 1e-4 ... 1e4 put costs of 1 ... 1e16 side by side; double precision carries three digits.
    tolerance = 1e-3 if W is WEIGHTS["mixed"] and kind is MinTrace else TOLERANCE
    assert solution.status is Status.OPTIMAL or tolerance == 1e-3
    assert np.all(solution.t >= 0) and not solution.t[~W.any(0)].any()
    assert np.all(solution.t >= (W**2).sum(0) * (1 - ROUNDING))
    c2 = excess(W, solution.t)
    assert c2 <= 1 + tolerance
    lower, upper = problem.lower(solution.dual), problem.objective(solution.t * max(c2, 1))
    assert solution.lower == lower and solution.objective == problem.objective(solution.t)
    size = abs(upper) if kind is MinTrace else W.shape[1]
    assert upper - tolerance * size <= lower <= upper + ROUNDING * size


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_dual_of_min_trace_meets_its_constraint(solver):
    problem = MinTrace(gaussian(4, 6), np.linspace(0.5, 2, 6))
    Y = solver.run(problem).dual
    assert (Y * Y).sum(-1) == pytest.approx(problem.cost, rel=ROUNDING)


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_min_trace_scales_with_the_weight(solver):
    W = gaussian(4, 6)
    t = solver.run(MinTrace(W)).t
    for c in (1e-6, -3.0, 1e6):
        assert solver.run(MinTrace(c * W)).t == pytest.approx(c * c * t, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_min_trace_follows_permutations_and_rotations(solver):
    W, order, rotation = gaussian(4, 6), np.array([3, 1, 5, 0, 2, 4]), np.linalg.qr(gaussian(4, 4, 1))[0]
    t = solver.run(MinTrace(W)).t
    # Twice the tolerance of an objective: this compares two points.
    assert solver.run(MinTrace(W[:, order])).t == pytest.approx(t[order], rel=20 * TOLERANCE)
    assert solver.run(MinTrace(rotation @ W)).t == pytest.approx(t, rel=20 * TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(MaxVolume))
def test_max_volume_is_equivariant_to_the_scale_of_each_column(solver):
    W, d = gaussian(4, 6), 10.0 ** np.array([-8, 0, 8, 2, -3, 1])
    assert solver.run(MaxVolume(W * d)).t == pytest.approx(
        d * d * solver.run(MaxVolume(W)).t, rel=20 * TOLERANCE
    )


@pytest.mark.parametrize("solver", solvers_for(MaxVolume))
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
def test_max_volume_satisfies_its_optimality_condition(solver, shape):
    problem = MaxVolume(gaussian(*shape))
    solution = solver.run(problem)
    Y = solution.dual
    Y = Y @ Y.T if Y.shape[1] < len(Y) else Y  # a factor
    assert np.linalg.eigvalsh(Y)[0] >= -ROUNDING * np.trace(Y)
    assert (problem.W * (Y @ problem.W)).sum(0) == pytest.approx(solution.t, rel=100 * TOLERANCE)


# Agreement of solvers and of formulations.


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_min_trace_agrees_with_the_inverse_formulation(solver):
    """min sum c / s subject to W diag(s) W^T <= I: the same problem in s = 1/t, on the side of the rows."""
    W, cost = gaussian(3, 6), np.linspace(0.5, 2, 6)
    s = cp.Variable(6)
    objective = cp.Minimize(cost @ cp.inv_pos(s))
    other = cp.Problem(objective, [np.eye(3) - cp.multiply(W, cp.reshape(s, (1, 6), order="F")) @ W.T >> 0])
    other.solve(solver="CLARABEL")
    assert solver.run(MinTrace(W, cost)).objective == pytest.approx(other.value, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_cost_is_a_change_of_scale(solver):
    W, cost = gaussian(4, 5), np.linspace(0.1, 3, 5)
    weighted = solver.run(MinTrace(W, cost))
    plain = solver.run(MinTrace(W * np.sqrt(cost)))
    assert weighted.objective == pytest.approx(plain.objective, rel=TOLERANCE)


def random_problem(kind, seed):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(4, 6))
    if kind is Nearest:
        return Nearest(W, aol(W) * rng.uniform(0.1, 0.6, 6), rng.uniform(0.5, 2, 6))
    if kind is ResidualLMI:
        return ResidualLMI(rng.normal(size=(3, 4)), rng.normal(size=(3, 6)), W, -0.2, 1.3)
    if kind is ConvolutionMinTrace:
        return ConvolutionMinTrace.from_kernel(rng.normal(size=(4, 3, 3)), Geometry(image_size=(5,)))
    return kind(W)


@pytest.mark.parametrize(("kind", "solver"), [(k, s) for s, kinds in SOLVERS.values() for k in kinds])
@pytest.mark.parametrize("seed", range(2))
def test_solvers_agree(kind, solver, seed):
    problem = random_problem(kind, seed)
    solution, reference = solver.run(problem), REFERENCE.run(problem)
    assert solution.status is Status.OPTIMAL
    assert solution.objective == pytest.approx(reference.objective, rel=TOLERANCE)
    assert solution.lower == pytest.approx(reference.objective, rel=TOLERANCE)


# Known answers.


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_min_trace_known_answers(solver):
    def t(W):
        return pytest.approx(solver.run(MinTrace(W)).t, rel=10 * TOLERANCE)

    w = np.array([3.0, -1, 2, 0.5])
    assert abs(w) * abs(w).sum() == t(w[None, :])  # rank one: AOL is optimal
    assert np.ones(5) == t(WEIGHTS["orthogonal"])
    assert (gaussian(4, 1) ** 2).sum(0) == t(gaussian(4, 1))
    a, b, c = 2.0, -0.7, 0.5
    assert np.array([a + abs(b), c + abs(b)]) == t(np.linalg.cholesky(np.array([[a, b], [b, c]])).T)


@pytest.mark.parametrize("solver", solvers_for(MinTrace))
def test_blocks_are_solved_apart(solver):
    A, B = gaussian(3, 3), gaussian(2, 4, 1)
    W = np.block([[A, np.zeros((3, 4))], [np.zeros((2, 3)), B]])
    apart = [solver.run(MinTrace(block)).t for block in (A, B)]
    assert solver.run(MinTrace(W)).t == pytest.approx(np.concatenate(apart), rel=20 * TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(MaxVolume))
def test_max_volume_known_answers(solver):
    w = np.array([3.0, -1, 2, 0.5])
    assert solver.run(MaxVolume(w[None, :])).t == pytest.approx(
        4 * w * w, rel=TOLERANCE
    )  # s_i w_i^2 = 1/4 each
    assert solver.run(MaxVolume(WEIGHTS["orthogonal"])).t == pytest.approx(1, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(Nearest))
def test_feasible_target_is_returned_unchanged(solver):
    W = gaussian(4, 6)
    for target in (aol(W), 1e6 * aol(W)):
        solution = solver.run(Nearest(W, target))
        assert np.array_equal(solution.t, target)
        assert solution.objective == solution.lower == 0


@pytest.mark.parametrize("solver", solvers_for(Nearest))
@pytest.mark.parametrize("target", [(0.5, 0.2), (0.0, 3.0), (-1.0, -5.0), (2.1, 0.4)])
def test_nearest_point_of_a_hyperbola(solver, target):
    """Two columns: the feasible set is (t_1 - a) (t_2 - c) >= b^2, and its border is searched."""
    a, b, c, weight = 2.0, -0.7, 0.5, np.array([1.0, 0.3])
    W = np.linalg.cholesky(np.array([[a, b], [b, c]])).T
    u = np.exp(np.linspace(-12, 12, 400_001))
    border = np.stack([a + abs(b) * u, c + abs(b) / u])
    best = (weight @ (border - np.array(target)[:, None]) ** 2).min()
    assert solver.run(Nearest(W, np.array(target), weight)).objective == pytest.approx(best, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(Nearest))
@pytest.mark.parametrize("W", EVERY_WEIGHT)
def test_nearest_is_feasible_after_a_uniform_repair(solver, W):
    problem = Nearest(W, aol(W) / 3)
    solution = solver.run(problem)
    assert excess(W, solution.t) <= 1 + 10 * TOLERANCE
    assert problem.lower(solution.dual) <= problem.objective(solution.t * max(1, excess(W, solution.t))) * (
        1 + ROUNDING
    )


@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
@pytest.mark.parametrize(
    "W", [pytest.param(W, id=name) for name, W in WEIGHTS.items() if name not in ("mixed", "zero")]
)
def test_sll_layer_has_gamma_one(solver, W):
    inverse = np.divide(1, aol(W), out=np.zeros(W.shape[1]), where=aol(W) > 0)
    problem = ResidualLMI(np.eye(W.shape[0]), -2 * W * inverse, W)
    solution = solver.run(problem)
    assert solution.gamma == pytest.approx(1, rel=TOLERANCE)
    assert solution.lower <= 1 + ROUNDING
    matrix = problem.matrix(solution.gamma, solution.multipliers)
    # Relative to the terms of the diagonal, gamma and 2 lambda, and not to their differences.
    scale = np.sqrt(np.concatenate([np.full(len(W), solution.gamma), 2 * solution.multipliers]))
    scale = np.where(scale > 0, scale, 1)
    assert np.linalg.eigvalsh(matrix / scale / scale[:, None])[0] >= -ROUNDING


@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
@pytest.mark.parametrize(("h", "L"), [(0.0, 1.0), (0.5, 2.0), (-0.7, 1.0)])
def test_closed_form_layer(solver, h, L):
    W = gaussian(3, 5)
    gamma = solver.run(ResidualLMI(h * np.eye(3), -(h + L) * W / aol(W), W)).gamma
    assert gamma <= L**2 * (1 + TOLERANCE)
    w = np.array([[0.7]])
    assert solver.run(ResidualLMI(h * np.eye(1), -(h + L) / w, w)).gamma == pytest.approx(L**2, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (-0.3, 1.2), (0.1, 0.25), (-2.0, -1.0)])
def test_one_unit_is_exact(solver, alpha, beta):
    """With one unit the S-procedure loses nothing: gamma is the larger square at the two extreme slopes."""
    H, G, W = gaussian(3, 4), gaussian(3, 1, 1), gaussian(4, 1, 2)
    exact = max(np.linalg.norm(H + slope * G @ W.T, 2) ** 2 for slope in np.linspace(alpha, beta, 101))
    assert solver.run(ResidualLMI(H, G, W, alpha, beta)).gamma == pytest.approx(exact, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (-0.3, 1.2), (0.1, 0.25)])
def test_gamma_is_above_every_jacobian_and_below_the_product(solver, alpha, beta):
    rng = np.random.default_rng(0)
    H, G, W = np.zeros((4, 3)), rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    gamma = solver.run(ResidualLMI(H, G, W, alpha, beta)).gamma
    slopes = rng.choice([alpha, beta], (500, 5))
    assert np.linalg.norm((G * slopes[:, None, :]) @ W.T, 2, axis=(-2, -1)).max() ** 2 <= gamma
    slope = max(abs(alpha), abs(beta))
    assert gamma <= (slope * np.linalg.norm(G, 2) * np.linalg.norm(W, 2)) ** 2 * (1 + TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
def test_gamma_of_an_affine_map_is_its_norm(solver):
    H, W = gaussian(3, 4), gaussian(4, 5)
    assert solver.run(ResidualLMI(H, np.zeros((3, 5)), W)).gamma == pytest.approx(np.linalg.norm(H, 2) ** 2)
    assert solver.run(ResidualLMI(0 * H, np.zeros((3, 5)), 0 * W)).gamma == 0


@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
def test_asking_for_a_gamma(solver):
    H, G, W = gaussian(3, 4), gaussian(3, 5, 1), gaussian(4, 5, 2)
    least = solver.run(ResidualLMI(H, G, W)).gamma
    generous = solver.run(ResidualLMI(H, G, W, gamma=1.01 * least))
    assert (generous.status, generous.gamma) == (Status.OPTIMAL, 1.01 * least)
    stingy = solver.run(ResidualLMI(H, G, W, gamma=0.99 * least))
    assert stingy.status is Status.INFEASIBLE and stingy.lower > 0.99 * least


@pytest.mark.parametrize("c", [1e-8, 1e8])
@pytest.mark.parametrize("solver", solvers_for(ResidualLMI))
def test_gamma_scales_with_the_layer(solver, c):
    H, G, W = gaussian(3, 4), gaussian(3, 5, 1), gaussian(4, 5, 2)
    gamma = solver.run(ResidualLMI(H, G, W)).gamma
    assert solver.run(ResidualLMI(c * H, c * G, W)).gamma == pytest.approx(c * c * gamma, rel=TOLERANCE)
    assert solver.run(ResidualLMI(H, G / c, c * W)).gamma == pytest.approx(gamma, rel=TOLERANCE)


@pytest.mark.parametrize("solver", solvers_for(ConvolutionMinTrace))
@pytest.mark.parametrize("form", ["linear", "residual"])
@pytest.mark.parametrize("c", [1.0, 1e-8, 1e8])
def test_convolution_encloses_its_optimum(solver, form, c):
    K = c * np.random.default_rng(0).normal(size=(4, 3, 3))
    K[2] = 0
    problem = ConvolutionMinTrace.from_kernel(K, Geometry(image_size=(5,), padding_mode="circular"), form)
    solution = solver.run(problem)
    scale = np.where(solution.t > 0, solution.t, 1) ** -0.5
    c2 = np.linalg.norm(problem.symbols * scale, 2, axis=(-2, -1)).max() ** 2
    assert c2 <= 1 + TOLERANCE
    upper = problem.objective(solution.t) * max(1, c2)
    assert upper * (1 - TOLERANCE) <= solution.lower <= upper * (1 + ROUNDING)


@pytest.mark.parametrize("solver", solvers_for(ConvolutionMinTrace))
def test_convolution_of_one_tap_is_the_matrix_problem(solver):
    W = gaussian(4, 5)
    one_tap = ConvolutionMinTrace.from_kernel(W[:, :, None], Geometry(image_size=(3,)))
    assert solver.run(one_tap).objective == pytest.approx(REFERENCE.run(MinTrace(W)).objective, rel=TOLERANCE)


# What is special to CVXPY, and the choice of a solver.


def test_formulations_are_compiled_once():
    W = gaussian(4, 6)
    CVXPY().run(MinTrace(W))
    formulation = compiled(min_trace, (6,), "SCS")
    assert formulation.problem.is_dpp()
    before = compiled.cache_info()
    first, again = CVXPY().run(MinTrace(2 * W)), CVXPY().run(MinTrace(2 * W))
    assert compiled.cache_info().misses == before.misses
    assert compiled(min_trace, (6,), "SCS") is formulation
    assert np.array_equal(first.t, again.t)  # no memory of the previous solve


@pytest.mark.parametrize(
    ("write", "sizes"),
    [
        (min_trace, (3,)),
        (max_volume, (2, 3)),
        (nearest, (3,)),
        (residual_lmi, (2, 3)),
        (convolution_min_trace, (2, 3, 2)),
    ],
)
def test_every_formulation_is_dpp(write, sizes):
    assert write(*sizes).problem.is_dpp()


def test_unknown_solver_is_refused():
    with pytest.raises(SolverUnavailable, match="SCS"):
        CVXPY("GUROBI_SDP").run(MinTrace(np.eye(2)))


def test_solver_without_the_cone_is_refused():
    with pytest.raises(SolverUnavailable, match="min_trace"):
        CVXPY("OSQP").run(MinTrace(np.eye(2)))


def test_clarabel_is_refused_above_its_size():
    with pytest.raises(SolverUnavailable, match="force=True"):
        CVXPY("CLARABEL").run(MinTrace(np.eye(81)))


def test_unknown_problem_is_refused():
    with pytest.raises(InvalidProblem, match="ndarray"):
        CVXPY().run(np.eye(2))  # pyright: ignore


def test_stopping_early_is_reported():
    problem = MinTrace(gaussian(8, 8))
    assert CVXPY(max_iterations=3).run(problem).status is Status.INACCURATE
    failed = CVXPY("CLARABEL", max_iterations=1).run(problem)
    assert failed.status is Status.FAILED and failed.dual is None and failed.lower is None
    assert excess(problem.W, failed.t) <= 1  # the fallback is feasible


def test_progress_is_reported():
    lines = []
    solution = solve(MinTrace(gaussian(4, 4)), CVXPY(), progress=lines.append)
    assert lines[-1].objective == solution.objective and lines[-1].gap == pytest.approx(0, abs=TOLERANCE)


def test_choice_of_solver():
    W = gaussian(2, 3)
    assert suitable(ResidualLMI(np.eye(2), W, W)) == CVXPY()
    for kind in (MinTrace, MaxVolume, Nearest, ConvolutionMinTrace):
        assert suitable(random_problem(kind, 0)) == MixingThenInteriorPoint()
    assert solve(Nearest(W, np.zeros(3))).status is Status.OPTIMAL


def test_importing_solvers_loads_neither_torch_nor_cvxpy():
    code = (
        "import sys, sdplip.solvers; print([m for m in ('torch', 'cvxpy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_name_is_an_attribute_error():
    import sdplip.solvers

    with pytest.raises(AttributeError, match="Simplex"):
        _ = sdplip.solvers.Simplex  # pyright: ignore


def test_example_reproduces_theory():
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "optimal_scalings.py"))
    for name, problem in example["PROBLEMS"].items():
        computed, theory = problem()
        assert computed == pytest.approx(theory, rel=TOLERANCE), name


def test_auto_turns_to_the_interior_point_where_mixing_stops(monkeypatch):
    """With no room for a single step of Mixing, the interior-point method finishes the job from its point."""
    from sdplip.solvers import mixing

    W, run = gaussian(6, 8), mixing.Mixing.run
    for problem, finisher in (
        (MinTrace(W), "InteriorPoint"),
        (MaxVolume(W), "InteriorPoint"),
        (Nearest(W, np.full(8, 3.0)), "SCS"),
    ):
        stopped = run(mixing.Mixing(max_sweeps=1), problem)
        assert stopped.status is Status.STOPPED
        with monkeypatch.context() as patched:
            patched.setattr(mixing.Mixing, "run", lambda *_, stopped=stopped, **__: stopped)
            solution = solve(problem)
        assert solution.status is Status.OPTIMAL and finisher in solution.solver


def test_auto_leaves_an_interrupted_solve_alone():
    def interrupt(_):
        raise KeyboardInterrupt

    solution = solve(MinTrace(gaussian(30, 40)), progress=interrupt)
    assert solution.status is Status.INTERRUPTED and solution.solver == "Mixing"
