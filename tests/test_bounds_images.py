"""Laws of the bounds of convolutional networks, and the published values of one of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound, frequency
from sdplip.certificates.trunk import certify_trunk, trunk_holds
from sdplip.errors import InvalidProblem, InvalidWeight
from sdplip.geometry import Geometry
from sdplip.networks import Affine, Network, chain_of, from_kernels, known_activation
from sdplip.networks.chain import runs_of
from sdplip.networks.torch import from_module
from sdplip.networks.trunk import split_trunk
from sdplip.weights import Weight, read

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound."""
RELU = known_activation("relu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def few_frequencies(monkeypatch):
    monkeypatch.setattr(frequency, "COARSE_ORDER", 60)


def small(seed: int = 0, padding: int | None = None, mode: str = "zeros") -> Network:
    rng = np.random.default_rng(seed)
    geometry = Geometry(padding=padding, padding_mode=mode)
    weights = [
        Weight(f"K{k}", rng.normal(size=s), geometry) for k, s in enumerate([(3, 1, 3, 3), (4, 3, 3, 3)])
    ]
    side = 5 if padding is None else 1
    weights.append(Weight("W", rng.normal(size=(3, 4 * side * side))))
    return from_kernels(weights, (5, 5))


@pytest.mark.parametrize("padding", [None, 0])
def test_methods_bound_the_jacobian_in_their_order(padding):
    network = small(1, padding)
    value = {
        method: bound(network, method).value for method in ("product", "frequency", "lipsdp-neuron", "auto")
    }
    lower = bound(network, "product").lower
    assert 0 < lower <= value["lipsdp-neuron"] <= value["frequency"] * (1 + CLOSE)
    assert value["lipsdp-neuron"] <= value["product"] * (1 + CLOSE)
    assert value["auto"] <= min(value["product"], value["lipsdp-neuron"] * (1 + CLOSE))


def test_permuted_channels_change_nothing():
    rng = np.random.default_rng(2)
    K, L, W = rng.normal(size=(3, 1, 3, 3)), rng.normal(size=(4, 3, 3, 3)), rng.normal(size=(2, 4, 3, 3))
    p, q = rng.permutation(3), rng.permutation(4)

    def value(K, L, W, method):
        kernels = [Weight("K", K, Geometry()), Weight("L", L, Geometry()), Weight("W", W.reshape(2, -1))]
        return bound(from_kernels(kernels, (3, 3)), method).value

    for method, room in (("product", 1e-9), ("frequency", 1e-3), ("lipsdp-neuron", CLOSE)):
        moved = value(K[p], L[:, p][q], W[:, q], method)
        assert moved == pytest.approx(value(K, L, W, method), rel=room)


def test_a_proof_of_a_trunk_holds_and_no_smaller_one_does():
    split = split_trunk(*runs_of(small(3)))
    assert split is not None
    lams = [np.full(3, 0.02), np.full(4, 1e-5)]
    R = certify_trunk(split.trunk, lams)
    assert R is not None
    assert trunk_holds(split.trunk, lams, R)
    assert not trunk_holds(split.trunk, lams, R * 0.999)
    assert not trunk_holds(split.trunk, [1e3 * lam for lam in lams], R)


def test_merged_layers_cost_their_rounding_and_no_more():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    module[1].running_var.data = torch.tensor([0.5, 2.0])
    network = from_module(module.double().eval(), (1, 6, 6))
    chain = chain_of(network)
    assert 0 < chain.remainder() < 1e-12
    found = bound(network)
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(module, x).reshape(3, 36).numpy()
    assert np.linalg.norm(J, 2) <= found.value


def test_maxima_multiply_the_bounds_of_the_parts():
    torch.manual_seed(1)
    front, back = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    whole = from_module(nn.Sequential(front, nn.MaxPool2d(2), back), (1, 6, 6))
    found = bound(whole, "composite")
    parts = bound(from_module(front, (1, 6, 6)), "composite").value * float(
        torch.linalg.matrix_norm(back[1].weight.detach(), 2)
    )
    assert found.value == pytest.approx(parts, rel=1e-5)
    assert 0 < found.lower <= bound(whole, "lipsdp-neuron").value <= found.value


def test_frequency_refuses_what_has_no_trunk():
    with pytest.raises(InvalidProblem, match="stride 1"):
        bound(Network((Affine(np.eye(2)), RELU, Affine(np.eye(2)))), "frequency")
    with pytest.raises(InvalidWeight, match="average"):
        from_kernels([Weight("K", np.ones((2, 1, 3, 3)), Geometry()), Weight("W", np.ones((3, 2)))], (4, 4))


def test_published_value_of_glipsdp_digits(benchmark_files):
    weights = list(read(benchmark_files / "glipsdp_digits_cnn2_seed0.mat", transpose=True))
    weights[-1] = replace(weights[-1], array=weights[-1].array[7:8])  # the study keeps one output
    network = from_kernels(weights, (8, 8), flatten="whc")
    assert bound(network, "composite").value == pytest.approx(7.12078177, rel=1e-6)
    assert bound(network, "lipsdp-neuron").value == pytest.approx(5.11109457, rel=1e-6)
