"""Maxima over windows: the same function as torch's, one inequality with what is around them, and its laws."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.bounds.samples import value_and_jacobian
from sdplip.bounds.system import backward
from sdplip.certificates.region import Ball, localise
from sdplip.certificates.system import Map, Slope, Sort, expand
from sdplip.certificates.system_proof import certify_composition, system_holds
from sdplip.errors import InvalidProblem
from sdplip.networks import Activation, Affine, MaxPool, Network, Residual, system_layers
from sdplip.networks.torch import from_module
from tests.exact import inertia_signs
from tests.test_systems import exact_inequality

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound."""


pytestmark = pytest.mark.usefixtures("one_thread")


def module(
    seed: int, pool: nn.Module, activation: nn.Module, side: int = 4, norm: bool = False
) -> nn.Sequential:
    torch.manual_seed(seed)
    front = [nn.Conv2d(1, 2, 3, padding=1), *([nn.BatchNorm2d(2)] if norm else []), activation, pool]
    width = nn.Sequential(*front).eval()(torch.zeros(1, 1, side, side)).numel()
    whole = nn.Sequential(*front, nn.Flatten(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 2))
    if norm:
        whole[1].running_var.data = torch.tensor([0.3, 2.0])
        whole[1].bias.data = torch.tensor([0.1, -0.2])
    return whole.double().eval()


CASES = {
    "2 by 2": lambda: module(0, nn.MaxPool2d(2), nn.ReLU()),
    "pixels left out": lambda: module(1, nn.MaxPool2d(2), nn.ReLU(), 5),
    "windows of three": lambda: module(2, nn.MaxPool2d(3), nn.Tanh(), 6),
    "overlapping": lambda: module(3, nn.MaxPool2d(3, 2), nn.ReLU(), 5),
    "padded": lambda: module(4, nn.MaxPool2d(3, 2, 1), nn.LeakyReLU(0.2), 5),
    "not monotone": lambda: module(5, nn.MaxPool2d((2, 1)), nn.GELU()),
    "normalised": lambda: module(6, nn.MaxPool2d(2), nn.ReLU(), norm=True),
}


@pytest.mark.parametrize("name", CASES)
def test_bounds_lie_above_the_jacobians_of_torch_in_their_order(name):
    torch_net, side = (
        CASES[name](),
        {"pixels left out": 5, "windows of three": 6, "overlapping": 5, "padded": 5}.get(name, 4),
    )
    net = from_module(torch_net, (1, side, side))
    joint, product = bound(net, "lipsdp-neuron"), bound(net, "product").value
    assert joint.system_certificate is not None
    assert joint.lower <= joint.value <= product * (1 + CLOSE)
    cut = Network(tuple(layer for layer in net.layers if not isinstance(layer, MaxPool))[:-3])
    tail = Network(net.layers[-3:])
    pool = next(layer for layer in net.layers if isinstance(layer, MaxPool))
    parts = bound(cut, "lipsdp-neuron").value * bound(tail, "lipsdp-neuron").value * pool.overlap**0.5
    assert joint.value <= parts * (1 + CLOSE)
    rng = np.random.default_rng(0)
    for x in rng.normal(size=(20, 1, 1, side, side)) * 10.0 ** rng.uniform(-1, 1, (20, 1, 1, 1, 1)):
        J = torch.autograd.functional.jacobian(torch_net, torch.tensor(x)).reshape(2, -1).numpy()
        assert np.linalg.norm(J, 2) <= joint.value
        if name != "not monotone":  # GELU is known by its slopes only
            y, same = value_and_jacobian(system_layers(net), x.reshape(-1))
            np.testing.assert_allclose(same, J, atol=1e-12)
            np.testing.assert_allclose(y, torch_net(torch.tensor(x)).detach().numpy()[0], atol=1e-12)


def test_auto_and_riccati_take_the_least_of_one_inequality_and_of_the_parts():
    net = from_module(CASES["2 by 2"](), (1, 4, 4))
    found = bound(net)
    assert found.value == min(found.others.values()) and found.system_certificate is not None
    assert any(name.endswith("of the parts") for name in found.others)
    assert bound(net, "riccati").value <= bound(net, "product").value * (1 + CLOSE)
    pair = bound(net, output_pair=(0, 1))
    assert pair.lower <= pair.value <= 2**0.5 * found.value
    with pytest.raises(InvalidProblem, match="sqrt"):
        bound(net, "lipsdp-network")


