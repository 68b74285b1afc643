"""Multipliers of channels: the barrier's derivatives, its optimum, and the state-space form beside it."""

from dataclasses import replace

import numpy as np
import pytest
from sdplip.bounds.channels import best_channels, drawn
from sdplip.bounds.frequency import problem_of
from sdplip.bounds.spectrum import Spectrum, path
from sdplip.bounds.state_space import roesser, state_space
from sdplip.certificates.trunk import Trunk, certify_trunk
from sdplip.networks import Activation, Affine, Convolution, Network, from_kernels
from sdplip.networks.chain import runs_of
from sdplip.networks.trunk import split_trunk

from sdplip.bounds import bound
from sdplip.errors import InvalidProblem
from sdplip.geometry import Geometry
from sdplip.weights import Weight, read

SOLVED = 1e-5
"""Relative accuracy of the multipliers on the bound: `best_channels` stops at 1e-6 of its square."""


def trunk(seed: int, behind: str, torus: tuple[int, int] = (6, 5), depth: int = 2) -> Trunk:
    rng = np.random.default_rng(seed)
    kernels = tuple(rng.normal(size=(3, n, 2, 3)) for n in (2, 3, 3, 3)[:depth])
    slopes = (1.0, 0.7, 1.0, 1.0)[:depth]
    if behind == "head":
        return Trunk(kernels, ((1, 1),) * depth, slopes, torus, head=rng.normal(size=(2, 3, 4, 4)))
    return Trunk(kernels, ((1, 1),) * depth, slopes, torus, last=(rng.normal(size=(2, 3, 2, 2)), (1, 1)))


def proven(of: Trunk, multipliers: list[np.ndarray]) -> float:
    R = certify_trunk(of, multipliers)
    return np.inf if R is None else float(np.linalg.norm(R, 2))


@pytest.mark.parametrize("behind", ["last", "head"])
def test_derivatives_of_the_barrier(behind):
    given, start = problem_of(trunk(0, behind))
    spectrum = given.spectrum(np.arange(len(given.share)))
    lam = np.concatenate(start) * np.linspace(0.8, 1.0, 6)
    weight = 5.0 / spectrum.centred(lam, 1e300)[0]
    rho, _ = spectrum.centred(lam, weight)
    gradient, hessian = spectrum.derivatives(rho, lam)
    assert -gradient[0] == pytest.approx(weight, rel=1e-9)  # rho is the best one
    reduced = hessian[1:, 1:] - np.outer(hessian[0, 1:], hessian[0, 1:]) / hessian[0, 0]
    for i in range(6):
        step = np.eye(6)[i] * lam[i] * 1e-5
        sides = [spectrum.centred(lam + s * step, weight) for s in (1, -1)]
        assert (sides[0][1] - sides[1][1]) / (2 * step[i]) == pytest.approx(gradient[1 + i], rel=1e-5)
        slopes = [
            spectrum.derivatives(r, lam + s * step)[0][1:] for s, (r, _) in zip((1, -1), sides, strict=True)
        ]
        found = (slopes[0] - slopes[1]) / (2 * step[i])
        assert np.allclose(found, reduced[i], rtol=1e-4, atol=1e-5 * abs(reduced).max())


@pytest.mark.parametrize("behind", ["last", "head"])
@pytest.mark.parametrize("depth", [1, 3])
def test_no_other_multipliers_prove_less(behind, depth):
    of = trunk(1, behind, depth=depth)
    given, start = problem_of(of)
    best = best_channels(given, start)
    assert best is not None
    value = proven(of, best)
    assert value <= proven(of, start)
    rng = np.random.default_rng(2)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(5):
            other = [lam * np.exp(size * rng.normal(size=lam.shape)) for lam in best]
            assert proven(of, other) >= value * (1 - SOLVED)


def test_active_frequencies_are_all_that_count():
    of = trunk(3, "last", (24, 20))
    given, start = problem_of(of)
    spectrum = given.spectrum(np.arange(len(given.share)))
    rho, _, lower = path(spectrum, np.concatenate(start), 1e-6)
    assert 0 < lower <= rho <= lower * (1 + 2e-6)
    best = best_channels(given, start)
    assert best is not None
    assert proven(of, best) == pytest.approx(rho**0.5, rel=SOLVED)


def test_frequency_is_below_its_closed_form_and_above_every_jacobian():
    rng = np.random.default_rng(4)
    shapes = [(3, 1, 3, 3), (3, 3, 3, 3), (2, 3, 3, 3)]
    network = from_kernels(
        [Weight(f"K{k}", rng.normal(size=s), Geometry()) for k, s in enumerate(shapes)], (6, 6)
    )
    found = bound(network, "frequency")
    assert found.method == "frequency-optimal"
    assert found.others["frequency-optimal"] == found.value
    assert bound(network, "product").lower <= found.value
    exact = bound(network, "lipsdp-neuron").value  # one multiplier a neuron
    assert exact <= found.value * (1 + 1e-7)


def test_infeasible_starts_and_large_heads_are_left_to_others(monkeypatch):
    given, start = problem_of(trunk(5, "head"))
    assert best_channels(given, [1e3 * lam for lam in start]) is None
    monkeypatch.setattr("sdplip.bounds.channels.JOINT_WORK", 10)
    assert best_channels(given, start) is None


def test_dead_channels_have_multipliers_too():
    of = trunk(6, "last")
    of.kernels[1][1] = 0.0
    given, start = problem_of(of)
    best = best_channels(given, start)
    assert best is not None
    assert proven(of, best) <= proven(of, start)


