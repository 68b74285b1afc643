"""The `t` of equal blocks takes the launches of one block, not of all."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from sdplip.nn import MaxMin, ResidualConv2d, ResidualLinear, rescaled, together
from sdplip.nn.models import FAMILIES
from sdplip.nn.together import _layers
from tests.simulated.device import SIM
from tests.simulated.log import logged

BUDGET = {"sll": 45, "aol": 48, "multi_step2": 125, "cpl": 265}
"""Kernels of the forward and backward pass of 20 T of convolutions."""

DENSE = {"sll": 40, "aol": 26, "multi_step2": 99, "cpl": 95}
"""Those of 7 T of matrices, of as many columns as `rowsums` begins with."""


def gradients(model: nn.Module, several: bool):
    """The T of all layers, the gradients of the sum of their squares, and the launches of both."""
    model.zero_grad()
    with logged() as log:
        with together(model) if several else nullcontext():
            t = torch.cat([scaling(weight) for scaling, weight in _layers(model)])
        (t * t).sum().backward()
    return t.detach().cpu(), [p.grad.cpu() for p in model.parameters() if p.grad is not None], log


@pytest.mark.parametrize("family", BUDGET)
def test_twenty_blocks_launch_the_kernels_of_one(family):
    torch.manual_seed(0)
    blocks = [ResidualConv2d(9, 5, 3, FAMILIES[family]()) for _ in range(20)]
    model = nn.Sequential(*blocks).to(SIM)
    t, own, alone = gradients(model, several=False)
    same, joint, log = gradients(model, several=True)
    assert sum(log.launches.values()) <= BUDGET[family], log.launches.most_common()
    assert 10 * sum(log.launches.values()) < sum(alone.launches.values()) and not log.waits
    torch.testing.assert_close(same, t, rtol=1e-5, atol=1e-6)
    for a, b in zip(joint, own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", DENSE)
def test_dense_blocks_too(family):
    torch.manual_seed(0)
    model = nn.Sequential(*[ResidualLinear(20, 260, FAMILIES[family]()) for _ in range(7)])
    model = model.to(SIM)
    t, own, alone = gradients(model, several=False)
    same, joint, log = gradients(model, several=True)
    assert sum(log.launches.values()) <= DENSE[family], log.launches.most_common()
    assert 4 * sum(log.launches.values()) < sum(alone.launches.values()) and not log.waits
    torch.testing.assert_close(same, t, rtol=1e-5, atol=1e-6)
    for a, b in zip(joint, own, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)  # sums of 260 terms in single precision


def test_rescaled_layers_too():
    torch.manual_seed(0)
    layers = [m for _ in range(4) for m in (rescaled(nn.Conv2d(4, 4, 3, padding=1), "aol"), MaxMin())]
    model = nn.Sequential(*layers).to(SIM)
    x = torch.randn(2, 4, 6, 6).to(SIM)
    with logged() as alone:
        y = model(x)
    with logged() as log, together(model):
        z = model(x)
    ours, theirs = (
        sum(n for line, n in found.launches.items() if line.startswith("convolution/"))
        for found in (log, alone)
    )
    assert 4 * ours <= theirs
    torch.testing.assert_close(z.cpu(), y.cpu())
