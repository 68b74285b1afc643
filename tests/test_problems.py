"""Laws of the optimisation problems as data: weak duality, the residual LMI, and the frequencies of a convolution."""

import numpy as np
import pytest

from sdplip.convolution import dense_matrix
from sdplip.errors import InvalidProblem, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.scalings import aol
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace, Nearest, ResidualLMI

ROUNDING = 1e-10  # of double precision sums and eigenvalues at these sizes, relative


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def convolution_of(rng, padding_mode="circular", form="linear"):
    K = rng.normal(size=(4, 3, 3))
    return ConvolutionMinTrace.from_kernel(K, Geometry(image_size=(6,), padding_mode=padding_mode), form)


# Weak duality: every dual point bounds every feasible point.


@pytest.mark.parametrize("seed", range(5))
def test_lower_is_below_objective(seed):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(4, 6))
    W[:, 2] = 0
    t, Y = aol(W), rng.normal(size=(6, 3))
    for problem in (
        MinTrace(W),
        MinTrace(W, rng.uniform(0.1, 2, 6)),
        Nearest(W, t / 3),
        Nearest(W, -t, t + 1),
    ):
        assert problem.lower(Y) <= problem.objective(t)
        assert problem.lower(0 * Y) == 0
    factor = rng.normal(size=(4, 4))
    volume = MaxVolume(W)
    assert volume.lower(factor @ factor.T) <= volume.objective(t)
    assert volume.lower(np.zeros((4, 4))) == -np.inf


@pytest.mark.parametrize("form", ["linear", "residual"])
def test_lower_of_convolution_is_below_objective(rng, form):
    problem = convolution_of(rng, form=form)
    S = problem.symbols
    t = abs(S.conj().swapaxes(-1, -2) @ S).sum(-1).max(0)  # Gershgorin at every frequency
    Y = rng.normal(size=(len(S), len(t), 2)) + 1j * rng.normal(size=(len(S), len(t), 2))
    assert problem.lower(Y) <= problem.objective(t)


@pytest.mark.parametrize("seed", range(5))
def test_lower_of_residual_lmi_is_below_objective(seed):
    rng = np.random.default_rng(seed)
    problem = ResidualLMI(
        rng.normal(size=(4, 3)), rng.normal(size=(4, 5)), rng.normal(size=(3, 5)), -0.5, 2.0
    )
    multipliers = aol(problem.G) * rng.uniform(1, 3, 5)
    assert 0 < problem.lower(rng.normal(size=(8, 2))) <= problem.objective(multipliers) < np.inf


# The residual LMI.


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (-0.3, 1.2), (0.1, 0.25), (-2.0, -1.0)])
def test_objective_is_the_least_gamma_of_the_matrix(rng, alpha, beta):
    problem = ResidualLMI(
        rng.normal(size=(4, 3)), rng.normal(size=(4, 5)), rng.normal(size=(3, 5)), alpha, beta
    )
    multipliers = aol(problem.G)
    gamma = problem.objective(multipliers)
    assert abs(np.linalg.eigvalsh(problem.matrix(gamma, multipliers))[0]) <= ROUNDING * gamma
    assert np.linalg.eigvalsh(problem.matrix(0.999 * gamma, multipliers))[0] < 0


@pytest.mark.parametrize(("alpha", "beta"), [(-0.3, 1.2), (0.1, 0.25), (-2.0, -1.0)])
def test_shifted_slopes_state_the_same_problem(rng, alpha, beta):
    problem = ResidualLMI(
        rng.normal(size=(4, 3)), rng.normal(size=(4, 5)), rng.normal(size=(3, 5)), alpha, beta
    )
    H, G = problem.shifted()
    multipliers = aol(problem.G)
    same = ResidualLMI(H, G, problem.W).objective((beta - alpha) ** 2 * multipliers)
    assert same == pytest.approx(problem.objective(multipliers), rel=ROUNDING)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 1.0), (-0.3, 1.2), (0.1, 0.25), (-2.0, -1.0)])
