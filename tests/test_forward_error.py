"""Laws of the proven rounding error: never below what is measured, at the image and around it; not absurdly above; refusals."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import RefusedModule
from sdplip.geometry import Geometry
from sdplip.nn import (
    Abs,
    CayleyConv2d,
    Center,
    Concatenate,
    FirstChannels,
    GroupSort,
    LastLayerNormalised,
    MaxMin,
    Normalise,
    PadChannels,
    Residual,
    ResidualConv2d,
    ResidualLinear,
    Sandwich,
    Scale,
    ScaledAvgPool2d,
    Sum,
    export_plain,
    lipschitz,
    orthogonal,
    pairwise_lipschitz,
    rescaled,
)
from sdplip.nn.bounds.factored import _diagonals
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.models import DIGITS, residual_network
from sdplip.nn.products import by_products
from sdplip.nn.residual import AbstractResidual
from sdplip.robustness.absolute import norm_above
from sdplip.robustness.arithmetic import plain_arithmetic
from sdplip.robustness.forward_error import Affine, forward_error

IMAGE = (4, 8, 8)
"""Wide enough that padding matters."""


def wild(layer):
    """Weights far from those of the initialisation."""
    with torch.no_grad():
        layer.weight.normal_(std=30.0)
    return layer


MODULES = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 30)),
    "linear without bias": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 30, bias=False)),
    "rows": lambda: nn.Sequential(nn.Flatten(), LastLayerNormalised(256, 10), Abs()),
    "same": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "circular": lambda: nn.Conv2d(4, 6, 3, padding="same", padding_mode="circular"),
    "stride": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
    "dilation": lambda: nn.Conv2d(4, 6, 3, dilation=2),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2),
    "rescaled": lambda: rescaled(nn.Conv2d(4, 6, 3, padding=1), "aol"),
    "orthogonal": lambda: nn.Sequential(nn.Flatten(), orthogonal(nn.Linear(256, 20))),
    "residual": lambda: nn.Sequential(nn.Flatten(), ResidualLinear(256, 64)),
    "residual h": lambda: nn.Sequential(nn.Flatten(), ResidualLinear(256, 64, "spectral", nn.LeakyReLU(0.1), h=0.3)),
    "residual conv": lambda: ResidualConv2d(4, 9, 3),
    "residual circular": lambda: ResidualConv2d(4, 9, 2, geometry=Geometry(padding_mode="circular")),
    "residual stride": lambda: ResidualConv2d(4, 8, 3, geometry=Geometry(stride=2, groups=2)),
    "plain": lambda: export_plain(nn.Sequential(ResidualConv2d(4, 9, 3), nn.Flatten(), ResidualLinear(256, 64))).model,
    "plain stride": lambda: export_plain(ResidualConv2d(4, 8, 3, geometry=Geometry(stride=2))).model,
    "sandwich": lambda: nn.Sequential(nn.Flatten(), Sandwich(256, 32), Sandwich(32, 16)),
    "plain sandwich": lambda: export_plain(nn.Sequential(nn.Flatten(), Sandwich(256, 32))).model,
    "products": lambda: by_products(nn.Sequential(CayleyConv2d(4, 6, 3, (8, 8)), Abs(), CayleyConv2d(6, 3, 2, (8, 8))).eval()),
    "products wild": lambda: by_products(wild(CayleyConv2d(4, 4, 5, (8, 8), bias=False)).eval()),
    "exported circular": lambda: export_plain(CayleyConv2d(4, 6, 3, (8, 8)).eval()).model,
    "normalise": lambda: Normalise([0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.1, 0.7]),
    "scale": lambda: nn.Sequential(Scale(0.7), nn.LeakyReLU(0.3)),
    "averages": lambda: nn.Sequential(ScaledAvgPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)),
    "center": lambda: Center((1, 2)),
    "branches": lambda: nn.Sequential(Sum([nn.Conv2d(4, 4, 1), nn.Identity(), nn.Conv2d(4, 4, 3, padding=1)]), MaxMin()),
    "concatenate": lambda: Concatenate([nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1))]),
    "skip": lambda: Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))),
    "skip linear": lambda: Residual(nn.Conv2d(4, 4, 3, padding=1)),
    "moves": lambda: nn.Sequential(PadChannels(2), FirstChannels(4), nn.PixelUnshuffle(2), nn.MaxPool2d(2), GroupSort()),
}  # fmt: skip


class SandwichInDouble(nn.Module):
    """A sandwich layer with the numbers of a float32 one."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        A, B = self.layer.factors().double().split([self.layer.out_features, self.layer.in_features], -1)
        before, after = (d.double() for d in _diagonals(self.layer))
        return (torch.relu(x @ B.mT * before + self.layer.bias.double()) * after) @ A


def in_double(module):
    """The network of exact arithmetic, nearly: the numbers that float32 runs, computed with in double precision."""
    if isinstance(module, AbstractResidual):
        twin = copy.deepcopy(module).double()
        twin.step = lambda: module.step().double()
        return twin
    if isinstance(module, Sandwich):
        return SandwichInDouble(module)
    if isinstance(module, LastLayerNormalised) or torch.nn.utils.parametrize.is_parametrized(module):
        return export_plain(module).model.double()
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*map(in_double, module))
    return copy.deepcopy(module).double()


def around(x, r, seed=0):
    """Images at distance at most `r`."""
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    direction *= 0.999 * r / direction.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.ndim - 1))
    return (x + direction).to(x.dtype)


