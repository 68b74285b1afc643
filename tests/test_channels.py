"""Multipliers of channels: the barrier's derivatives, its optimum over all frequencies, what rounding may end."""

import numpy as np
import pytest

from sdplip.bounds import bound
from sdplip.bounds.methods import frequency
from sdplip.bounds.numerics import channels
from sdplip.bounds.numerics.channels import best_channels, drawn
from sdplip.bounds.numerics.spectrum import Spectrum, path
from sdplip.bounds.numerics.waves import joint, waves
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.network import Network
from tests.test_frequency import Make

pytestmark = pytest.mark.usefixtures("one_thread")

SOLVED = 1e-5
"""Relative accuracy of the multipliers on the bound: `best_channels` stops at 1e-6 of its square."""


def trunk(seed: int, behind: str, size: tuple[int, int] = (4, 3), depth: int = 2) -> Network:
    m = Make(seed, 2, size)
    for k in range(depth):
        m.conv(3, (2, 3))
        m.act(0.0, 0.7 if k == 1 else 1.0)
    m.dense(2) if behind == "head" else m.conv(2, (2, 2))
    return m.done()


def problem(network: Network):
    """The waves and the multipliers of the closed form."""
    found = frequency.split(network)
    every = waves(found.planned, found.F)
    return every, every.spectral()


def proven(network: Network, lam) -> float:
    try:
        return frequency.conclude(Task(network), frequency.split(network), lam)[0]
    except (NotProvable, np.linalg.LinAlgError):
        return np.inf


@pytest.mark.parametrize("behind", ["last", "head"])
def test_derivatives_of_the_barrier(behind):
    every, start = problem(trunk(0, behind))
    spectrum = joint(every)
    lam = start * np.linspace(0.8, 1.0, 6)
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
    network = trunk(1, behind, depth=depth)
    every, start = problem(network)
    best = best_channels(every, start)
    assert best is not None
    value = proven(network, drawn(every, start, best, 1 - 1e-9))
    assert value <= proven(network, start)
    assert value == pytest.approx(np.ldexp(every.value(best) ** 0.5, every.exponent), rel=SOLVED)
    rng = np.random.default_rng(2)
    for size in (1e-4, 1e-2, 0.3):
        for _ in range(5):
            other = best * np.exp(size * rng.normal(size=best.shape))
            assert every.value(other) ** 0.5 >= every.value(best) ** 0.5 * (1 - SOLVED)


def test_active_frequencies_are_all_that_count():
    network = trunk(3, "last", (20, 16))
    every, start = problem(network)
    rho, _, lower = path(joint(every), start, 1e-6)
    assert 0 < lower <= rho <= lower * (1 + 2e-6)
    best = best_channels(every, start)
    assert best is not None
    assert every.value(best) == pytest.approx(rho, rel=2 * SOLVED)


def test_frequency_is_below_its_closed_form_and_above_lipsdp():
    network = trunk(4, "last")
    found = bound(network, "frequency")
    assert found.method == "frequency-optimal"
    assert found.others["frequency-optimal"] == found.value <= proven(network, problem(network)[1])
    exact = bound(network, "lipsdp-neuron").value  # one multiplier a neuron
    assert found.lower <= exact <= found.value * (1 + 1e-7)


def test_infeasible_starts_and_large_heads_are_left_to_others(monkeypatch):
    every, start = problem(trunk(5, "head"))
    assert best_channels(every, 1e3 * start) is None
    monkeypatch.setattr(channels, "JOINT_OUTPUTS", 1)
    assert best_channels(every, start) is None


def test_dead_channels_have_multipliers_too():
    network = trunk(6, "last")
    network.nodes[2].op.K[1] = 0.0
    every, start = problem(network)
    best = best_channels(every, start)
    assert best is not None
    assert every.value(best) <= every.value(start)
    found = bound(network, "frequency")
    assert found.lower <= found.value <= proven(network, start)


@pytest.mark.parametrize("fails_at", [0, 3])
def test_rounding_that_ends_the_path_leaves_feasible_multipliers(monkeypatch, fails_at):
    every, start = problem(trunk(11, "head"))
    derivatives, calls = Spectrum.derivatives, []

    def indefinite(self, rho, lam):
        calls.append(rho)
        if len(calls) > fails_at:
            raise np.linalg.LinAlgError
        return derivatives(self, rho, lam)

    monkeypatch.setattr(Spectrum, "derivatives", indefinite)
    best = best_channels(every, start)
    assert best is not None
    assert every.metric(best) is not None
