"""Normalisation with a known constant: what the statistics are, what the first batch does, what is refused."""

import math

import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.errors import InvalidWeight, RefusedModule
from sdplip.network.read.torch import read_module
from sdplip.nn import ActNorm, BatchLipNorm, MaxMin, UnitSphere, lipschitz, orthogonal
from sdplip.training.margins import aimed

torch.set_num_threads(1)


def test_one_scale_by_hand():
    """Variances 4 and 12 of two channels: s = 1 / sqrt(8), where one scale a channel would have 1 / 2."""
    layer = BatchLipNorm(2, momentum=1.0, eps=1e-12).double()
    x = torch.tensor([[1.0, 0.0], [5.0, 0.0], [1.0, 6.0], [5.0, 6.0]], dtype=torch.double)
    torch.testing.assert_close(layer(x), x)  # by the statistics of before
    assert layer.mean.tolist() == [3, 3] and layer.variance.tolist() == [4, 9]
    layer.variance[1] = 12
    assert float(layer.scale()) == pytest.approx(8**-0.5)
    y = layer.eval()(x)
    y = y.detach()
    assert (y[0] - y[3]).norm() / (x[0] - x[3]).norm() == pytest.approx(8**-0.5)
    assert float(lipschitz(layer)) == pytest.approx(8**-0.5, rel=1e-12) == float(aimed(layer).detach())


@pytest.mark.parametrize("most", [0.25, 4.0])
def test_statistics_become_those_of_the_data_and_the_constant_keeps_its_limit(most):
    torch.manual_seed(0)
    layer = BatchLipNorm(3, most, momentum=0.3)
    data = torch.tensor([0.1, 0.5, 0.2])[:, None, None] * torch.randn(64, 3, 4, 4) + 2
    for _ in range(40):
        before = float(lipschitz(layer))
        y = layer(data)
        J = torch.linalg.vector_norm(y[0] - y[1]) / torch.linalg.vector_norm(data[0] - data[1])
        assert before * (1 + 1e-5) >= J and before <= most * (1 + 1e-6)  # the pass that came next
    torch.testing.assert_close(layer.mean, data.mean((0, 2, 3)))
    torch.testing.assert_close(layer.variance, data.var((0, 2, 3), unbiased=False))
    assert float(layer.scale()) == pytest.approx(min(most, float(layer.variance.mean() + 1e-5) ** -0.5))
    kept = layer.mean
    torch.testing.assert_close(layer(data), layer.eval()(data))
    assert layer.mean is not kept and layer(data).shape == data.shape


def test_samples_do_not_depend_on_each_other():
    layer, x = BatchLipNorm(3), torch.randn(4, 3, requires_grad=True)
    layer(x)[0].sum().backward()
    assert x.grad is not None and not x.grad[1:].any()


def test_the_first_batch_sets_scales_and_shifts():
    torch.manual_seed(0)
    layer = ActNorm(3, 2.0)
    x = torch.tensor([0.1, 1.0, 4.0])[:, None, None] * torch.randn(50, 3, 5, 5) + 1
    with pytest.raises(RefusedModule, match="first batch"):
        lipschitz(layer)
    y = layer(x)
    torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    y = y.detach()
    std = y.std((0, 2, 3), unbiased=False)
    torch.testing.assert_close(std[1:], torch.ones(2), atol=1e-3, rtol=0)
    assert std[0] == pytest.approx(0.95 * 2 * 0.1, rel=0.05)  # as much as is allowed
    torch.testing.assert_close(layer(2 * x), layer.eval()(2 * x))  # the second batch changes nothing
    with torch.no_grad():
        layer.theta.fill_(50.0)
    assert float(lipschitz(layer)) == 2.0 == float(aimed(layer).detach())
    other = ActNorm(3, 2.0)
    other(x)
    other.load_state_dict(ActNorm(3, 2.0).state_dict())
    assert not other.ready and other(x).detach().std() == pytest.approx(
        float(y.std()), rel=1e-5
    )  # set once more


@pytest.mark.parametrize(
    "make",
    [
        lambda: BatchLipNorm(0),
        lambda: BatchLipNorm(2, 0.0),
        lambda: BatchLipNorm(2, eps=0.0),
        lambda: BatchLipNorm(2, momentum=1.5),
        lambda: ActNorm(2, math.inf),
        lambda: ActNorm(2)(torch.zeros(1, 3)),
        lambda: BatchLipNorm(2)(torch.zeros(2)),
    ],
)
def test_refusals(make):
    with pytest.raises(InvalidWeight):
        make()


def test_the_graph_reads_points_of_the_sphere():
    torch.manual_seed(0)
    model = nn.Sequential(orthogonal(nn.Linear(4, 6)), MaxMin(), UnitSphere(0.5)).double().eval()
    network = read_module(model, (4,))
    assert 2.0 <= bound(network, "product").bound <= 2.0 * (1 + 1e-6)
    x = torch.randn(4, dtype=torch.double)
    torch.testing.assert_close(torch.from_numpy(network(x.numpy())), model(x[None])[0])
    with pytest.raises(RefusedModule, match="no constant near 0"):
        read_module(nn.Sequential(nn.Linear(4, 4), UnitSphere(0.0)), (4,))
