"""Laws of rescaled and residual layers: the exact norm of the map that really runs, and gradients, dtypes, caches, transforms."""

import copy
import itertools
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap
from torch.nn.utils import parametrize

from sdplip import scalings
from sdplip.convolution import dense_matrix
from sdplip.errors import InvalidScaling, InvalidWeight, UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.nn import (
    AOL,
    SLL,
    MultiStep,
    PadChannels,
    ResidualConv1d,
    ResidualConv2d,
    ResidualConv3d,
    ResidualLinear,
    Spectral,
    UnsupportedActivation,
    lipschitz,
    rescaled,
    rowsums,
    slopes,
)
from sdplip.nn.rescaled import geometry_of

torch.set_num_threads(1)

SCALINGS = ("spectral", "aol", "sll", "multi_step")
every_scaling = pytest.mark.parametrize("scaling", SCALINGS)

LINEAR = {  # wide outputs: narrow ones hide padding bugs
    "Linear": (lambda: nn.Linear(6, 20), (6,)),
    "Linear narrow": (lambda: nn.Linear(20, 6), (20,)),
    "Conv1d": (lambda: nn.Conv1d(3, 15, 4, padding=2), (3, 9)),
    "Conv1d same": (lambda: nn.Conv1d(3, 15, 4, padding="same", padding_mode="circular"), (3, 9)),
    "Conv2d": (lambda: nn.Conv2d(2, 20, 3, padding=1), (2, 4, 5)),
    "Conv2d valid": (lambda: nn.Conv2d(2, 20, 3, padding="valid"), (2, 4, 5)),
    "Conv3d": (lambda: nn.Conv3d(2, 20, (2, 3, 2), padding=1), (2, 2, 3, 2)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 4, stride=3, output_padding=1), (4, 5)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2, dilation=2), (4, 4, 3)),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(2, 5, 2, padding=1), (2, 2, 3, 2)),
}
"""Layers of torch for statement 1, each with the shape of one input."""

CIRCULAR = Geometry(padding_mode="circular")
RESIDUAL = {
    "linear": (lambda s, **k: ResidualLinear(8, 5, s, **k), (8,)),
    "linear wide": (lambda s, **k: ResidualLinear(5, 12, s, **k), (5,)),
    "conv1d": (lambda s, **k: ResidualConv1d(2, 5, 4, s, **k), (2, 9)),
    "conv1d circular": (lambda s, **k: ResidualConv1d(2, 5, 4, s, geometry=CIRCULAR, **k), (2, 9)),
    "conv2d": (lambda s, **k: ResidualConv2d(4, 6, 3, s, **k), (4, 4, 3)),
    "conv2d strided": (
        lambda s, **k: ResidualConv2d(4, 6, (3, 2), s, geometry=Geometry(2, groups=2, dilation=2), **k),
        (4, 4, 3),
    ),
    "conv2d circular": (
        lambda s, **k: ResidualConv2d(3, 6, 3, s, geometry=Geometry(2, "circular", 1), **k),
        (3, 4, 4),
    ),
    "conv3d": (lambda s, **k: ResidualConv3d(1, 4, 2, s, **k), (1, 3, 3, 4)),
}
"""Statement 2 as functions of the scaling, each with the shape of one input."""


def build(family, name, scaling, seed=0, **options):
    torch.manual_seed(seed)
    make, shape = family[name]
    layer = rescaled(make(), scaling) if family is LINEAR else make(scaling, **options)
    randomise(layer)
    return layer, shape


