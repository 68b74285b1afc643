"""Maxima over windows: the same function as torch's, one inequality with what is around them, and its laws."""

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds.below import jacobian
from sdplip.bounds.choose import bound
from sdplip.bounds.methods import parts
from sdplip.errors import InvalidProblem
from sdplip.kernel.maxima import without_maxima
from sdplip.kernel.regions import Ball
from sdplip.network import (
    Activation,
    Builder,
    Convolution,
    Dense,
    Diagonal,
    Maximum,
    Network,
    Sort,
    Sum,
    chain,
    pooling_windows,
)

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound."""


pytestmark = pytest.mark.usefixtures("one_thread")


def module(pool: nn.MaxPool2d, activation: nn.Module, side: int = 4, *, norm: bool = False) -> nn.Sequential:
    front = [nn.Conv2d(1, 2, 3, padding=1), *([nn.BatchNorm2d(2)] if norm else []), activation, pool]
    width = nn.Sequential(*front).eval()(torch.zeros(1, 1, side, side)).numel()
    whole = nn.Sequential(*front, nn.Flatten(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 2))
    if norm:
        whole[1].running_var.data = torch.tensor([0.3, 2.0])
        whole[1].bias.data = torch.tensor([0.1, -0.2])
    return whole.double().eval()


def graph(torch_net: nn.Sequential, side: int) -> Network:
    """The same as a graph, by hand."""
    found, shape = [], (1, side, side)
    for layer in torch_net:
        n = int(np.prod(shape))
        if isinstance(layer, nn.Conv2d):
            b = np.repeat(layer.bias.detach().numpy(), side * side)
            op = Convolution(layer.weight.detach().numpy(), shape[1:], (1, 1), ((1, 1), (1, 1)), (1, 1), b=b)
            shape = op.shape
        elif isinstance(layer, nn.BatchNorm2d):
            d = (layer.weight / torch.sqrt(layer.running_var.double() + layer.eps)).detach().numpy()
            shift = layer.bias.detach().numpy() - d * layer.running_mean.numpy()
            op = Diagonal(np.repeat(d, side * side), np.repeat(shift, side * side), error=2.0**-50)
        elif isinstance(layer, nn.MaxPool2d):
            two = lambda v: v if isinstance(v, tuple) else (v, v)  # noqa: E731
            pads = tuple((p, p) for p in two(layer.padding))
            index = pooling_windows(shape[0], shape[1:], two(layer.kernel_size), two(layer.stride), pads)
            op, shape = Maximum(index, n), (len(index),)
        elif isinstance(layer, nn.Linear):
            op = Dense(layer.weight.detach().numpy(), layer.bias.detach().numpy())
            shape = (op.outputs,)
        elif isinstance(layer, nn.Flatten):
            continue
        elif isinstance(layer, nn.LeakyReLU):
            op = Activation("leaky_relu", n, {"negative_slope": layer.negative_slope})
        else:
            op = Activation(type(layer).__name__.lower(), n)
        found.append(op)
    return chain(found)


CASES = {
    "2 by 2": (nn.MaxPool2d(2), nn.ReLU(), 4),
    "pixels left out": (nn.MaxPool2d(2), nn.ReLU(), 5),
    "windows of three": (nn.MaxPool2d(3), nn.Tanh(), 6),
    "overlapping": (nn.MaxPool2d(3, 2), nn.ReLU(), 5),
    "padded": (nn.MaxPool2d(3, 2, 1), nn.LeakyReLU(0.2), 5),
    "not monotone": (nn.MaxPool2d((2, 1)), nn.GELU(), 4),
    "normalised": (nn.MaxPool2d(2), nn.ReLU(), 4),
}


def case(name: str) -> tuple[nn.Sequential, Network]:
    pool, activation, side = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(list(CASES).index(name))
        net = module(pool, activation, side, norm=name == "normalised")
    return net, graph(net, side)


@pytest.mark.parametrize("name", CASES)
def test_bounds_lie_above_the_jacobians_of_torch_in_their_order(name):
    torch_net, net = case(name)
    joint, product = bound(net, "lipsdp-neuron"), bound(net, "product").value
    assert joint.proof.rule == "joint" or joint.proof.parts[0].rule == "joint"
    assert joint.lower <= joint.value <= product * (1 + CLOSE)
    at = next(k for k, node in enumerate(net.nodes, 1) if isinstance(node.op, Maximum))
    front, tail = net.between(0, at - 1), net.between(at, net.output)
    op = net.made(at).op
    assert isinstance(op, Maximum)
    cut = bound(front, "lipsdp-neuron").value * bound(tail, "lipsdp-neuron").value * op.overlap**0.5
    assert joint.value <= cut * (1 + CLOSE)
    rng = np.random.default_rng(0)
    side = CASES[name][2]
    for x in rng.normal(size=(20, 1, 1, side, side)) * 10.0 ** rng.uniform(-1, 1, (20, 1, 1, 1, 1)):
        J = torch.autograd.functional.jacobian(torch_net, torch.tensor(x)).reshape(2, -1).numpy()
        assert np.linalg.norm(J, 2) <= joint.value
        np.testing.assert_allclose(jacobian(net, x.reshape(-1)), J, atol=1e-12)
        np.testing.assert_allclose(
            net(x.reshape(-1)), torch_net(torch.tensor(x)).detach().numpy()[0], atol=1e-12
        )


def test_auto_and_riccati_take_the_least_of_one_inequality_and_of_the_parts():
    _, net = case("2 by 2")
    found = bound(net)
    assert found.value == min(found.others.values()) and found.proof.rule in ("joint", "narrow", "pairwise")
    assert any(name.endswith("of the parts") for name in found.others)
    assert bound(net, "riccati").value <= bound(net, "product").value * (1 + CLOSE)
    pair = bound(net, output_pair=(0, 1))
    assert pair.lower <= pair.value <= 2**0.5 * found.value
    with pytest.raises(InvalidProblem, match="sqrt"):
        bound(net, "lipsdp-network")


def test_parts_multiply_where_one_inequality_is_too_large(monkeypatch):
    _, net = case("2 by 2")
    monkeypatch.setattr("sdplip.bounds.methods.multipliers.SYSTEM_ORDER", 10)
    (tail,) = parts.segments(net)  # of the convolution in front the product is the best
    whole = bound(net, "lipsdp-neuron")
    each = [bound(net.between(0, 1), "product").value, bound(net.between(*tail), "lipsdp-neuron").value]
    assert whole.value == pytest.approx(each[0] * each[1], rel=1e-12) and whole.proof.rule == "layers"
    assert whole.method == "lipsdp-neuron of the parts"
    assert whole.lower <= whole.value <= bound(net, "product").value * (1 + CLOSE)


def test_maxima_of_one_window_are_exact():
    """max(a, .., i) has constant 1, and max(a, b) + max(c, d) the root of 2."""
    window = Maximum(np.arange(9)[None], 9)
    assert 1 <= bound(chain([Dense(np.eye(9)), window]), "lipsdp-neuron").value <= 1 + CLOSE
    pairs = chain([Dense(np.eye(4)), Maximum(np.array([[0, 1], [2, 3]]), 4), Dense(np.ones((1, 2)))])
    assert 2**0.5 <= bound(pairs, "lipsdp-neuron").value <= 2**0.5 * (1 + CLOSE)
    # Shared pixels: max(a, b) + max(b, c) has the gradient (0, 2, 0).
    shared = chain([Dense(np.eye(3)), Maximum(np.array([[0, 1], [1, 2]]), 3), Dense(np.ones((1, 2)))])
    assert 2 <= bound(shared, "lipsdp-neuron").value <= 2 * (1 + 1e-6)


def test_activations_that_differ_or_fall_stay_in_front_of_the_maxima():
    pool = Maximum(np.array([[0, 1], [2, 3]]), 4)
    for activation, first in (
        (Activation("relu", 4), Sort),
        (
            Activation("relu", 4, alpha=np.zeros(4), beta=np.array([1.0, 0.5, 1.0, 1.0])),
            Sort,
        ),  # one function, on a region
        (Activation("leaky_relu", 4, {"negative_slope": np.array([0.1, 0.2, 0.1, 0.1])}), Activation),
        (Activation("abs", 4), Activation),
        (
            Activation("", 4, alpha=np.zeros(4), beta=np.ones(4)),
            Activation,
        ),  # may differ from neuron to neuron
    ):
        plain = without_maxima(chain([Dense(np.eye(4)), activation, pool]))
        assert isinstance(plain.nodes[1].op, first)
    beside = Builder((4,))
    bent = beside.add(Activation("relu", 4), 0)
    largest = beside.add(pool, bent)
    twice = beside.add(Maximum(np.array([[0, 2], [1, 3]]), 4), bent)  # the function is used twice
    plain = without_maxima(beside.finish(beside.add(Sum((1, 1), 2), largest, twice)))
    assert isinstance(plain.nodes[0].op, Activation)


def test_maxima_on_a_region_and_in_a_residual_branch():
    rng = np.random.default_rng(1)
    builder = Builder((2,))
    first = builder.add(Dense(rng.normal(size=(3, 2))), 0)
    branch = builder.add(Activation("relu", 4), builder.add(Dense(rng.normal(size=(4, 3))), first))
    branch = builder.add(Maximum(np.array([[0, 1], [1, 2], [2, 3]]), 4), branch)
    net = builder.finish(
        builder.add(Dense(rng.normal(size=(2, 3))), builder.add(Sum((1, 1), 3), first, branch))
    )
    ball = Ball(np.array([0.5, -0.3]), 0.4)
    local, everywhere = bound(net, "lipsdp-neuron", region=ball), bound(net, "lipsdp-neuron")
    assert local.lower <= local.value <= everywhere.value * (1 + CLOSE)
    for _ in range(200):
        v = rng.normal(size=2)
        x = ball.center + 0.4 * rng.uniform() * v / np.linalg.norm(v)
        assert np.linalg.norm(jacobian(net, x), 2) <= local.value * (1 + 1e-9)
