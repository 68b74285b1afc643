"""Laws of the SDP's own scaling in training: valid at every step, near the optimum after a solution."""

import itertools

import pytest
import torch

from sdplip.errors import UnsupportedConvolution
from sdplip.nn import Optimal, ResidualConv2d, ResidualLinear, lipschitz
from sdplip.solvers import MinTrace, solve

torch.set_num_threads(1)


def layer(every: int = 3) -> ResidualLinear:
    torch.manual_seed(0)
    return ResidualLinear(12, 8, Optimal(every=every, iterations=10))


def test_after_a_solution_t_is_the_optimum():
    block = layer()
    t = block.t.detach().double()
    best = solve(MinTrace(block.weight.detach().double().mT.numpy())).objective
    # the gap of the solver is 1e-4, Gram iteration lies up to 8 ** (2 ** -11) - 1 = 1e-3 above, the rest is single precision
    assert best * (1 - 1e-6) <= float(t.sum()) <= best * 1.002


@pytest.mark.parametrize("training", [True, False])
def test_every_step_is_certified_and_states_resume(training):
    block = layer()
    optimiser = torch.optim.SGD(block.parameters(), lr=0.3)
    solved = []
    for _ in range(7):
        optimiser.zero_grad()
        block(torch.randn(5, 12)).square().sum().backward()
        solved.append(block.scaling.get_buffer("optimum").clone())
        optimiser.step()
        assert float(lipschitz(block.train(training))) <= 1 + 1e-5  # of the weights after the step
        block.train()
    changes = [not torch.equal(a, b) for a, b in itertools.pairwise(solved)]
    steps = int(block.scaling.get_buffer("steps"))
    assert any(changes) and steps >= 7
    again = layer()
    again.load_state_dict(block.state_dict())
    assert torch.equal(again.eval().t, block.eval().t)


def test_convolutions_are_refused():
    with pytest.raises(UnsupportedConvolution, match="dense"):
        ResidualConv2d(3, 4, 3, Optimal()).t  # noqa: B018
    with pytest.raises(ValueError, match="every"):
        Optimal(every=0)