def test_no_jacobian_exceeds_gamma(rng, alpha, beta):
    H, G, W = rng.normal(size=(4, 3)), rng.normal(size=(4, 5)), rng.normal(size=(3, 5))
    problem = ResidualLMI(H, G, W, alpha, beta)
    gamma = problem.objective(aol(G))
    slopes = np.concatenate([rng.uniform(alpha, beta, (500, 5)), rng.choice([alpha, beta], (500, 5))])
    norms = np.linalg.norm(H + (G * slopes[:, None, :]) @ W.T, 2, axis=(-2, -1))
    assert norms.max() ** 2 <= gamma * (1 + ROUNDING)


def test_sandwich_layer_solves_the_lmi(rng):
    """Wang and Manchester 2023: sqrt2 A^T Psi sigma(sqrt2 Psi^-1 B x) with A A^T + B B^T = I, Lambda = Psi^2."""
    A, B = np.split(np.linalg.qr(rng.normal(size=(7, 7)))[0][:4], [4], axis=1)
    psi = rng.uniform(0.5, 2, 4)
    G, W = np.sqrt(2) * A.T * psi, np.sqrt(2) * B.T / psi
    problem = ResidualLMI(np.zeros((4, 3)), G, W)
    # 2 Lambda - G^T G = 2 Psi B B^T Psi is singular here (rank 3), so the multipliers are raised by 1e-9.
    assert np.linalg.eigvalsh(problem.matrix(1.0, psi**2))[0] >= -ROUNDING
    assert problem.objective(psi**2 + 1e-9) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize(("h", "L"), [(1.0, 1.0), (0.0, 1.0), (0.5, 2.0), (-0.7, 1.0)])
def test_closed_form_layer_solves_the_lmi(rng, h, L):
    """x -> h x - (h + L) W T^-1 sigma(W^T x) is L-Lipschitz, with Lambda = (h (h + L) + L^2 - h^2) T^-1."""
    W = rng.normal(size=(3, 5))
    t = 1.01 * aol(W)
    problem = ResidualLMI(h * np.eye(3), -(h + L) * W / t, W)
    assert problem.objective((h * (h + L) + L**2 - h**2) / t) <= L**2 * (1 + ROUNDING)


def test_constant_units_are_dropped(rng):
    W = rng.normal(size=(3, 5))
    W[:, 1] = 0
    problem = ResidualLMI(np.eye(3), rng.normal(size=(3, 5)), W)
    assert not problem.G[:, 1].any()
    multipliers = aol(problem.G)
    assert multipliers[1] == 0 and np.isfinite(problem.objective(multipliers))


def test_no_gamma_without_enough_multipliers(rng):
    problem = ResidualLMI(np.eye(3), rng.normal(size=(3, 5)), rng.normal(size=(3, 5)))
    assert problem.objective(np.zeros(5)) == np.inf
    assert problem.objective(np.full(5, 1e-3)) == np.inf


# Convolutions: the frequencies are those of the dense matrix, or of one that contains it.

CIRCULAR = [
    ((4, 3, 3), Geometry(image_size=(6,))),
    ((4, 3, 3, 3), Geometry(image_size=(4, 6))),
    ((4, 2, 3, 3), Geometry(image_size=(4, 4), groups=2)),
    ((4, 3, 3), Geometry(image_size=(6,), dilation=2)),
    ((2, 2, 5), Geometry(image_size=(3,))),
]
STRIDED = [
    ((4, 3, 3), Geometry(image_size=(6,), stride=2)),
    ((4, 3, 2, 2), Geometry(image_size=(4, 6), stride=2)),
    ((4, 2, 3, 3), Geometry(image_size=(4, 4), groups=2, stride=(2, 1))),
]


def circular(geometry):
    return Geometry(
        geometry.stride, "circular", None, geometry.dilation, geometry.groups, geometry.image_size
    )


def largest(problem, t):
    """Largest eigenvalue of T^-1/2 K* K T^-1/2 over the frequencies."""
    return np.linalg.norm(problem.symbols / np.sqrt(t), 2, axis=(-2, -1)).max() ** 2


