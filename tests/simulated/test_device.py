"""The simulated device refuses and counts what CUDA refuses and waits for."""

import pytest
import torch

from tests.simulated.device import SIM
from tests.simulated.log import logged


def test_numbers_views_and_gradients_are_real():
    x = torch.arange(6.0).reshape(2, 3).to(SIM).requires_grad_()
    (x.mT @ x).diagonal().sum().backward()
    assert x.grad is not None and x.grad.device == SIM
    assert torch.equal(x.grad.cpu(), 2 * torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x: x @ torch.eye(3),
        lambda x: x + torch.ones(3),
        lambda x: torch.where(torch.ones(2, 3, dtype=torch.bool), x, x),
        lambda x: torch.cat([x, torch.ones(1, 3)]),
    ],
)
def test_mixed_devices_are_refused(mixed):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        mixed(torch.ones(2, 3, device=SIM))


def test_what_cuda_refuses_besides():
    x = torch.ones(2, 3, device=SIM)
    assert torch.equal((x + torch.tensor(1.0)).cpu(), torch.full((2, 3), 2.0))  # a number passes
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, generator=torch.Generator(), device=SIM)
    with pytest.raises(RuntimeError, match="ordinal"):
        torch.zeros(3, device=torch.device("sim", 1))


WAITS = {
    "number": lambda x: float(x.sum()),
    "decision": lambda x: bool(x.any()),
    "mask": lambda x: x[x > 0],
    "places": lambda x: x.nonzero(),
    "to the host": lambda x: x.cpu(),
    "from the host": lambda _: torch.ones(3).to(SIM),
    "index from the host": lambda x: x[torch.tensor([0, 1])],
    "list": lambda x: x.tolist(),
}


@pytest.mark.parametrize("wait", WAITS)
def test_waits_are_counted(wait):
    x = torch.ones(2, 3, device=SIM)
    with logged() as log:
        WAITS[wait](x)
    assert sum(log.waits.values()) == 1


def test_nothing_else_waits():
    x, y = torch.ones(2, 3, device=SIM), torch.ones(2, 3)
    with logged() as log:
        z = (x @ x.mT).relu().sum(0)
        torch.where(z > 1, z, -z).argmax()
        y.to(SIM, non_blocking=True)
        assert (x.double() @ x.double().mT).dtype == torch.float64
    assert not log.waits and sum(log.wide.values()) == 1
    assert sum(log.launches.values()) >= 5
