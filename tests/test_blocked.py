"""Sums by blocks: the same function, the same constants, a tenth of the rounding, and errors within what is proven."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.network.read.torch import read_module
from sdplip.nn import Blocked, ResidualConv2d, ResidualLinear, by_blocks, export_plain, lipschitz, rescaled
from sdplip.robustness.arithmetic import plain_arithmetic
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.forward_error import Affine, output_error

torch.set_num_threads(1)

LAYERS = {
    "linear": (lambda: nn.Linear(37, 9), (37,)),
    "no bias": (lambda: nn.Linear(64, 9, bias=False), (64,)),
    "fewer inputs than a block": (lambda: nn.Linear(3, 9), (3,)),
    "parametrized": (lambda: rescaled(nn.Linear(40, 9), "aol"), (40,)),
    "1-D": (lambda: nn.Conv1d(5, 7, 3, padding=1), (5, 8)),
    "2-D with a stride": (lambda: nn.Conv2d(5, 7, 3, 2, padding=1, dilation=2), (5, 9, 9)),
    "3-D": (lambda: nn.Conv3d(3, 4, 2), (3, 4, 4, 4)),
    "same": (lambda: nn.Conv2d(5, 7, 3, padding="same"), (5, 6, 6)),
}


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.Identity()).eval()


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_function_with_less_rounding(name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    plain = chain(make())
    model, x = by_blocks(copy.deepcopy(plain), 8), torch.rand(6, *shape)
    assert isinstance(model[0], Blocked)
    with plain_arithmetic(), torch.no_grad():
        bounds = [lipschitz(m, input_shape=shape) for m in (plain, model)]
        assert bounds[0].value == bounds[1].value
        y, error, _ = output_error(model, bounds[1])(x, Affine(np.zeros(6), 1.0))
        _, before, _ = output_error(plain, bounds[0])(x, Affine(np.zeros(6), 1.0))
        exact = copy.deepcopy(plain).double()(x.double()) if name != "parametrized" else _doubled(plain, x)
    off = (y.double() - exact).flatten(1).norm(dim=1).numpy()
    assert (off <= error.constant * (1 + 1e-6)).all()
    assert (
        error.constant < 1.8 * before.constant
    ).all()  # at most the factor two of signs that cancel, where there is one block
    if name in ("no bias", "parametrized"):
        assert (error.constant < 0.8 * before.constant).all()


def _doubled(plain: nn.Module, x: torch.Tensor) -> torch.Tensor:
    layer = plain[0]
    return nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())


def test_roundings_are_counted():
    """Sums of ones and units in the last place: in blocks of 4 of 16, each product passes 4 + 2 + 1 roundings."""
    assert Blocked(nn.Linear(16, 1), 4).roundings == 4 + 2 + 1
    assert Blocked(nn.Linear(17, 1), 4).roundings == 4 + 3 + 1
    assert Blocked(nn.Linear(3, 1), 4).roundings == 3 + 0 + 1
    assert Blocked(nn.Conv2d(8, 1, 3), 16).roundings == 9 + 3 + 1  # one channel a block


def test_residual_blocks_too():
    torch.manual_seed(0)
    model = nn.Sequential(ResidualConv2d(3, 8, 3), nn.Flatten(), ResidualLinear(48, 64), nn.Linear(48, 4))
    plain = export_plain(model.eval(), input_shape=(3, 4, 4)).model
    blocked = by_blocks(copy.deepcopy(plain))
    assert isinstance(blocked[0].up, Blocked) and isinstance(blocked[2].down, Blocked)
    assert isinstance(blocked[-1], nn.Linear)
    x, labels = torch.rand(40, 3, 4, 4), torch.zeros(40, dtype=torch.long)
    with plain_arithmetic(), torch.no_grad():
        torch.testing.assert_close(blocked(x), plain(x))
        mean = [
            certify_accuracy(m, x, labels, precision="float32", scope=scope).radius.mean()
            for m, scope in ((plain, "computed"), (blocked, "computed"), (plain, "exact"))
        ]
    assert mean[0] < mean[1] < mean[2]
    assert mean[2] - mean[1] < 0.6 * (mean[2] - mean[0])


def test_the_graph_is_that_of_the_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(9, dtype=torch.double)
    networks = [read_module(m, (9,)) for m in (model, by_blocks(copy.deepcopy(model), 2))]
    assert [len(n.nodes) for n in networks] == [len(networks[0].nodes)] * 2
    a, b = (network(x.numpy()) for network in networks)
    assert np.array_equal(a, b)


def test_what_is_refused():
    with pytest.raises(InvalidProblem, match="one group"):
        Blocked(nn.Conv2d(4, 4, 3, groups=2))
    with pytest.raises(InvalidProblem, match="block"):
        by_blocks(nn.Sequential(nn.Linear(3, 3), nn.Identity()), 0)
    with pytest.raises(InvalidProblem, match="model"):
        by_blocks("network")  # pyright: ignore[reportArgumentType]
    layer = nn.Linear(3, 3)
    model = nn.Sequential(Blocked(layer))
    layer.register_forward_hook(lambda *_: None)
    with pytest.raises(RefusedModule):
        lipschitz(model)
