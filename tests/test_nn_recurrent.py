"""The recurrent layer: constants of many steps by hand, worst sequences, refusals; the learned scale."""

import pytest
import torch
from torch import nn

from sdplip.errors import InvalidWeight, RefusedModule
from sdplip.nn import BoundedScale, Recurrent, lipschitz, rescaled

torch.set_num_threads(1)


def test_states_by_hand():
    """M = (0.6, 0.8): h_t = relu(0.6 x_t + 0.8 h_{t-1})."""
    layer = Recurrent(1, 1, nn.ReLU()).double()
    layer.cell.weight = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    with torch.no_grad():
        layer.cell.bias.zero_()
    x = torch.tensor([1.0, 0.5, -2.0], dtype=torch.float64).reshape(1, 3, 1)
    expected = [0.6, 0.3 + 0.8 * 0.6, max(0, -1.2 + 0.8 * 0.78)]
    layer.all_states = True
    torch.testing.assert_close(layer(x).flatten(), torch.tensor(expected, dtype=torch.float64))
    layer.all_states = False
    assert float(layer(x).detach()) == pytest.approx(expected[-1])


@pytest.mark.parametrize("time", [1, 2, 9])
def test_the_last_state_never_stretches_the_sequence(time):
    torch.manual_seed(time)
    layer = Recurrent(3, 6).double().eval()
    x = torch.randn(30, time, 3, dtype=torch.float64)
    J = torch.func.vmap(torch.func.jacrev(lambda s: layer(s[None])[0]))(x).flatten(2)
    assert torch.linalg.matrix_norm(J, 2).max() <= lipschitz(layer, input_shape=(time, 3)).value <= 1 + 1e-11
    layer.all_states = True
    J = torch.func.vmap(torch.func.jacrev(lambda s: layer(s[None])[0].flatten()))(x).flatten(2)
    assert torch.linalg.matrix_norm(J, 2).max() <= lipschitz(layer, input_shape=(time, 3)).value
    assert lipschitz(layer, input_shape=(time, 3)).value == pytest.approx(time**0.5, rel=1e-11)


def test_steps_that_stretch_are_counted():
    """A step of the constant 2, by hand: M = (0, 2) passes the state on; T steps and all states."""
    layer = Recurrent(1, 1, nn.Identity()).double()
    torch.nn.utils.parametrize.remove_parametrizations(layer.cell, "weight")
    with torch.no_grad():
        layer.cell.weight.copy_(torch.tensor([[2.0, 0.0]]))
    assert lipschitz(layer, input_shape=(3, 1)).value == pytest.approx(8, rel=1e-11)
    layer.all_states = True
    assert lipschitz(layer, input_shape=(3, 1)).value == pytest.approx(2 * (1 + 4 + 16) ** 0.5, rel=1e-11)
    with pytest.raises(RefusedModule, match="number of steps"):
        lipschitz(layer)
    layer.all_states, layer.cell = False, rescaled(nn.Linear(2, 1)).double()
    assert lipschitz(nn.Sequential(layer, nn.Flatten()), input_shape=(50, 1)).value <= 1 + 1e-10


def test_a_contracting_cell_has_one_constant_for_all_lengths():
    """By hand: M = (0, 1) passes on nothing, M = (1, 0) adds nothing; 1 + 1/4 + 1/16 for three steps, 4/3 for all."""
    torch.manual_seed(0)
    layer = Recurrent(3, 6, decay=0.5, all_states=True).double().eval()
    assert lipschitz(layer, input_shape=(3, 3)).value == pytest.approx((1 + 1 / 4 + 1 / 16) ** 0.5, rel=1e-11)
    whole = lipschitz(layer).value
    assert whole == pytest.approx((4 / 3) ** 0.5, rel=1e-11)
    for time in (1, 5, 30):
        x = torch.randn(5, time, 3, dtype=torch.float64)
        J = torch.func.vmap(torch.func.jacrev(lambda s: layer(s[None])[0].flatten()))(x).flatten(2)
        assert torch.linalg.matrix_norm(J, 2).max() <= lipschitz(layer, input_shape=(time, 3)).value <= whole
    worst = Recurrent(1, 1, nn.Identity(), decay=0.5).double()
    torch.nn.utils.parametrize.remove_parametrizations(worst.cell, "weight")
    with torch.no_grad():
        worst.cell.weight.copy_(torch.tensor([[0.0, 4.0]]))  # doubles a state, and no input reaches it
    assert lipschitz(worst, input_shape=(4, 1)).value == pytest.approx(4 * 2**3, rel=1e-11)
    with pytest.raises(RefusedModule, match="below 1"):
        lipschitz(worst)


def test_what_is_refused():
    with pytest.raises(InvalidWeight, match="no weight"):
        Recurrent(0, 2)
    with pytest.raises(InvalidWeight, match="decay"):
        Recurrent(2, 2, decay=1.5)
    for shape in ((2, 3), (2, 3, 4), (2, 0, 3)):
        with pytest.raises(InvalidWeight, match="takes sequences"):
            Recurrent(3, 4)(torch.zeros(shape))
    for most, start in ((1.0, 1.0), (0.0, None), (float("inf"), 1.0)):
        with pytest.raises(ValueError, match="below `most`"):
            BoundedScale(most, start)


def test_the_scale_stays_below_its_bound():
    scale = BoundedScale(3.0, -1.5)
    assert float(lipschitz(scale)) == pytest.approx(1.5, rel=1e-6)
    with torch.no_grad():
        scale.theta.fill_(100.0)
    assert float(lipschitz(scale)) == 3.0