@pytest.mark.parametrize("name", MODULES)
@torch.no_grad()
def test_error_is_bounded_here_and_around(name):
    """Against the same numbers in double precision, whose own error is 2^29 times smaller."""
    torch.manual_seed(len(name))
    model = nn.Sequential(MODULES[name](), nn.Identity()).eval()
    double = in_double(model)
    with plain_arithmetic():
        analysis = forward_error(with_number(model), lipschitz(model, input_shape=IMAGE))
        for scale in (1.0, 1e4):
            x = scale * torch.rand(3, *IMAGE)
            _, error, distance = analysis.flow(x, Affine(np.zeros(3), 1.0))
            for r in (0.0, 0.5 * scale, 5 * scale):
                z = around(x, r)
                measured = (model(z).double() - double(z.double())).flatten(1).norm(dim=1).numpy()
                assert (measured <= error.constant + error.slope * r).all()
                moved = (model(z).double() - model(x).double()).flatten(1).norm(dim=1).numpy()
                assert (moved <= distance.constant + distance.slope * r).all()
    if measured.max() > 0:
        assert error.constant.max() < 1e5 * measured.max(), "a bound so loose is of no use"


def with_number(model):
    """Modules that only move entries hold no number, which would say in which precision they run."""
    if not list(model.parameters()) + list(model.buffers()):
        model.register_buffer("number", torch.ones(()))
    return model


def test_rational_oracle():
    """A dense layer against exact rational arithmetic, with cancellation: the bound stands, and is within its number of terms."""
    layer = nn.Linear(40, 3)
    x = 100 * torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(layer, nn.Identity())
    y, error, _ = forward_error(model, lipschitz(model)).flow(x, Affine(np.zeros(5), 1.0))
    for row, computed, bound in zip(x.tolist(), y.tolist(), error.constant, strict=True):
        exact = [
            sum(Fraction(w) * Fraction(v) for w, v in zip(weights, row, strict=True)) + Fraction(b)
            for weights, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
        ]
        square = sum((Fraction(c) - e) ** 2 for c, e in zip(computed, exact, strict=True))
        assert 0 < square <= Fraction(bound) ** 2
        size = float((torch.tensor(row).norm() * layer.weight.norm() + layer.bias.norm()).detach())
        assert bound <= 42 * 2.0**-24 * size * 1.01


@pytest.mark.parametrize("head", [nn.Linear, LastLayerNormalised])
@torch.no_grad()
def test_margins_lose_no_more_than_bounded(head):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), ResidualLinear(256, 64), head(256, 10)).eval()
    double, x, r = in_double(model), torch.rand(20, *IMAGE), 0.3
    logits, lost = forward_error(model, lipschitz(model))(x)
    winner = logits.argmax(-1, keepdim=True)
    for z, radius in ((x, 0.0), (around(x, r), r)):
        computed, exact = model(z).double(), double(z.double())
        off = (computed.gather(1, winner) - computed) - (exact.gather(1, winner) - exact)
        assert (abs(off.numpy()) <= lost.constant + lost.slope * radius).all()
    assert (lost.here().slope == 0).all() and (lost.here_and_around().constant == 2 * lost.constant).all()


def test_norm_of_nonnegative_products():
    """Between the exact norm and a little more, also with zero columns and reducible matrices."""
    rng = np.random.default_rng(0)
    A, B = rng.random((30, 20)), rng.random((7, 30))
    B[:, 4], A[:, 3] = 0, 0
    block = np.kron(np.diag([1.0, 2.0]), rng.random((5, 5)))
    for factors in ((A,), (A, B), (block,), (np.zeros((3, 4)),)):
        exact = np.linalg.norm(np.linalg.multi_dot(factors[::-1]) if len(factors) > 1 else factors[0], 2)
        assert exact <= norm_above(*factors) <= exact * 1.001 + 1e-90


def test_double_precision_is_hundred_million_times_finer():
    model = residual_network(DIGITS).eval()
    x = torch.rand(2, 1, 8, 8)
    single = forward_error(model, pairwise_lipschitz(model, input_shape=(1, 8, 8)).network)(x)[1]
    model = model.double()
    double = forward_error(model, pairwise_lipschitz(model, input_shape=(1, 8, 8)).network)(x.double())[1]
    assert (double.constant < 1e-8 * single.constant).all()


def test_numbers_that_might_overflow_prove_nothing():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity())
    nn.init.constant_(model[0].weight, 1e28)
    _, error, _ = forward_error(model, lipschitz(model)).flow(torch.ones(1, 2), Affine(np.zeros(1), 1.0))
    assert np.isinf(error.constant).all()


@pytest.mark.parametrize(
    "module",
    [
        nn.Tanh(),
        CayleyConv2d(4, 4, 3, (8, 8)),
        ResidualConv2d(4, 4, 3, activation=nn.Softplus()),
        nn.BatchNorm2d(4),
    ],
)
def test_functions_without_proven_accuracy_are_refused(module):
    model = with_number(nn.Sequential(module)).eval()
    with pytest.raises(RefusedModule, match=r"no proven rounding error.*float64"):
        forward_error(model, lipschitz(model))


def test_rules_are_not_inherited():
    """A subclass that `lipschitz` knows by a rule of its own has no rounding rule until it gets one."""

    class Twice(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    lipschitz.register(Twice)(lambda *_: Bound(2.0, "twice a ReLU"))
    model = nn.Sequential(nn.Linear(3, 3), Twice(), nn.Identity())
    with pytest.raises(RefusedModule, match="Twice"):
        forward_error(model, lipschitz(model))
    forward_error.register(Twice)(lambda twice, *_: lambda z, *_: (twice(z), Affine.zero(z)))
    assert forward_error(model, lipschitz(model)).head is None
