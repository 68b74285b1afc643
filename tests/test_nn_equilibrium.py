"""Equilibrium layers: Jacobians and gradients, what a solver that stops early does, proven errors, radii, graphs."""

import copy
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.errors import InvalidScaling, InvalidWeight, NoEquilibrium, RefusedModule, SdplipError
from sdplip.network.file import read_network, write_network
from sdplip.network.read.torch import read_module
from sdplip.nn import EquilibriumLinear, export_plain, fixed_points, lipschitz
from sdplip.nn.slopes import UnsupportedActivation
from sdplip.robustness.arithmetic import plain_arithmetic
from sdplip.robustness.forward_error import forward_error
from sdplip.robustness.rounding_flow import Affine

pytestmark = pytest.mark.usefixtures("one_thread")
ACTIVATIONS = (nn.ReLU(), nn.LeakyReLU(0.3), nn.Tanh(), nn.Sigmoid())


def layer(n: int, hidden: int, out: int, scale: float = 1.0, **options) -> EquilibriumLinear:
    torch.manual_seed(0)
    made = EquilibriumLinear(n, hidden, out, **options)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(scale * torch.randn_like(p))
    return made


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradients_by_differences(activation):
    made = layer(2, 3, 2, activation=activation).double()
    names = [name for name, _ in made.named_parameters()]

    def f(x, *values):
        return torch.func.functional_call(made, dict(zip(names, values, strict=True)), (x,))

    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    values = [p.detach().clone().requires_grad_() for p in made.parameters()]
    assert torch.autograd.gradcheck(f, (x, *values))
    (g,) = torch.autograd.grad(made(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


@torch.no_grad()
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_outputs_solve_the_equation(activation):
    """As the graph does by a solver of its own, in double and in single precision."""
    made, x = layer(4, 9, 3, activation=activation, tolerance=1e-5).eval(), torch.randn(6, 4)
    network = read_module(made, (4,))
    W, U, _ = made.weights()
    y = made(x)
    assert y.numpy() == pytest.approx(network(x.double().numpy()), abs=1e-5)
    c = x.double() @ U.mT + made.bias.double()
    z = fixed_points.solved(W, c, made.activation)
    assert (z - made.activation(z @ W.mT + c)).abs().max() < 1e-12 * (1 + z.abs().max())


@torch.no_grad()
def test_errors_are_within_what_is_said():
    """Of a solver that is stopped early, at every number of steps: the bound of the residual holds, and a tolerance below it raises."""
    made, x = layer(4, 12, 3, scale=0.5).double().eval(), torch.randn(8, 4, dtype=torch.float64)
    W, U, G = made.weights()
    c = x @ U.mT + made.bias
    exact, z, seen = made(x), torch.zeros(8, 12, dtype=torch.float64), set()
    for k in range(60):
        w = torch.relu(z @ W.mT + c)
        error = made._error(W, U, G, x, c, z)
        off = (w @ G.mT + made.shift - exact).norm(dim=1)
        assert (off <= error + 1e-9).all()
        seen.add(bool((error <= made.tolerance).all()))
        if not bool((error <= made.tolerance).all()):
            with pytest.raises(NoEquilibrium, match="tolerance"):
                made._check(W, x, c, z)
        near = fixed_points.solved(W, c, made.activation)
        z = near + 10.0 ** (-k / 5) * torch.randn_like(z)
    assert seen == {False, True}


def test_what_is_not_reached_is_not_handed_out(monkeypatch):
    made, x = layer(4, 12, 3).eval(), torch.randn(8, 4)
    made(x)
    monkeypatch.setattr(fixed_points, "solved", lambda *given: torch.relu(given[1]))
    with pytest.raises(NoEquilibrium):
        made(x)
    with pytest.raises(NoEquilibrium):
        torch.func.vmap(lambda x: made(x[None])[0])(x)
    assert made.train()(x).isfinite().all()
    with pytest.raises(NoEquilibrium):
        made.eval()(torch.full((1, 4), torch.nan))


@torch.no_grad()
def test_proven_rounding_holds_the_tolerance():
    """Radii lose it here and at the attacked input; training mode and functions of the library have none."""
    made = layer(4, 9, 3, tolerance=1e-4).eval()
    model, x = nn.Sequential(nn.Linear(4, 4), made), torch.randn(5, 4)
    with plain_arithmetic():
        y, error, _ = forward_error(model, lipschitz(model)).flow(x, Affine(np.zeros(5), 1.0))
    assert (error.constant >= 1e-4).all() and (error.constant < 2e-4 + 1e-5).all()
    exact = copy.deepcopy(model).double()(x.double())
    assert ((y.double() - exact).norm(dim=1).numpy() <= error.constant).all()
    smaller = layer(4, 9, 3, tolerance=1e-5).eval()
    assert (
        forward_error(smaller, lipschitz(smaller)).flow(x, Affine(np.zeros(5), 1.0))[1].constant.max()
        < 1.2e-5
    )
    for refused, match in ((made.train(), "eval"), (layer(4, 9, 3, activation=nn.Tanh()).eval(), "library")):
        with pytest.raises(RefusedModule, match=match):
            forward_error(refused, lipschitz(refused))


def test_bound_of_the_layer_and_of_its_graph(tmp_path):
    """The constant of the construction; better multipliers are no looser; a file of it says the same."""
    made = layer(4, 7, 3, L=2.0, tolerance=1e-3).eval()
    network, own = read_module(made, (4,)), lipschitz(made).value
    found = bound(network)
    assert found.lower <= found.bound <= own * (1 + 1e-6) and own <= 2.0 * (1 + 1e-6)
    write_network(tmp_path / "layer.safetensors", network)
    assert bound(read_network(tmp_path / "layer.safetensors")).bound == pytest.approx(found.bound, rel=1e-9)
    mixed = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), made, nn.Linear(3, 2)).double().eval()
    whole = bound(read_module(mixed, (4,)))
    assert whole.lower <= whole.bound <= lipschitz(mixed).value * (1 + 1e-6)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