def randomise(layer):
    """Weights and SLL weights that are not those of the initialisation."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (1.5 if "log_q" in name else 0.7))


def cases():
    return [(f, name) for f in (LINEAR, RESIDUAL) for name in f]


every_layer = pytest.mark.parametrize(
    ("family", "name"), cases(), ids=[("rescaled " if f is LINEAR else "residual ") + n for f, n in cases()]
)


def matrix(f, shape, dtype=torch.double):
    """Exact matrix of a linear map on one image: its values on the unit images."""
    units = torch.eye(math.prod(shape), dtype=dtype).reshape(-1, *shape)
    return f(units).flatten(1).detach().double().numpy().T


def linear_part(layer, shape, dtype=torch.double):
    zero = layer(torch.zeros(1, *shape, dtype=dtype))
    return matrix(lambda x: layer(x) - zero, shape, dtype)


def all_active(layer, shape, dtype=torch.double):
    """Matrix of a residual layer where every unit has the largest slope: the worst case of a wrong T."""
    beta, step = slopes(layer.activation)[1], layer.step().reshape(-1, *(1,) * layer.axes)
    zero = layer.analysis(torch.zeros(1, *shape, dtype=dtype))

    def f(x):
        return layer.h * x - layer.adjoint(beta * step * (layer.analysis(x) - zero), shape[1:])

    return matrix(f, shape, dtype)


def norms(layer, family, shape, dtype=torch.double):
    """Exact Lipschitz constants of the layer: of its linear map, or of its pieces at random points and all active."""
    if family is LINEAR:
        return [np.linalg.norm(linear_part(layer, shape, dtype), 2)]
    points = torch.randn(2, *shape, dtype=dtype)
    points[1] *= 10
    jacobians = vmap(jacrev(lambda x: layer(x[None])[0]))(points).reshape(2, math.prod(shape), -1)
    found = [*jacobians.detach().double().numpy(), all_active(layer, shape, dtype)]
    return [np.linalg.norm(J, 2) for J in found]


def bound(layer, family):
    return 1.0 if family is LINEAR else layer.L


TOLERANCE = {  # rounding of t and of the rescaled weight: sums of some hundred products
    torch.float64: 1e-12,
    torch.float32: 1e-6,
}


@every_scaling
@every_layer
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_layer_keeps_its_bound(family, name, scaling, dtype):
    layer, shape = build(family, name, scaling)
    layer.to(dtype)
    assert max(norms(layer, family, shape, dtype)) <= bound(layer, family) + TOLERANCE[dtype]
    for parameter in layer.parameters():  # signs under which every product of taps adds up
        torch.nn.init.ones_(parameter)
    assert max(norms(layer, family, shape, dtype)) <= bound(layer, family) + TOLERANCE[dtype]


@every_scaling
@every_layer
def test_the_bound_survives_wild_training_steps(family, name, scaling):
    layer, shape = build(family, name, scaling)
    layer.double()
    optimiser = torch.optim.SGD(layer.parameters(), lr=30.0)
    for _ in range(4):
        optimiser.zero_grad()
        x = torch.randn(5, *shape, dtype=torch.double)
        (layer(x) - 3).square().mean().backward()
        optimiser.step()
    assert max(norms(layer.eval(), family, shape)) <= bound(layer, family) + 1e-12


@every_scaling
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("taps", [1, 2, 3, 4])
def test_every_geometry(taps, groups, scaling):
    for stride, dilation, mode in itertools.product((1, 2), (1, 2), ("zeros", "circular")):
        padding = dilation * (taps - 1) // 2
        torch.manual_seed(0)
        conv = nn.Conv2d(2, 12, taps, stride, padding, dilation, groups, padding_mode=mode).double()
        geometry, form = geometry_of(conv)
        layer = rescaled(conv, scaling)
        shape = (2, 6, 4)
        C = linear_part(layer, shape)
        if (stride, groups) == (2, 2):  # the map that runs is the one that the kernel proves
            K = layer.weight.detach().numpy()
            np.testing.assert_allclose(C, dense_matrix(K, geometry, shape[1:]), atol=1e-12)
        assert form == "linear" and np.linalg.norm(C, 2) <= 1 + 1e-12
        for pad in (padding, None):
            block = ResidualConv2d(
                2, 6, taps, scaling, geometry=Geometry(stride, mode, pad, dilation, groups), h=-0.5, L=2.0
            )
            assert np.linalg.norm(all_active(block.double(), shape), 2) <= 2 + 1e-12


@every_scaling
def test_the_bound_is_attained(scaling):
    """One hidden unit makes T the squared norm: the residual layer is a reflection when active, the rescaled one an isometry."""
    torch.manual_seed(0)
    J = all_active(ResidualLinear(4, 1, scaling).double(), (4,))
    np.testing.assert_allclose(np.linalg.eigvalsh(J), [-1, 1, 1, 1], atol=1e-12)
    column = linear_part(rescaled(nn.Linear(1, 4), scaling).double(), (1,))
    np.testing.assert_allclose(np.linalg.norm(column), 1, rtol=1e-12)


def test_one_block_computed_by_hand():
    block = ResidualLinear(2, 1, "aol").double()
    with torch.no_grad():
        block.weight.copy_(torch.tensor([[3.0, 4.0]]))
        block.bias.copy_(torch.tensor([5.0]))
    x = torch.tensor([[1.0, 2.0]], dtype=torch.double)  # W'x + b = 16, t = 25
    torch.testing.assert_close(block(x), torch.tensor([[1 - 2 * 3 * 16 / 25, 2 - 2 * 4 * 16 / 25]]).double())
    block.h, block.L = 0.5, 2.0
    torch.testing.assert_close(block(x), torch.tensor([[0.5 - 2.5 * 48 / 25, 1 - 2.5 * 64 / 25]]).double())


@pytest.mark.parametrize(
    "activation",
    [
        nn.ReLU(),
        nn.LeakyReLU(0.3),
        nn.LeakyReLU(2.0),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.Softplus(3.0),
        nn.ELU(),
        nn.ELU(1.7),
        nn.CELU(0.5),
        nn.SELU(),
        nn.Hardtanh(),
        nn.Hardsigmoid(),
        nn.ReLU6(),
        nn.Softsign(),
        nn.LogSigmoid(),
        nn.Tanhshrink(),
        nn.Softshrink(),
        nn.Identity(),
    ],
    ids=str,
)
def test_slopes_and_steps_of_activations(activation):
    s = torch.linspace(-9, 9, 40001, dtype=torch.double)
    quotients = activation(s).diff() / s.diff()
    least, beta = slopes(activation)
    assert least - 1e-9 <= quotients.min() and quotients.max() <= beta + 1e-9
    assert quotients.max() >= 0.99 * beta  # beta is not needlessly large: the step is 2 / beta
    torch.manual_seed(0)
    for h, L in ((1.0, 1.0), (0.0, 1.0), (-0.7, 1.5)):
        block = ResidualLinear(3, 1, "spectral", activation, h=h, L=L).double()
        x = 3 * torch.randn(500, 3, dtype=torch.double)
        J = vmap(jacrev(lambda x, block=block: block(x)))(x)
        largest = torch.linalg.matrix_norm(J, 2).max()
        assert largest <= L + 1e-7  # torch differentiates Hardsigmoid with a single precision 1/6
        np.testing.assert_allclose(np.linalg.norm(all_active(block, (3,)), 2), L, rtol=1e-9)


@pytest.mark.parametrize("family", ["dense", "conv"])
def test_q_is_a_gauge_for_relu_only(family):
    torch.manual_seed(0)
    for activation, equal in ((nn.ReLU(), True), (nn.LeakyReLU(0.1), True), (nn.Tanh(), False)):
        make = (
            (lambda a: ResidualLinear(6, 4, "sll", a))
            if family == "dense"
            else (lambda a: ResidualConv2d(3, 4, 3, "sll", a))
        )
        block = make(activation).double()
        randomise(block)
        other = copy.deepcopy(block)
        q = block.scaling.log_q.detach().exp()
        with torch.no_grad():
            other.weight.mul_(q.reshape(-1, *(1,) * (block.weight.ndim - 1)))
            other.bias.mul_(q)
            other.scaling.log_q.zero_()
        x = torch.randn(2, *((6,) if family == "dense" else (3, 5, 5)), dtype=torch.double)
        assert torch.allclose(block(x), other(x), rtol=0, atol=1e-12) == equal


@every_layer
def test_q_really_acts(family, name):
    layer, shape = build(family, name, "sll")
    layer.double()
    layer(torch.randn(4, *shape, dtype=torch.double)).square().sum().backward()
    (log_q,) = [p for n, p in layer.named_parameters() if n.endswith("log_q")]
    assert (abs(log_q.grad) > 1e-9).any() and torch.isfinite(log_q.grad).all()


@pytest.mark.parametrize("name", RESIDUAL)
def test_the_adjoint_is_the_adjoint(name):
    layer, shape = build(RESIDUAL, name, "aol")
    layer.double()
    x = torch.randn(2, *shape, dtype=torch.double)
    Cx = layer.analysis(x) - layer.analysis(torch.zeros_like(x))
    y = torch.randn_like(Cx)
    torch.testing.assert_close((Cx * y).sum(), (x * layer.adjoint(y, shape[1:])).sum())


@every_scaling
@every_layer
def test_zero_units_have_finite_gradients(family, name, scaling):
    layer, shape = build(family, name, scaling)
    raw = max(layer.parameters(), key=lambda p: p.ndim)
    for zero in (slice(0, 1), slice(None)):
        with torch.no_grad():
            raw[zero] = 0
            raw.transpose(0, 1)[zero] = 0
        x = torch.randn(2, *shape, requires_grad=True)
        layer.zero_grad()
        y = layer(x)
        y.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in (x, *layer.parameters()) if p.grad is not None)
        assert torch.isfinite(y).all()


@every_scaling
@every_layer
def test_dtypes(family, name, scaling):
    layer, shape = build(family, name, scaling)
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        layer.to(dtype)
        y = layer(torch.randn(2, *shape, dtype=dtype))
        y.sum().backward()
        assert y.dtype == dtype and all(
            p.grad.dtype == dtype for p in layer.parameters() if p.grad is not None
        )
        scaling_module = layer.parametrizations.weight[0].scaling if family is LINEAR else layer.scaling
        raw = layer.parametrizations.weight.original if family is LINEAR else layer.weight
        assert scaling_module(raw).dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        layer.zero_grad(set_to_none=True)


@every_layer
def test_autocast_never_lowers_t(family, name):
    layer, shape = build(family, name, "sll")
    module = layer.parametrizations.weight[0].scaling if family is LINEAR else layer.scaling
    raw = layer.parametrizations.weight.original if family is LINEAR else layer.weight
    x, before, effective = torch.randn(2, *shape), module(raw), layer.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(module(raw), before) and torch.equal(layer.weight, effective)
        y = layer(x)
    assert torch.isfinite(y).all()
    layer.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the cache is filled under autocast
        layer(x)
    assert torch.equal(module(raw), before)


def changes(layer, scaling, raw):
    """Everything that changes a weight and that PyTorch records."""
    other = {k: v + 0.5 for k, v in layer.state_dict().items()}
    yield "in place", lambda: raw.mul_(2).add_(0.3)
    yield "data", lambda: setattr(raw, "data", raw.data + 0.1)
    yield "data again", lambda: setattr(raw, "data", raw.data + 0.2)
    yield "load", lambda: layer.load_state_dict(other)
    yield "load assign", lambda: layer.load_state_dict({k: v + 1 for k, v in other.items()}, assign=True)
    yield "double", lambda: layer.double()
    yield "float", lambda: layer.float()
    yield "q", lambda: [p.add_(torch.arange(len(p))) for p in scaling.parameters()]
    yield "swap", lambda: raw.set_((raw + 1).clone())


@pytest.mark.parametrize("scaling", ["spectral", "sll"])
@every_layer
def test_caches_are_never_stale(family, name, scaling):
    layer, shape = build(family, name, scaling)
    layer.eval()
    x = torch.randn(2, *shape)
    parts = layer.parametrizations.weight if family is LINEAR else layer
    module = parts[0].scaling if family is LINEAR else parts.scaling
    with torch.no_grad():
        layer(x)
        n = len(list(changes(layer, module, parts.original if family is LINEAR else parts.weight)))
        for i in range(n):
            raw = parts.original if family is LINEAR else parts.weight
            what, change = list(changes(layer, module, raw))[i]
            change()
            raw = parts.original if family is LINEAR else parts.weight
            y = layer(x.to(raw.dtype))
            fresh = copy.deepcopy(layer).train()  # no cache in training
            torch.testing.assert_close(y, fresh(x.to(raw.dtype)), rtol=0, atol=0, msg=what)


@every_layer
def test_t_is_computed_once_in_eval(family, name, monkeypatch):
    layer, shape = build(family, name, "aol")
    x, count = torch.randn(2, *shape), []
    compute = AOL.compute
    monkeypatch.setattr(AOL, "compute", lambda *a: count.append(1) or compute(*a))
    layer(x), layer(x)
    assert len(count) == 2
    layer.eval()
    with torch.inference_mode():
        layer(x), layer(x)
    with torch.no_grad():
        y = layer(x)
    layer(x), vmap(lambda x: layer(x[None])[0])(x), copy.deepcopy(layer).train()
    assert len(count) == 3
    layer.eval()
    layer(x)
    assert len(count) == 4
    torch.testing.assert_close(layer.train()(x), y, rtol=0, atol=0)


@every_layer
def test_gradients_of_the_cache_are_those_of_training(family, name):
    layer, shape = build(family, name, "sll")
    layer.double()
    x = torch.randn(3, *shape, dtype=torch.double)

    def gradients():
        layer.zero_grad()
        layer(x).square().sum().backward()
        return [p.grad.clone() for p in layer.parameters()]

    expected = gradients()
    layer.eval()
    for _ in range(2):  # the second time from the cache
        for a, b in zip(gradients(), expected, strict=True):
            torch.testing.assert_close(a, b)
    parameters = [p for p in layer.parameters() if p.ndim > 1]
    (first,) = torch.autograd.grad(layer(x).square().sum(), parameters, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), parameters)
    layer.train()
    (first,) = torch.autograd.grad(layer(x).square().sum(), parameters, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(first.square().sum(), parameters)[0])


@every_layer
def test_transforms_copies_and_files(family, name):
    layer, shape = build(family, name, "sll")
    layer.double()
    x = torch.randn(3, *shape, dtype=torch.double)
    parameters = dict(layer.named_parameters())
    for mode in (True, False):
        layer.train(mode)
        y = layer(x).detach()
        torch.testing.assert_close(vmap(lambda x: layer(x[None])[0])(x), y)
        torch.testing.assert_close(functional_call(layer, parameters, (x,)), y)
        torch.testing.assert_close(copy.deepcopy(layer)(x), y)
        J = jacrev(lambda x: layer(x[None])[0])(x[0])
        J2 = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0], x[0])
        torch.testing.assert_close(J, J2)
        stacked = {k: torch.stack([v, 2 * v + 0.1]).detach() for k, v in parameters.items()}
        ensemble = vmap(lambda p: functional_call(layer, p, (x,)))(stacked)
        second = functional_call(layer, {k: v[1] for k, v in stacked.items()}, (x,))
        torch.testing.assert_close(ensemble[1], second)
        grad = torch.func.grad(lambda p: functional_call(layer, p, (x,)).square().sum())(parameters)
        layer.zero_grad()
        layer(x).square().sum().backward()
        for k, v in parameters.items():
            torch.testing.assert_close(grad[k], v.grad)
        torch.testing.assert_close(layer(x).detach(), y)  # no transform left its tensors in the cache
    other, _ = build(family, name, "sll", seed=1)
    other.double().eval()(x)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), layer(x))
    if family is RESIDUAL:  # torch refuses to pickle parametrized modules
        torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
def test_compiled_layers_agree():
    torch.manual_seed(0)
    layer = nn.Sequential(ResidualLinear(6, 4, "sll"), rescaled(nn.Linear(6, 8), "aol"), nn.ReLU())
    x = torch.randn(3, 6)
    for mode in (True, False):
        layer.train(mode)
        expected = layer(x)
        torch._dynamo.reset()
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)
        layer.zero_grad()
        compiled(x).sum().backward()
        found = [p.grad.clone() for p in layer.parameters()]
        layer.zero_grad()
        layer(x).sum().backward()
        for a, b in zip(found, [p.grad for p in layer.parameters()], strict=True):
            torch.testing.assert_close(a, b)
        with torch.no_grad():
            layer[0].weight.mul_(1.5)
        torch.testing.assert_close(compiled(x), layer(x))


SPECTRAL = {
    "residual": lambda: ResidualConv2d(4, 6, 3, "spectral"),
    "rescaled": lambda: rescaled(nn.Conv2d(4, 8, 3, padding=1, groups=2), "spectral"),
    "rescaled strided": lambda: rescaled(nn.Conv2d(4, 3, 3, 2, padding=1), Spectral(iterations=2)),
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs a C++ compiler")
@pytest.mark.parametrize("name", SPECTRAL)
def test_the_search_for_a_frequency_is_one_operation_of_torch(name):
    """Numbers decide how much of it is computed, in ensembles of weights and in compiled graphs too."""
    torch.manual_seed(0)
    layer, x = SPECTRAL[name]().double(), torch.randn(2, 4, 5, 5, dtype=torch.double)
    parameters = dict(layer.named_parameters())

    def loss(p):
        return functional_call(layer, p, (x,)).square().sum()

    stacked = {k: torch.stack([v, 2 * v + 0.1]).detach() for k, v in parameters.items()}
    grad = torch.func.grad(loss)
    each = [grad({k: v[i] for k, v in stacked.items()}) for i in range(2)]
    for k, v in vmap(grad)(stacked).items():
        torch.testing.assert_close(v, torch.stack([each[0][k], each[1][k]]))
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    compiled(x).square().sum().backward()
    for k, v in parameters.items():
        torch.testing.assert_close(v.grad, each[0][k])


REPRODUCED = {"Linear", "Conv1d", "Conv1d same", "Conv2d", "Conv2d valid", "Conv3d", "ConvTranspose2d"}


@pytest.mark.parametrize("scaling", ["aol", "sll"])
@pytest.mark.parametrize("name", LINEAR)
def test_assigned_weights_come_back_parallel(name, scaling):
    layer, shape = build(LINEAR, name, scaling)
    layer.double()
    with torch.no_grad():
        possible = layer.weight.clone()
        layer.weight = possible
        torch.testing.assert_close(layer.weight, possible, rtol=1e-7, atol=1e-7)
        layer.weight = 3 * possible
        torch.testing.assert_close(layer.weight, possible, rtol=1e-7, atol=1e-7)
        if (
            type(geometry := layer.parametrizations.weight[0].scaling.geometry) is not Geometry
            or geometry.groups == 1
        ):
            wanted = torch.randn_like(possible)
            layer.weight = wanted  # a grouped layer is scaled within each group
            c = (layer.weight / wanted).flatten()
            torch.testing.assert_close(c, c[0].expand_as(c), rtol=1e-7, atol=0)
            assert (np.linalg.norm(linear_part(layer, shape), 2)) <= 1 + 1e-12


@every_scaling
def test_orthonormal_columns_are_assigned_exactly(scaling):
    Q = torch.linalg.qr(torch.randn(9, 4, dtype=torch.double))[0]
    layer = rescaled(nn.Linear(4, 9).double(), scaling)
    layer.weight = Q
    slack = 4 ** (1 / 2**9) if scaling == "spectral" else 1  # Frobenius norm after seven squarings
    torch.testing.assert_close(layer.weight, Q / slack)
    assert parametrize.is_parametrized(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    torch.testing.assert_close(layer.weight.detach(), Q / slack)


def test_refresh_every_third_step():
    torch.manual_seed(0)
    layer = ResidualLinear(5, 4, SLL(refresh_every=3))
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    ages = []
    for _ in range(7):
        t = layer.t
        ages.append(t.requires_grad)
        optimiser.zero_grad()
        (layer.adjoint(layer.analysis(torch.randn(2, 5)) / t)).square().sum().backward()
        optimiser.step()
    assert ages == [True] * 7  # between two computations t grows with the weight
    now = scalings.gershgorin(layer.weight.mT, layer.scaling.log_q.exp())
    assert not torch.allclose(layer.t, now)
    layer.eval()
    torch.testing.assert_close(layer.t, now)  # what is proven and reported is never old
    layer.train()
    assert layer.t.requires_grad


@pytest.mark.parametrize("kind", [SLL, AOL, Spectral, MultiStep])
@pytest.mark.parametrize(
    "make",
    [
        lambda scaling: ResidualLinear(5, 4, scaling),
        lambda scaling: ResidualConv2d(3, 4, 3, scaling),
        lambda scaling: ResidualConv2d(4, 4, 3, scaling, geometry=Geometry(groups=2)),
    ],
)
def test_t_between_two_computations_grows_with_the_weight(kind, make):
    torch.manual_seed(0)
    layer = make(kind(refresh_every=3))
    t = layer.t
    with torch.no_grad():
        layer.weight *= 1.5
    later = layer.t
    torch.testing.assert_close(later, 1.5**2 * t)
    (slope,) = torch.autograd.grad(later.sum(), layer.weight)
    torch.testing.assert_close((slope * layer.weight).sum(), 2 * later.sum())  # Euler, degree 2
    layer.weight.requires_grad_(False)
    layer.train()
    torch.testing.assert_close((layer.t, layer.t)[1], layer.t)


def test_spectral_t_follows_another_top_direction():
    layer = ResidualLinear(2, 2, Spectral(iterations=12, refresh_every=1000))
    layer.weight = nn.Parameter(torch.tensor([[2.0, 0.0], [0.1, 1.0]]))
    before = layer.t
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0.0], [0.1, 2.0]]))
    for _ in range(60):
        later = layer.t
    assert before[0].item() == pytest.approx(
        torch.linalg.matrix_norm(torch.tensor([[2.0, 0.0], [0.1, 1.0]]), 2).square().item(), rel=1e-3
    )
    torch.testing.assert_close(
        later, torch.linalg.matrix_norm(layer.weight, 2).square().expand(2), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_spectral_t_of_a_convolution_follows_its_norm_to_second_order(groups):
    torch.manual_seed(0)
    layer = ResidualConv2d(
        4, 4, 3, Spectral(iterations=12, refresh_every=1000), geometry=Geometry(groups=groups)
    ).double()
    t, step = layer.t.detach(), torch.randn_like(layer.weight)
    errors, changes = [], []
    for size in (1e-4, 5e-5):
        with torch.no_grad():
            layer.weight += size * step
        later = layer.t.detach()
        now = layer.scaling.compute(layer.weight).detach()
        errors.append((later - now).abs().max().item())
        changes.append((now - t).abs().max().item())
        with torch.no_grad():
            layer.weight -= size * step
    assert errors[0] < 0.02 * changes[0]
    assert 3 * errors[1] < errors[0]  # a fourth of it at half of the step


def test_lazy_t_of_a_zero_weight_stays_finite():
    for layer in (
        ResidualLinear(3, 2, SLL(refresh_every=2)),
        ResidualLinear(3, 2, Spectral(refresh_every=2)),
        ResidualConv2d(3, 2, 3, Spectral(refresh_every=2)),
    ):
        nn.init.zeros_(layer.weight)
        for _ in range(2):
            assert layer.t.isfinite().all()


@pytest.mark.parametrize("shape", [(5, 9), (12, 7), (3, 1), (4, 8)])
def test_fast_row_sums_are_the_formula(shape):
    torch.manual_seed(0)
    W = torch.randn(shape, dtype=torch.double)
    W[:, -1] = 0
    W.requires_grad_()
    q = torch.rand(shape[1], dtype=torch.double) + 0.1
    q.requires_grad_()
    g = torch.randn(shape[1], dtype=torch.double)
    for block in (1, 3, 4):
        fast, plain = rowsums.gershgorin(W, q, block=block), scalings.gershgorin(W, q)
        torch.testing.assert_close(fast, plain)
        for a, b in zip(
            torch.autograd.grad(fast, (W, q), g),
            torch.autograd.grad(plain, (W, q), g, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b)
        torch.testing.assert_close(rowsums.gershgorin(W, None, block=block), scalings.aol(W))
    coarse = rowsums.gershgorin(W, q, gradient_dtype=torch.bfloat16, block=3)
    assert torch.equal(
        coarse, rowsums.gershgorin(W, q, block=3)
    )  # only the gradient is rounded, by 2**-9 a factor
    if shape[1] > 3:
        dW, exact = torch.autograd.grad(coarse, W, g)[0], torch.autograd.grad(plain, W, g)[0]
        assert 0 < (dW - exact).norm() < 2**-7 * exact.norm()
        rounded = rowsums.gershgorin(
            W, q, product_dtype=torch.bfloat16, block=3
        )  # factors and product: 2**-9 each
        assert 0 < (rounded - plain).norm() < 2**-7 * plain.norm()
        assert 0 < (torch.autograd.grad(rounded, W, g)[0] - exact).norm() < 2**-5 * exact.norm()
    V = torch.randn(shape, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda V, q: rowsums.gershgorin(V, q, block=2), (V, q))
    batch = torch.randn(2, *shape, dtype=torch.double)
    torch.testing.assert_close(
        vmap(lambda W: rowsums.gershgorin(W, q, block=2))(batch), scalings.gershgorin(batch, q)
    )
    J = jacrev(lambda W: rowsums.gershgorin(W, q, block=2))(V)
    torch.testing.assert_close(J, jacrev(lambda W: scalings.gershgorin(W, q))(V))


@pytest.mark.parametrize("shape", [(5, 9), (9, 8), (3, 1), (2, 6, 7)])
def test_half_a_gram_matrix_is_mirrored(shape):
    torch.manual_seed(0)
    W = torch.randn(shape, dtype=torch.double)
    for block in (1, 2, 4, 20):
        torch.testing.assert_close(rowsums.half_gram(W, block), W.mT @ W)


def test_fast_row_sums_of_several_matrices_at_once():
    torch.manual_seed(0)
    W, q = torch.randn(2, 5, 9, dtype=torch.double), torch.rand(2, 9, dtype=torch.double) + 0.1
    g, inputs = torch.randn(2, 9, dtype=torch.double), (W.requires_grad_(), q.requires_grad_())
    for block in (2, 8):
        fast, plain = rowsums.gershgorin(W, q, block=block), scalings.gershgorin(W, q)
        torch.testing.assert_close(fast, plain)
        found, known = (torch.autograd.grad(t, inputs, g) for t in (fast, plain))
        torch.testing.assert_close(found, known)
        torch.testing.assert_close(rowsums.gershgorin(W, None, block=2), scalings.aol(W))


@pytest.mark.parametrize("scaling", [AOL, SLL])
def test_products_are_rounded_in_training_only(scaling):
    torch.manual_seed(0)
    layer = ResidualLinear(300, 280, scaling(product_dtype=torch.bfloat16))
    exact = scalings.aol(layer.weight.mT)
    assert 0 < (layer.t - exact).norm() < 2**-7 * exact.norm()
    torch.testing.assert_close(layer.eval().t, exact)
    assert float(lipschitz(layer)) <= 1 + 1e-6


@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_a_known_image_makes_the_spectral_scaling_exact(padding_mode):
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 6, 3, padding=1, padding_mode=padding_mode)
    every, known = (
        rescaled(copy.deepcopy(layer), Spectral(iterations=12), image_size=size) for size in (None, (6, 5))
    )
    kernels = [m.weight.detach().double().numpy() for m in (every, known)]
    norms = [np.linalg.norm(dense_matrix(K, Geometry(1, padding_mode), (6, 5)), 2) for K in kernels]
    assert norms[0] < norms[1] <= 1 + 1e-6
    if padding_mode == "circular":
        assert norms[1] > 1 - 1e-2  # Gram iteration: 6 ** (2 ** -13) above
    assert float(lipschitz(known, input_shape=(6, 6, 5))) <= 1 + 1e-5


class OwnReLU(nn.ReLU):
    def forward(self, input):
        return 3 * input.relu()


@pytest.mark.parametrize(
    ("activation", "reason"),
    [
        (nn.GELU(), "falling piece"),
        (nn.SiLU(), "falling piece"),
        (nn.Mish(), "falling piece"),
        (nn.LeakyReLU(-0.1), "falling piece"),
        (nn.ELU(-0.5), "falling piece"),
        (nn.Softplus(threshold=1), "falling piece"),
        (nn.PReLU(), "not known"),
        (nn.GLU(), "not known"),
        (OwnReLU(), "not known"),
        (nn.Dropout(), "not known"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_activations_without_a_theorem_are_refused(activation, reason):
    with pytest.raises(UnsupportedActivation, match=reason):
        ResidualLinear(3, 2, "sll", activation)


def test_unsound_layers_are_refused_when_built():
    for mode in ("reflect", "replicate"):
        with pytest.raises(UnsupportedConvolution, match="repeats border pixels"):
            rescaled(nn.Conv2d(2, 2, 3, padding=1, padding_mode=mode))
        with pytest.raises(UnsupportedConvolution, match="repeats border pixels"):
            ResidualConv2d(2, 2, geometry=Geometry(padding_mode=mode))
    with pytest.raises(UnsupportedConvolution, match="repeats output pixels"):
        rescaled(nn.Conv1d(2, 2, 3, padding=2, padding_mode="circular"), "aol")
    with pytest.raises(UnsupportedConvolution, match="cannot be rescaled"):
        rescaled(nn.Bilinear(2, 2, 2))
    with pytest.raises(UnsupportedConvolution, match="cannot be rescaled"):
        rescaled(rescaled(nn.Linear(2, 2)))
    with pytest.raises(InvalidScaling, match="one of spectral, aol, sll, multi_step"):
        rescaled(nn.Linear(2, 2), "gram")
    shared = AOL()
    rescaled(nn.Linear(2, 2), shared)
    with pytest.raises(InvalidScaling, match="already belongs"):
        rescaled(nn.Linear(2, 2), shared)
    for h, L in ((1.1, 1.0), (0.0, 0.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(InvalidScaling, match="skip connection"):
            ResidualLinear(2, 2, h=h, L=L)
    for wrong in (
        lambda: ResidualLinear(0, 2),
        lambda: ResidualConv2d(3, 2, geometry=Geometry(groups=2)),
        lambda: ResidualConv2d(3, 2, (3,)),
        lambda: PadChannels(-1),
    ):
        with pytest.raises(InvalidWeight):
            wrong()
    for wrong in (lambda: AOL(refresh_every=0), lambda: MultiStep(0)):
        with pytest.raises(ValueError, match="whole number"):
            wrong()


def test_channel_padding_is_an_isometry_and_keeps_the_dtype():
    x = torch.randn(2, 3, 4, 4, dtype=torch.double)
    y = PadChannels(5)(x)
    assert y.shape == (2, 8, 4, 4) and y.dtype == x.dtype
    torch.testing.assert_close(y.norm(), x.norm())


def test_more_gram_iterations_tighten_the_norm():
    layers = [ResidualLinear(6, 5, Spectral(iterations=k)).double() for k in (1, 3, 9)]
    for layer in layers:
        layer.load_state_dict(layers[0].state_dict())
    t = [layer.t[0].item() for layer in layers]
    square = torch.linalg.matrix_norm(layers[0].weight, 2).item() ** 2
    assert t[0] > t[1] > t[2] >= square * (1 - 1e-12) and t[2] <= square * 5 ** (1 / 2**9)


def test_importing_sdplip_does_not_import_torch():
    code = "import sys, sdplip; assert 'torch' not in sys.modules; import sdplip.nn"
    subprocess.run([sys.executable, "-c", code], check=True)
