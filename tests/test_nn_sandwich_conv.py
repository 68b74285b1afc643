"""Sandwich layers of images: the inequality at every frequency, slope patterns, stride, two plain convolutions, what is refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.errors import InvalidWeight, RefusedModule, UnsupportedConvolution
from sdplip.network.read.torch import read_module
from sdplip.nn import CompactSandwichConv2d, SandwichConv2d, UnsupportedActivation, export_plain, lipschitz
from sdplip.nn.products import by_products, products

torch.set_num_threads(1)

LAYERS = {
    "circular": lambda: SandwichConv2d(2, 3, 3, (4, 4)),
    "circular, odd": lambda: SandwichConv2d(3, 2, (2, 3), (5, 3)),
    "circular, stride": lambda: SandwichConv2d(1, 3, 2, (6, 4), stride=2),
    "compact": lambda: CompactSandwichConv2d(2, 3, 3),
    "compact, stride": lambda: CompactSandwichConv2d(1, 3, (1, 3), stride=2),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def make(name):
    """A layer in double precision whose psi lie far apart, and the shape of a sample."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double().eval()
    with torch.no_grad():
        layer.log_psi.normal_(0, 1.5)
    return layer, (layer.in_channels, *getattr(layer, "image_size", (6, 4)))


def dense(f, shape):
    """The matrix of a linear map of images."""
    n = int(np.prod(shape))
    return f(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).reshape(n, -1).mT


def factors(layer, shape):
    """F = sqrt(2) Psi^-1 B of whole images, G = sqrt(2) A' Psi, and Psi^2 at every pixel."""
    before, after = (d[:, None, None] for d in layer.diagonals())
    up, down = layer.convolutions()
    s = layer.stride
    F = dense(lambda x: up(nn.functional.pixel_unshuffle(x, s)) * before, shape)
    hidden = layer.out_channels, shape[1] // s, shape[2] // s
    G = dense(lambda z: down(z * after), hidden)
    return F, G, (2 * layer.log_psi).exp().repeat_interleave(hidden[1] * hidden[2])


@every_layer
@torch.no_grad()
def test_both_convolutions_satisfy_one_inequality(name):
    layer, shape = make(name)
    F, G, L = factors(layer, shape)
    M = 2 * torch.diag(L) - G.mT @ G - (L[:, None] * F) @ (L[:, None] * F).mT
    assert torch.linalg.eigvalsh(M).min() >= -1e-12 * L.max()
    apart = torch.linalg.matrix_norm(F, 2) * torch.linalg.matrix_norm(G, 2)
    proven = lipschitz(layer, input_shape=shape).value
    assert proven <= 1 + 1e-11 < 2 <= apart
    largest = 0.0
    for trial in range(20):
        D = torch.randint(0, 2, L.shape) if trial else torch.ones_like(L)
        largest = max(largest, float(torch.linalg.matrix_norm(G @ (D[:, None] * F), 2)))
    assert 0.5 < largest <= proven


@every_layer
@torch.no_grad()
def test_plain_forms_are_proven_together(name):
    """The forward is that of two plain convolutions, and what a network file holds is proven as a sandwich layer too."""
    layer, shape = make(name)
    x = torch.randn(3, *shape, dtype=torch.float64)
    forms = [export_plain(layer, input_shape=shape).model]
    forms += [products(layer)] if isinstance(layer, SandwichConv2d) else []
    for plain in forms:
        torch.testing.assert_close(plain(x), layer(x), atol=1e-12, rtol=1e-12)
        assert lipschitz(plain, input_shape=shape).value <= 1 + 1e-9
    assert bound(read_module(layer, shape), "product").bound <= 1 + 2e-4
    spoiled = copy.deepcopy(forms[0])
    two = spoiled if layer.stride == 1 else spoiled[1]
    two.down.weight *= 2
    assert 1.01 < lipschitz(spoiled, input_shape=shape).value <= 4 + 1e-9


def test_images_of_every_size_and_large_ones():
    torch.manual_seed(0)
    compact = CompactSandwichConv2d(2, 4, 3, stride=2).eval()
    assert compact(torch.randn(1, 2, 8, 6)).shape == (1, 4, 4, 3)
    assert lipschitz(compact).value <= 1.001
    large = SandwichConv2d(1, 2, 3, (17, 16)).eval()  # by fast Fourier transforms
    small = SandwichConv2d(1, 2, 3, (17, 16)).eval()
    small.load_state_dict(large.state_dict())
    x = torch.randn(2, 1, 17, 16)
    torch.testing.assert_close(by_products(small)(x), large(x), atol=1e-5, rtol=1e-5)


def test_what_is_refused():
    with pytest.raises(InvalidWeight, match="does not fit"):
        SandwichConv2d(1, 2, 5, (4, 4))
    with pytest.raises(InvalidWeight, match="odd"):
        CompactSandwichConv2d(1, 2, 2)
    with pytest.raises(InvalidWeight, match="whole number"):
        CompactSandwichConv2d(0, 2, 3)
    with pytest.raises(InvalidWeight, match="one or two"):
        SandwichConv2d(1, 2, (3, 3, 3), (4, 4))
    with pytest.raises(UnsupportedConvolution, match="must divide"):
        SandwichConv2d(1, 2, 1, (5, 4), stride=2)
    with pytest.raises(UnsupportedActivation):
        SandwichConv2d(1, 2, 1, (4, 4), nn.GELU())
    with pytest.raises(UnsupportedConvolution, match="Build one"):
        SandwichConv2d(1, 2, 1, (4, 4))(torch.zeros(1, 1, 6, 6))
    with pytest.raises(InvalidWeight, match="channels"):
        CompactSandwichConv2d(2, 2, 1)(torch.zeros(1, 1, 6, 6))
    plain = export_plain(make("compact")[0]).model
    plain.multipliers[0] = -1
    with pytest.raises(RefusedModule, match="positive"):
        lipschitz(plain)
    plain = export_plain(make("compact")[0]).model
    plain.down = nn.Linear(3, 3).double()
    with pytest.raises(RefusedModule, match="two linear layers"):
        lipschitz(plain)
    plain = export_plain(make("compact")[0]).model
    plain.up = nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular").double()
    with pytest.raises(RefusedModule, match="zero padding"):
        lipschitz(plain)
    layer = make("circular")[0]
    layer(torch.zeros(1, 2, 4, 4, dtype=torch.float64))
    layer.weight.data.add_(1.0)
    with pytest.raises(RefusedModule, match="eval"):
        lipschitz(layer)