def test_compiled_networks_leave_the_layer_as_it_is():
    """In training, gradients too, and in eval mode with its guarantee; in one graph it cannot be."""
    model, x = nn.Sequential(nn.Linear(4, 4), layer(4, 7, 3), nn.ReLU()), torch.randn(5, 4)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend="aot_eager")
    for mode in (True, False):
        model.train(mode)
        model.zero_grad()
        compiled(x).sum().backward()
        found = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        model(x).sum().backward()
        torch.testing.assert_close(found, [p.grad for p in model.parameters()])
        torch.testing.assert_close(compiled(x), model(x))
    with pytest.raises(RuntimeError, match="disable"):
        torch.compile(model, backend="eager", fullgraph=True)(x)


def test_what_is_refused():
    with pytest.raises(RefusedModule, match="no plain form"):
        export_plain(layer(4, 7, 3).eval())
    for options in ({"L": 0.0}, {"tolerance": -1.0}, {"room": float("inf")}):
        with pytest.raises(InvalidScaling):
            layer(2, 3, 4, **options)
    for activation in (nn.GELU(), nn.LeakyReLU(2.0)):
        with pytest.raises(UnsupportedActivation):
            EquilibriumLinear(2, 3, 4, activation)
    with pytest.raises(InvalidWeight, match="features"):
        layer(4, 7, 3)(torch.ones(2, 5))
    stale = layer(4, 7, 3).double().eval()
    stale(torch.ones(1, 4, dtype=torch.float64))
    stale.V.data.mul_(2.0)
    with pytest.raises(RefusedModule, match="eval"):
        lipschitz(stale)
    spoilt = layer(4, 7, 3)
    spoilt.V.data.fill_(torch.nan)
    with pytest.raises(SdplipError):
        lipschitz(spoilt.eval())


@torch.no_grad()
def test_residual_blocks_as_one_equilibrium():
    """A stack of SLL blocks gives the same outputs and has the same constant; multipliers that do not fit are refused."""
    found = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "equilibrium.py"))
    torch.manual_seed(0)
    model = found["sll"](0)
    for p in model.parameters():
        p.add_(0.1 * torch.randn_like(p))
    layer, x = found["as_equilibrium"](copy.deepcopy(model)).eval(), torch.rand(5, 64)
    assert (layer(x) - model.eval()(x)).abs().max() < 1e-4
    assert lipschitz(layer).value <= 1 + 1e-6
    W, U, G = layer.weights()
    lam = layer.log_lambda.exp()
    with pytest.raises(InvalidScaling, match="least eigenvalue"):
        layer.assign(W, U, 1.1 * G, lam)
    with pytest.raises(InvalidWeight, match="other shapes"):
        layer.assign(W, U, G, lam[1:])
