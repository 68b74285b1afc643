"""Note [measured sums] against rational arithmetic: sums in hard orders, fused and not, of terms that cancel."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.nn import export_plain, lipschitz
from sdplip.nn.residual import ResidualConv2d, ResidualLinear
from sdplip.robustness.absolute import FORMATS
from sdplip.robustness.arithmetic import plain_arithmetic
from sdplip.robustness.forward_error import Affine, forward_error
from sdplip.robustness.rounding_sums import sums

torch.set_num_threads(1)
single = np.float32


def in_order(products, tree):
    """The sum in single precision: one after another, or by halves."""
    if not tree:
        total = single(0)
        for p in products:
            total = single(total + p)
        return total
    if len(products) == 1:
        return products[0]
    half = len(products) // 2
    return single(in_order(products[:half], tree) + in_order(products[half:], tree))


def fused(w, z, order):
    """One rounding a step: the product is not rounded."""
    total = single(0)
    for i in order:
        total = single(float(Fraction(float(total)) + Fraction(float(w[i])) * Fraction(float(z[i]))))
    return total


@pytest.mark.parametrize("kind", ["random", "cancelling", "grows", "halves"])
def test_every_order_stays_within(kind):
    rng = np.random.default_rng(len(kind))
    largest = 0.0
    for n in (3, 40, 300):
        layer = nn.Linear(n, 1, bias=False)
        w, z = rng.standard_normal(n).astype(single), rng.random(n).astype(single)
        if kind == "cancelling":
            w[1::2] = -w[: 2 * (n // 2) : 2]
            z[1::2] = z[: 2 * (n // 2) : 2] * single(1 + 1e-6)
        elif kind == "grows":  # each step rounds by nearly half a unit
            w, z = np.ones(n, single), np.full(n, 1 + 2.0**-23, single)
            z[0] = 1
        elif kind == "halves":
            w[n // 2 :] = -abs(w[n // 2 :])
            w[: n // 2] = abs(w[: n // 2])
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w)[None])
        found = sums(layer, n, FORMATS[torch.float32])
        assert found is not None
        exact = sum((Fraction(float(a)) * Fraction(float(b)) for a, b in zip(w, z, strict=True)), Fraction(0))
        products = [single(a * b) for a, b in zip(w, z, strict=True)]
        orders = [np.arange(n), np.argsort(w * z), np.argsort(-w * z), rng.permutation(n)]
        for order in orders:
            for computed in (
                in_order([products[i] for i in order], False),
                in_order([products[i] for i in order], True),
                fused(w, z, order),
            ):
                most = float(found.lost(torch.from_numpy(z)[None], torch.tensor([[computed]]))[0, 0])
                assert abs(Fraction(float(computed)) - exact) <= Fraction(most)
                largest = max(largest, float(abs(Fraction(float(computed)) - exact)) / most)
    assert largest > 1e-3, "a bound so loose is of no use"


def test_a_deep_network_loses_half_of_what_norms_allow():
    """Beside the bound by norms alone, which stays what is used in double precision."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *[m for _ in range(6) for m in (nn.Linear(64, 64), nn.ReLU())], nn.Identity()
    ).eval()
    x = torch.rand(8, 64)
    with plain_arithmetic():
        _, error, _ = forward_error(network, lipschitz(network)).flow(x, Affine(np.zeros(8), 1.0))
        double = network.double()
        _, norms, _ = forward_error(double, lipschitz(double)).flow(x.double(), Affine(np.zeros(8), 1.0))
    by_norms = norms.constant * 2.0**29
    assert (error.constant < 0.6 * by_norms).all() and error.slope < 1.2 * norms.slope * 2.0**29


@pytest.mark.parametrize("layer", [lambda: ResidualLinear(256, 64), lambda: ResidualConv2d(4, 9, 3)])
def test_blocks_lose_less_too(layer):
    torch.manual_seed(0)
    model = export_plain(nn.Sequential(nn.Flatten(), layer()) if layer().axes == 0 else layer()).model
    shape, x = (4, 8, 8), torch.rand(4, 4, 8, 8)
    with plain_arithmetic():
        model = nn.Sequential(model, nn.Identity()).eval()
        _, error, _ = forward_error(model, lipschitz(model, input_shape=shape)).flow(
            x, Affine(np.zeros(4), 1.0)
        )
        double = model.double()
        _, norms, _ = forward_error(double, lipschitz(double, input_shape=shape)).flow(
            x.double(), Affine(np.zeros(4), 1.0)
        )
    assert (error.constant < norms.constant * 2.0**29).all()