@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (2, 3, 1, 3), (3, 2, 2, 1)])
def test_the_state_space_system_is_the_convolution(shape):
    rng = np.random.default_rng(7)
    K, u = rng.normal(size=shape), rng.normal(size=(5, 6, shape[1]))
    A, B, C, D, first = roesser(K)
    x = np.zeros((7, 8, len(A)))
    y = np.zeros((5, 6, shape[0]))
    for i in range(5):
        for j in range(6):
            after = A @ x[i, j] + B @ u[i, j]
            y[i, j] = C @ x[i, j] + D @ u[i, j]
            x[i + 1, j, :first], x[i, j + 1, first:] = after[:first], after[first:]
    direct = sum(
        np.pad(u, ((a, 0), (b, 0), (0, 0)))[:5, :6] @ K[:, :, a, b].T
        for a in range(shape[2])
        for b in range(shape[3])
    )
    assert np.allclose(y, direct, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("behind", ["last", "head"])
def test_one_metric_for_all_frequencies_is_never_better(behind):
    of = trunk(8, behind)
    found = state_space(of)
    given, start = problem_of(of)
    own = proven(of, drawn(given, start, found.multipliers, 1 - 1e-6))
    best = best_channels(given, start)
    assert best is not None
    assert proven(of, best) <= own * (1 + SOLVED)
    assert own <= found.estimate * (1 + 1e-4)  # at every frequency: not above one metric for all


def test_dilation_is_zeros_between_the_taps():
    rng = np.random.default_rng(9)
    K, L = rng.normal(size=(2, 1, 2)), rng.normal(size=(1, 2, 2))
    wide = np.zeros((2, 1, 3))
    wide[..., ::2] = K
    dilated, spread = (
        state_space(Trunk((kernel,), ((d,),), (1.0,), (8,), last=(L, (1,)))).estimate
        for kernel, d in ((K, 2), (wide, 1))
    )
    assert dilated == pytest.approx(spread, rel=1e-6)


def test_state_space_is_proven_by_the_kernel_and_refuses_three_axes():
    rng = np.random.default_rng(10)
    weights = [
        Weight(f"K{k}", rng.normal(size=s), Geometry()) for k, s in enumerate([(2, 1, 3, 3), (1, 2, 3, 3)])
    ]
    network = from_kernels(weights, (5, 5))
    found = bound(network, "state-space")
    assert found.method == "state-space"
    assert found.status.name == "OPTIMAL"
    assert found.lower <= bound(network, "frequency").value <= found.value * (1 + SOLVED)
    with pytest.raises(InvalidProblem, match="axes"):
        state_space(Trunk((np.ones((1, 1, 2, 2, 2)),), ((1, 1, 1),), (1.0,), (3, 3, 3), last=None))


def test_published_value_of_the_state_space_form(benchmark_files):
    kernels = [w for w in read(benchmark_files / "glipsdp_mnist_cnn_C3_CH8.mat") if w.array.ndim > 2][1:]
    network = from_kernels(kernels, (28, 28))
    split = split_trunk(*runs_of(network))
    assert split is not None
    assert state_space(split.trunk).estimate == pytest.approx(7.648757, rel=1e-6)
    given, start = problem_of(split.trunk)
    best = best_channels(given, start)
    assert best is not None
    assert proven(split.trunk, best) == pytest.approx(7.648757, rel=1e-6)


@pytest.mark.parametrize("fails_at", [0, 3])
def test_rounding_that_ends_the_path_leaves_feasible_multipliers(monkeypatch, fails_at):
    given, start = problem_of(trunk(11, "head"))
    derivatives, calls = Spectrum.derivatives, []

    def indefinite(self, rho, lam):
        calls.append(rho)
        if len(calls) > fails_at:
            raise np.linalg.LinAlgError
        return derivatives(self, rho, lam)

    monkeypatch.setattr(Spectrum, "derivatives", indefinite)
    best = best_channels(given, start)
    assert best is not None
    assert given.sweep(np.concatenate(best)) is not None


def test_published_network_whose_optimum_lies_on_the_border(benchmark_files):
    weights = list(read(benchmark_files / "glipsdp_digits_cnn3_seed8.mat", transpose=True))
    weights[-1] = replace(weights[-1], array=weights[-1].array[7:8])  # the study keeps one output
    found = bound(from_kernels(weights, (8, 8), flatten="whc"), "frequency")
    assert found.method == "frequency-optimal"
    assert 11.147 < found.value < 26.661  # between LipSDP of the unrolled network and GLipSDP, as published


def test_an_average_over_a_large_image_does_not_hide_the_optimum():
    """The symbol of an average is tiny at most frequencies; their errors, relative to them, are not those of the others."""
    rng, n = np.random.default_rng(0), 28
    kernels = [
        Convolution(0.3 * rng.normal(size=shape), Geometry(image_size=(n, n)))
        for shape in ((3, 1, 3, 3), (3, 3, 3, 3))
    ]
    head = Affine(np.kron(rng.normal(size=(8, 3)), np.full((1, n * n), 1 / n**2)))
    relu = Activation(0.0, 1.0)
    network = Network((kernels[0], relu, kernels[1], relu, head))
    found = bound(network, "frequency")
    assert found.method == "frequency-optimal"
    split = split_trunk(*runs_of(network))
    spectral = problem_of(split.trunk)[1]
    assert found.lower <= found.value < 0.9 * proven(split.trunk, spectral)