def dense_largest(K, geometry, form, t):
    """The same of the dense matrix, with t repeated over the pixels (channels come first)."""
    C = dense_matrix(K, geometry)
    C = C if form == "linear" else C.T
    return np.linalg.norm(C / np.sqrt(np.repeat(t, C.shape[1] // len(t))), 2) ** 2


@pytest.mark.parametrize(
    ("shape", "geometry", "form"),
    [(*case, form) for case in CIRCULAR for form in ("linear", "residual")]
    + [(*case, "residual") for case in STRIDED],
)
def test_frequencies_are_those_of_the_dense_matrix(rng, shape, geometry, form):
    K, geometry = rng.normal(size=shape), circular(geometry)
    problem = ConvolutionMinTrace.from_kernel(K, geometry, form)
    t = rng.uniform(0.5, 2, problem.symbols.shape[-1])
    assert largest(problem, t) == pytest.approx(dense_largest(K, geometry, form, t), rel=ROUNDING)
    # Parseval: the multiplicities count every frequency once, one for each pixel of the output.
    square = problem.multiplicity @ (abs(problem.symbols) ** 2).sum((-2, -1))
    assert square == pytest.approx((dense_matrix(K, geometry) ** 2).sum(), rel=ROUNDING)


@pytest.mark.parametrize("padding", [None, 0, 1, 3])
@pytest.mark.parametrize(
    ("shape", "geometry", "form"),
    [(*case, form) for case in CIRCULAR[:3] for form in ("linear", "residual")]
    + [(*case, "residual") for case in STRIDED],
)
def test_frequencies_dominate_zero_padding(rng, shape, geometry, form, padding):
    K = rng.normal(size=shape)
    geometry = Geometry(
        geometry.stride, "zeros", padding, geometry.dilation, geometry.groups, geometry.image_size
    )
    problem = ConvolutionMinTrace.from_kernel(K, geometry, form)
    t = rng.uniform(0.5, 2, problem.symbols.shape[-1])
    assert largest(problem, t) >= dense_largest(K, geometry, form, t) * (1 - ROUNDING)


def test_what_no_frequency_covers_is_refused(rng):
    K = rng.normal(size=(4, 3, 3))
    with pytest.raises(UnsupportedConvolution, match="image_size"):
        ConvolutionMinTrace.from_kernel(K, Geometry())
    with pytest.raises(UnsupportedConvolution, match="stride=1"):
        ConvolutionMinTrace.from_kernel(K, Geometry(stride=2, image_size=(6,)))
    with pytest.raises(UnsupportedConvolution, match="reflect"):
        ConvolutionMinTrace.from_kernel(K, Geometry(padding_mode="reflect", image_size=(6,)))
    with pytest.raises(InvalidProblem, match="form"):
        ConvolutionMinTrace.from_kernel(K, Geometry(image_size=(6,)), "both")  # pyright: ignore


# Validation.


@pytest.mark.parametrize(
    "W", [np.ones(3), np.ones((0, 3)), np.ones((2, 0)), [[np.nan]], [[np.inf]], [[1j]], [["a"]], None]
)
def test_bad_weights_are_refused(W):
    with pytest.raises(InvalidWeight, match="`W`"):
        MinTrace(W)


def test_bad_fields_are_refused(rng):
    W = rng.normal(size=(2, 3))
    for field, problem in {
        "cost": lambda: MinTrace(W, np.array([1, 0, 1])),
        "target": lambda: Nearest(W, np.ones(2)),
        "weight": lambda: Nearest(W, np.ones(3), -np.ones(3)),
        "`H`": lambda: ResidualLMI(np.eye(3), np.ones((3, 3)), W),
        "`G`": lambda: ResidualLMI(np.eye(2), np.ones((3, 3)), W),
        "alpha": lambda: ResidualLMI(np.eye(2), np.ones((2, 3)), W, 1.0, 1.0),
        "gamma": lambda: ResidualLMI(np.eye(2), np.ones((2, 3)), W, gamma=-1.0),
        "multiplicity": lambda: ConvolutionMinTrace(np.ones((2, 3, 3)), np.ones(3)),
    }.items():
        with pytest.raises(InvalidProblem, match=field):
            problem()


def test_problems_are_frozen_copies(rng):
    W = rng.normal(size=(2, 3))
    problem = MinTrace(W)
    W[0, 0] = 99
    assert problem.W[0, 0] != 99
    with pytest.raises(ValueError, match="read-only"):
        problem.W[0, 0] = 1
