"""The `t` of equal blocks at once are those of each block; nothing else changes, and nothing is left behind."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sdplip.convolution.kernels import _correlate_at_once, correlate
from sdplip.nn import (
    AOL,
    SLL,
    MultiStep,
    Optimal,
    ResidualConv1d,
    ResidualConv2d,
    ResidualLinear,
    Spectral,
    rescaled,
    together,
)
from sdplip.nn.abstract_scaling import AbstractScaling

MAKERS = {
    "sll": SLL,
    "aol": AOL,
    "cpl": lambda: Spectral(iterations=4),
    "multi_step": MultiStep,
    "optimal": lambda: Optimal(every=2),
    "now and then": lambda: SLL(refresh_every=2),
}


def network(new) -> nn.Sequential:
    """Two pairs of equal convolutions, one without an equal, and two dense blocks; of convolutions there is no optimal scaling."""
    torch.manual_seed(1)
    conv = AOL if isinstance(new(), Optimal) else new
    blocks = [ResidualConv2d(4, n, 3, conv()) for n in (3, 3, 5)]
    strided = [rescaled(nn.Conv2d(4, 4, 2, stride=2, groups=2), conv()) for _ in range(2)]
    dense = [ResidualLinear(16, 8, new()) for _ in range(2)]
    model = nn.Sequential(*blocks, *strided, nn.Flatten(), *dense)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def given(model: nn.Module) -> list[bool]:
    return [m.given is not None for m in model.modules() if isinstance(m, AbstractScaling)]


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_values_and_gradients(name):
    x, found = torch.randn(3, 4, 8, 8), []
    for context in (nullcontext, together):
        model = network(MAKERS[name])
        with context(model) if context is together else nullcontext():
            assert sum(given(model)) == (6 if context is together and name != "now and then" else 0)
            y = model(x)
        assert not any(given(model))
        y.square().sum().backward()
        found.append([y, *[p.grad for p in model.parameters()]])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("first", "second"), [((3,), (3,)), ((5, 4), (2, 3)), ((3, 2, 2), (2, 3, 1))])
def test_all_offsets_in_one_product(first, second):
    """What accelerators and compiled graphs compute, against one product an offset: X = Y, and X = Y * Y with Y."""
    torch.manual_seed(0)
    Y = torch.randn(2, 3, 4, *second, dtype=torch.double)
    torch.testing.assert_close(_correlate_at_once(Y, Y), correlate(Y, Y))
    A = correlate(Y, Y)
    torch.testing.assert_close(_correlate_at_once(A, A), correlate(A, A))
    X = torch.randn(2, 3, 3, *first, dtype=torch.double)
    B = correlate(X, X)
    powers = [product(B, B) for product in (_correlate_at_once, correlate)]
    torch.testing.assert_close(powers[0], powers[1])


def test_layers_in_eval_mode_and_other_weights_are_left_alone():
    model = network(SLL)
    model[0].eval()
    with together(model):
        assert given(model)[:3] == [False, False, False] and sum(given(model)) == 4
        first = model[3].parametrizations.weight[0].scaling
        other = torch.randn(4, 2, 2, 2)
        assert torch.equal(first(other), first.compute(other))


def test_a_block_that_fails_leaves_nothing_behind():
    model = nn.Sequential(*(ResidualConv1d(2, 3, 3) for _ in range(2)))
    with pytest.raises(RuntimeError), together(model):
        model(torch.randn(2, 3, 4, 5))
    assert not any(given(model))