def test_maxima_of_one_window_are_exact():
    """max(a, .., i) has constant 1, and max(a, b) + max(c, d) the root of 2."""
    nine, four = Affine(np.eye(9)), Affine(np.eye(4))
    window = MaxPool(1, (3, 3), (3, 3), (1, 1), (0, 0))
    assert 1 <= bound(Network((nine, window)), "lipsdp-neuron").value <= 1 + CLOSE
    pairs = Network((four, MaxPool(1, (4,), (2,), (2,), (0,)), Affine(np.ones((1, 2)))))
    assert 2**0.5 <= bound(pairs, "lipsdp-neuron").value <= 2**0.5 * (1 + CLOSE)
    # Shared pixels: max(a, b) + max(b, c) has the gradient (0, 2, 0).
    shared = Network((Affine(np.eye(3)), MaxPool(1, (3,), (2,), (1,), (0,)), Affine(np.ones((1, 2)))))
    assert 2 <= bound(shared, "lipsdp-neuron").value <= 2 * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_no_false_bound_in_exact_arithmetic(seed):
    rng = np.random.default_rng(seed)
    W, V = rng.normal(size=(4, 2)) * 10.0 ** rng.uniform(-4, 4), rng.normal(size=(2, 2))
    pool = MaxPool(1, (4,), (3,), (1,), (0,)) if seed % 2 else MaxPool(1, (4,), (2,), (2,), (0,))
    net = Network((Affine(W), Activation(kind="relu"), pool, Affine(V)))
    proof = bound(net, "lipsdp-neuron").system_certificate
    exact = exact_inequality(system_layers(net), proof.multipliers, Fraction(proof.bound) ** 2)
    assert inertia_signs(exact)[0]


def test_activations_that_differ_or_fall_stay_in_front_of_the_maxima():
    pool = MaxPool(1, (4,), (2,), (2,), (0,))
    for activation, first in (
        (Activation(kind="relu"), Sort),
        (Activation(0.0, np.array([1.0, 0.5, 1.0, 1.0])), Slope),
        (Activation(-1.0, 1.0, "abs"), Slope),
        (Activation(0.0, 1.0), Slope),  # unknown functions may differ from neuron to neuron
    ):
        layers = system_layers(Network((Affine(np.eye(4)), activation, pool)))
        assert isinstance(layers[1], first)


def test_maxima_on_a_region_and_in_a_residual_branch():
    rng = np.random.default_rng(1)
    pool = MaxPool(1, (4,), (2,), (1,), (0,))
    branch = (Affine(rng.normal(size=(4, 3))), Activation(kind="relu"), pool)
    net = Network((Affine(rng.normal(size=(3, 2))), Residual(branch), Affine(rng.normal(size=(2, 3)))))
    ball = Ball(np.array([0.5, -0.3]), 0.4)
    local, everywhere = bound(net, "lipsdp-neuron", region=ball), bound(net, "lipsdp-neuron")
    assert local.lower <= local.value <= everywhere.value * (1 + CLOSE)
    for _ in range(200):
        v = rng.normal(size=2)
        x = ball.center + 0.4 * rng.uniform() * v / np.linalg.norm(v)
        J = value_and_jacobian(system_layers(net), x)[1]
        assert np.linalg.norm(J, 2) <= local.value * (1 + 1e-9)


def test_entries_known_up_to_an_error_cost_no_false_bound():
    rng = np.random.default_rng(2)
    A, B, error = rng.normal(size=(4, 3)), rng.normal(size=(2, 4)), 1e-3
    relu = Slope(np.zeros(4), np.ones(4), "relu")
    sharp, fuzzy = (Map(A), relu, Map(B)), (Map(A, error=error), relu, Map(B, error=error))
    kappa, lam = backward(expand(sharp, 3))
    assert not system_holds(expand(fuzzy, 3), lam, kappa**0.5)
    assert system_holds(expand(sharp, 3), lam, kappa**0.5)
    proven = next(
        L for L in kappa**0.5 * np.linspace(1, 2, 101) if system_holds(expand(fuzzy, 3), 1.1 * lam, L)
    )
    product = certify_composition(fuzzy)
    assert certify_composition(sharp) * (1 + error) ** 2 <= product
    largest = [
        W * (1 + error * np.sign(np.outer(*(v[:, 0] for v in (U, V.T)))))
        for W, (U, _, V) in ((W, np.linalg.svd(W)) for W in (A, B))
    ]
    assert np.linalg.norm(largest[0], 2) * np.linalg.norm(largest[1], 2) <= product
    for _ in range(100):
        a, b = (W * (1 + error * rng.choice([-1.0, 1.0], W.shape)) for W in (A, B))
        D = np.diag(rng.integers(0, 2, 4).astype(float))
        assert np.linalg.norm(b @ D @ a, 2) <= min(proven, product)
    ball = Ball(np.zeros(3), 1.0)
    (_, local, _) = localise(fuzzy, ball)
    assert np.all(local.beta == 1)
    with pytest.raises(InvalidProblem, match="batch normalisation"):
        localise((Map(A, np.ones(4), error),), ball)
