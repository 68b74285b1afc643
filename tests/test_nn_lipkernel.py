"""LipKernel networks: the inequality of every layer, the taps of one layer by hand, chains with pooling, what is refused."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.errors import InvalidWeight, RefusedModule
from sdplip.network.read.torch import read_module
from sdplip.nn import (
    LipKernel,
    LipKernelConv1d,
    LipKernelConv2d,
    LipKernelLinear,
    UnsupportedActivation,
    export_plain,
    lipschitz,
)
from sdplip.nn.lipkernel import PlainLipKernel
from sdplip.nn.roesser import gramian_kernel, roesser_kernel

torch.set_num_threads(1)
DOUBLE = torch.float64


def pooled(**options):
    """Two convolutions, means, two dense layers."""
    convs = LipKernelConv2d(2, 3, 3, 1, 1), LipKernelConv2d(3, 4, 4, 2, 1)
    dense = LipKernelLinear(4, 5), LipKernelLinear(5, 3)
    return LipKernel([*convs, nn.AvgPool2d(2), nn.Flatten(), *dense], (2, 5, 5), **options)


NETWORKS = {
    "1-D": lambda **o: LipKernel(
        [LipKernelConv1d(2, 3, 3, 1, 1), nn.AvgPool1d(2), LipKernelConv1d(3, 4, 4, 2, 1), nn.Flatten(), LipKernelLinear(8, 3)],
        (2, 8),
        **o,
    ),
    "2-D with means": pooled,
    "dense": lambda **o: LipKernel([LipKernelLinear(5, 8), LipKernelLinear(8, 3)], (5,), **o),
}  # fmt: skip
every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name, scale=1.0, **options):
    torch.manual_seed(0)
    made = NETWORKS[name](**options).double().eval()
    with torch.no_grad():
        for p in made.parameters():
            if p.ndim > 1:
                p.copy_(scale * torch.randn_like(p))
    return made


def least_over_frequencies(K, L, after, lam):
    """Least eigenvalue of [L'L, -K* Lam; ., 2 Lam - L+'L+] over frequencies, relative to the largest multiplier."""
    axes, n = K.ndim - 2, len(L)
    Khat = (
        torch.fft.fftn(K, s=(12,) * axes, dim=tuple(range(2, K.ndim)))
        .reshape(*K.shape[:2], -1)
        .movedim(-1, 0)
    )
    M = torch.zeros(len(Khat), n + len(lam), n + len(lam), dtype=Khat.dtype)
    M[:, :n, :n] = L.mT @ L
    M[:, n:, n:] = 2 * torch.diag(lam) - after.mT @ after
    M[:, n:, :n] = -lam[:, None] * Khat
    M[:, :n, n:] = M[:, n:, :n].mH
    return float(torch.linalg.eigvalsh(M).min() / lam.max())


@pytest.mark.parametrize("taps", [1, 2, 4])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_layers_dissipate(taps, scale):
    torch.manual_seed(taps)
    L = torch.randn(3, 3, dtype=DOUBLE)
    n, out = 3 * (taps - 1), 4
    rand = lambda *shape: scale * torch.randn(*shape, dtype=DOUBLE)  # noqa: E731
    K, after, lam = gramian_kernel(rand(n, n), rand(n + 3 + out, out), rand(out) / 10, L, taps)
    assert K.shape == (out, 3, taps)
    assert least_over_frequencies(K, L, after, lam) >= -1e-11
    m = out * (taps - 1)
    free = [rand(m, n), rand(m, 3), rand(m, m), rand(n, n), rand(out + n + 3, out)]
    K, after, lam = roesser_kernel(free, rand(out) / 10, L, taps)
    assert K.shape == (out, 3, taps, taps)
    assert least_over_frequencies(K, L, after, lam) >= -1e-8


def test_two_taps_by_hand():
    """c = 1, q = h = 1: P = 1 / (1 / q + h^2), F = diag(P, q - P); N = 0.999 (1, 1) / sqrt 2 gives the taps 0.999 (sqrt P, sqrt(q - P))."""
    u = math.sqrt(0.5)
    z = (1 - u) / (1 + u)  # the Cayley transform of (0, -u (1 + z) / 2, 0) with this square is (u, u, 0)
    free = torch.tensor([[0.0], [-u * (1 + z) / 2], [0.0]], dtype=DOUBLE)
    one = torch.eye(1, dtype=DOUBLE)
    K, after, lam = gramian_kernel(one, free, torch.zeros(1, dtype=DOUBLE), one, 2)
    assert abs(K.flatten().numpy()) == pytest.approx([0.999 * u] * 2, rel=1e-2)  # H is drawn in a little
    assert float(after) == pytest.approx(math.sqrt(2 * (1 - 0.999**2))) and float(lam) == 1


@every_network
@pytest.mark.parametrize("constant", [1.0, 2.0])
def test_networks_are_proven_together(name, constant):
    made = make(name, 2.0, bound=constant, activation=nn.Sigmoid() if constant == 2 else None)
    proven = lipschitz(made)
    (joint,) = [b.value for b in (proven, *proven.others) if "one inequality" in b.reason]
    assert proven.value <= joint <= constant * (1 + 1e-5)
    x = torch.randn(5, *made.input_shape, dtype=DOUBLE)
    J = torch.func.vmap(torch.func.jacrev(lambda x: made(x[None])[0]))(x).reshape(5, 3, -1)
    assert 0 < torch.linalg.matrix_norm(J, 2).max() <= proven.value
    export = export_plain(made)
    torch.testing.assert_close(export.model(x), made(x), atol=1e-12, rtol=1e-12)
    assert export.bound.value == pytest.approx(proven.value, rel=1e-6)


@pytest.mark.parametrize("name", ["1-D", "dense"])
def test_layers_alone_are_not_bounded(name):
    """The joint constant is that of the choice; the product of the norms of the layers lies above it."""
    torch.manual_seed(0)
    made = NETWORKS[name]().eval()
    assert bound(read_module(made, made.input_shape), "product").bound > 1.3 * lipschitz(made).value


def test_training_leaves_the_bound():
    made = make("2-D with means").float().train()
    optimiser = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(4):
        optimiser.zero_grad()
        (-made(torch.randn(8, *made.input_shape)).square().mean()).backward()
        assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)
        optimiser.step()
    assert lipschitz(made.eval()).value <= 1 + 1e-4


def test_what_is_refused():
    conv, head = LipKernelConv2d(1, 2, 2, 2), LipKernelLinear(8, 3)
    for stages, shape in (
        ([conv, head], (1, 4, 4)),
        ([conv, nn.Flatten(), head], (1, 6, 4)),
        ([conv, nn.Flatten()], (1, 4, 4)),
        ([conv, nn.MaxPool2d(2), nn.Flatten(), head], (1, 4, 4)),
        ([conv, nn.AvgPool2d(2, 1), nn.Flatten(), head], (1, 4, 4)),
        ([], (3,)),
    ):
        with pytest.raises(InvalidWeight):
            LipKernel(stages, shape)
    with pytest.raises(InvalidWeight, match="multiple of the stride"):
        LipKernelConv1d(1, 2, 3, 2)
    with pytest.raises(InvalidWeight, match="positive"):
        make("dense", bound=0.0)
    with pytest.raises(UnsupportedActivation):
        make("dense", activation=nn.GELU())
    made = make("dense")
    with pytest.raises(InvalidWeight, match="takes"):
        made(torch.zeros(2, 4, dtype=DOUBLE))
    made(torch.zeros(1, 5, dtype=DOUBLE))
    made.stages[0].weight.data.add_(1.0)
    with pytest.raises(RefusedModule, match="eval"):
        lipschitz(made)
    plain = export_plain(make("dense")).model
    assert isinstance(plain, PlainLipKernel)
    plain.multipliers[0] = -1
    with pytest.raises(RefusedModule, match="positive numbers"):
        lipschitz(plain)
    plain = export_plain(make("dense")).model
    before = lipschitz(plain).value
    with torch.no_grad():
        plain.layers[0].weight *= 3
    J = np.linalg.norm((plain.layers[2].weight @ plain.layers[0].weight).detach().numpy(), 2)
    assert before < J <= lipschitz(plain).value
