"""Laws of the bounds of convolutional networks, and the published values of some of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.bounds.methods import frequency
from sdplip.bounds.task import Task
from sdplip.errors import InvalidProblem, InvalidWeight
from sdplip.geometry import Geometry
from sdplip.network import Activation, Dense, Network, chain
from sdplip.network.read.torch import read_module
from sdplip.network.read.weights import Assumptions, weights_network
from sdplip.weights import Weight, read

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound."""


pytestmark = pytest.mark.usefixtures("one_thread")


def on_images(weights, size: int | tuple[int, ...], **said) -> Network:
    return weights_network(weights, assumptions=Assumptions(image_size=size, **said))


def small(seed: int = 0, padding: int | None = None) -> Network:
    rng = np.random.default_rng(seed)
    geometry = Geometry(padding=padding)
    weights = [
        Weight(f"K{k}", rng.normal(size=s), geometry) for k, s in enumerate([(3, 1, 3, 3), (4, 3, 3, 3)])
    ]
    side = 5 if padding is None else 1
    weights.append(Weight("W", rng.normal(size=(3, 4 * side * side))))
    return on_images(weights, (5, 5))


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
        return bound(on_images(kernels, (3, 3)), method).value

    for method, room in (("product", 1e-9), ("frequency", 1e-3), ("lipsdp-neuron", CLOSE)):
        moved = value(K[p], L[:, p][q], W[:, q], method)
        assert moved == pytest.approx(value(K, L, W, method), rel=room)


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
    network = read_module(module.double().eval(), (1, 6, 6))
    found = bound(network)
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(module, x).reshape(3, 36).numpy()
    assert np.linalg.norm(J, 2) <= found.value
    best = bound(network, "lipsdp-neuron")
    assert best.value <= best.sdp_lower * (1 + CLOSE)


def test_maxima_multiply_the_bounds_of_the_parts():
    torch.manual_seed(1)
    front = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2), nn.ReLU())
    back = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))
    whole = read_module(nn.Sequential(front, nn.MaxPool2d(2), back).eval(), (1, 6, 6))
    found = bound(whole, "composite")
    parts = bound(read_module(front.eval(), (1, 6, 6)), "composite").value * float(
        torch.linalg.matrix_norm(back[1].weight.detach().double(), 2)
    )
    assert found.value == pytest.approx(parts, rel=1e-5)
    assert 0 < found.lower <= bound(whole, "lipsdp-neuron").value <= found.value


def test_frequency_refuses_what_has_no_convolution():
    with pytest.raises(InvalidProblem, match="no convolution"):
        bound(chain([Dense(np.eye(2)), Activation("relu", 2), Dense(np.eye(2))]), "frequency")
    with pytest.raises(InvalidWeight, match="average"):
        on_images([Weight("K", np.ones((2, 1, 3, 3)), Geometry()), Weight("W", np.ones((3, 2)))], (4, 4))


def test_an_average_over_a_large_image_does_not_hide_the_optimum():
    """The symbol of an average is tiny at most frequencies; their errors, relative to them, are not those of the others."""
    rng, n = np.random.default_rng(0), 28
    weights = [
        Weight("K", 0.3 * rng.normal(size=(3, 1, 3, 3)), Geometry()),
        Weight("L", 0.3 * rng.normal(size=(3, 3, 3, 3)), Geometry()),
        Weight("W", np.kron(rng.normal(size=(8, 3)), np.full((1, n * n), 1 / n**2))),
    ]
    network = on_images(weights, n)
    found = bound(network, "frequency")
    assert found.method == "frequency-optimal"
    task, parts = Task(network), frequency.split(network)
    spectral = dict(frequency.candidates(task, parts))["frequency-spectral"]
    assert found.lower <= found.value < 0.9 * frequency.conclude(task, parts, spectral)[0]


def digits(folder, name: str) -> Network:
    """The study keeps one output."""
    weights = list(read(folder / f"glipsdp_digits_{name}.mat", transpose=True))
    weights[-1] = replace(weights[-1], array=weights[-1].array[7:8])
    return on_images(weights, 8, flatten="whc")


def test_published_values_of_glipsdp_digits(benchmark_files):
    network = digits(benchmark_files, "cnn2_seed0")
    assert bound(network, "composite").value == pytest.approx(7.12078177, rel=1e-6)
    assert bound(network, "lipsdp-neuron").value == pytest.approx(5.11109457, rel=1e-6)


def test_published_network_whose_optimum_lies_on_the_border(benchmark_files):
    found = bound(digits(benchmark_files, "cnn3_seed8"), "frequency")
    assert found.method == "frequency-optimal"
    assert 11.147 < found.value < 26.661  # between LipSDP of the unrolled network and GLipSDP, as published


@pytest.mark.parametrize(("channels", "published", "rel"), [(8, 7.648757, 1e-6), (16, 8.026805, 1e-3)])
def test_published_values_of_the_state_space_form(benchmark_files, channels, published, rel):
    """GLipSDP of the convolutions behind the first one: one metric for all frequencies is never better."""
    kernels = [
        w for w in read(benchmark_files / f"glipsdp_mnist_cnn_C3_CH{channels}.mat") if w.array.ndim > 2
    ]
    found = bound(on_images(kernels[1:], 28), "frequency")
    assert found.lower <= found.value == pytest.approx(published, rel=rel)
