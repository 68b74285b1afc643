"""Adaptive orthogonal convolutions: which shapes are orthogonal, what poor orthogonality costs, what is refused."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from sdplip.errors import InvalidWeight, UnsupportedConvolution
from sdplip.nn import lipschitz, orthogonal
from sdplip.nn.orthonormal import whitened

torch.set_num_threads(1)


def matrix(layer, shape):
    units = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    with torch.no_grad():
        return (layer(units) - layer(torch.zeros(1, *shape, dtype=torch.float64))).flatten(1).numpy().T


def singular_values(layer, shape):
    return np.linalg.svd(matrix(layer, shape), compute_uv=False)


def built(*arguments, kind=nn.Conv2d, **options):
    torch.manual_seed(0)
    layer = orthogonal(kind(*arguments, **options, dtype=torch.float64))
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(2 * torch.randn_like(p))
    return layer


@pytest.mark.parametrize("channels", [(1, 1), (3, 3), (2, 5), (6, 2), (2, 12), (4, 8)])
@pytest.mark.parametrize(
    ("taps", "stride"), [(1, 1), (2, 1), (3, 1), ((1, 4), 1), (2, 2), (3, 2), (4, (2, 1)), (1, 2)]
)
def test_circular_convolutions_are_orthogonal(channels, taps, stride):
    """Every singular value is 1, but for pixels that a kernel smaller than its stride never reads."""
    layer = built(*channels, taps, stride, padding=0, padding_mode="circular")
    taps, stride = layer.kernel_size, layer.stride
    layer.padding_mode, shape = "circular", (channels[0], 4, 6)
    periodic = lambda x: nn.functional.conv2d(  # noqa: E731
        nn.functional.pad(x, (0, taps[1] - 1, 0, taps[0] - 1), mode="circular"), layer.weight, None, stride
    )
    values = singular_values(periodic, shape)
    ones = values > 1e-9
    np.testing.assert_allclose(values[ones], 1, atol=1e-12)
    read = channels[0] * 24 // math.prod(s // min(k, s) for k, s in zip(taps, stride, strict=True))
    assert ones.sum() == min(read, channels[1] * 24 // math.prod(stride))


def test_groups_dilations_and_axes():
    cases = (
        (built(4, 6, 3, padding="same", dilation=2, groups=2, padding_mode="circular"), (4, 5, 4)),
        (built(3, 3, 4, padding=3, dilation=2, padding_mode="circular", kind=nn.Conv1d), (3, 9)),
        (built(2, 2, (3, 1, 2), padding="same", padding_mode="circular", kind=nn.Conv3d), (2, 3, 3, 2)),
    )
    for layer, shape in cases:
        np.testing.assert_allclose(singular_values(layer, shape), 1, atol=1e-12)


@pytest.mark.parametrize("stride", [2, 3, 4, (2, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 3, (3, 1)])
@pytest.mark.parametrize("taps", [2, 4])
def test_stride_with_dilation(taps, stride, dilation):
    """Built where the taps of a patch stand in different classes modulo the stride, and then of norm 1 on every image."""
    try:
        layer = built(2, 32, taps, stride, dilation=dilation, padding=1)
    except UnsupportedConvolution:
        layer = None
    pairs = [
        (s, d)
        for s, d in zip(*(v if isinstance(v, tuple) else (v, v) for v in (stride, dilation)), strict=True)
    ]
    apart = all(len({i * d % s for i in range(min(taps, s))}) == min(taps, s) for s, d in pairs)
    assert (layer is not None) == apart
    if layer is not None:
        assert singular_values(layer, (2, 12, 9)).max() <= 1 + 1e-12


def test_transposed_convolutions_are_adjoints():
    layer = built(8, 2, 4, 2, padding=1, kind=nn.ConvTranspose2d)
    assert layer.weight.shape == (8, 2, 4, 4)
    forward = lambda x: nn.functional.conv2d(x, layer.weight, None, 2, 1)  # noqa: E731
    C, T = matrix(forward, (2, 8, 8)), matrix(layer, (8, 4, 4))
    np.testing.assert_allclose(T, C.T, atol=1e-13)
    assert np.linalg.norm(T, 2) <= 1 + 1e-12 <= 1e-9 + lipschitz(layer).value * (1 + 1e-11)


@pytest.mark.parametrize(
    ("length", "least", "most"), [(0.95, 0.5, 1.0), (1.01, 0.9, 1.1708), (1.05, 0.7, 2.108)]
)
def test_poor_projectors(length, least, most):
    """Two factors of projectors P = R R' with |R| = length: singular values between min |1 - 2 p| and max(1, |1 - 2 p|), each."""
    layer = built(4, 4, 2, padding="same", padding_mode="circular")
    kernel = layer.parametrizations.weight[0]
    Q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    R = length * torch.linalg.qr(torch.randn(2, 4, 2, dtype=torch.float64)).Q
    K = Q.reshape(1, 4, 1, 1, 4)
    for axis in (0, 1):
        K = kernel._widened(K, R[None, axis], axis, swap=False)
    K = K.movedim(-1, 2)[0]
    periodic = lambda x: nn.functional.conv2d(nn.functional.pad(x, (0, 1, 0, 1), mode="circular"), K)  # noqa: E731
    values = singular_values(periodic, (4, 6, 6))
    factor = max(1.0, 2 * length**2 - 1)
    assert least <= values.min() and values.max() <= factor**2 + 1e-12 <= most + 1e-9
    if length > 1:
        assert values.max() > 1 + 1e-6


def test_zero_padding_cuts_out_of_the_infinite_convolution():
    values = singular_values(built(4, 4, 3, padding=1), (4, 6, 6))
    assert values.max() <= 1 + 1e-12 and values.min() < 0.5


def test_an_odd_number_of_channels_stays_in_the_middle():
    """One channel has no projector but 0 and 1: the kernel is one tap, and it stands in the middle."""
    layer = built(1, 1, 3, padding=1, bias=False)
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x)


def test_orthonormal_columns():
    for dtype, slack in ((torch.float64, 1e-13), (torch.complex128, 1e-13), (torch.float32, 2e-6)):
        torch.manual_seed(0)
        for V in (torch.randn(3, 9, 4, dtype=dtype), 1e-6 * torch.randn(5, 5, dtype=dtype)):
            Q = whitened(V)
            assert (
                torch.linalg.matrix_norm(Q.mH @ Q - torch.eye(Q.shape[-1], dtype=dtype), 2).max()
                < 1e3 * slack
            )
        for V in (torch.ones(6, 3, dtype=dtype), torch.zeros(4, 4, dtype=dtype)):  # dependent columns
            assert torch.linalg.matrix_norm(whitened(V), 2) <= 1 + slack


@pytest.mark.parametrize("shape", list(itertools.product((2, 5), (3, 5))))
def test_assigned_matrices(shape):
    torch.manual_seed(0)
    given = torch.randn(shape[::-1], dtype=torch.float64)
    U, _, R = torch.linalg.svd(given, full_matrices=False)
    layer = orthogonal(nn.Linear(*shape, dtype=torch.float64), "cholesky")
    layer.weight = given
    torch.testing.assert_close(layer.weight, U @ R)
    layer = orthogonal(nn.Linear(*shape, dtype=torch.float64), "bro")
    layer.weight = given
    once = layer.weight.detach().clone()
    near = (once - given).norm()
    for _ in range(50):  # no other reflector is nearer
        layer.parametrizations.weight.original = nn.Parameter(
            torch.randn_like(layer.parametrizations.weight.original)
        )
        assert (layer.weight - given).norm() >= near - 1e-12
    layer.weight = once
    torch.testing.assert_close(layer.weight, once)


def test_what_is_refused():
    for mode in ("reflect", "replicate"):
        with pytest.raises(UnsupportedConvolution, match="refused"):
            orthogonal(nn.Conv2d(2, 8, 3, padding=1, padding_mode=mode))
    with pytest.raises(UnsupportedConvolution, match="reads a pixel"):
        orthogonal(nn.Conv2d(2, 32, 4, 4, dilation=2))
    with pytest.raises(UnsupportedConvolution, match="repeats output pixels"):
        orthogonal(nn.Conv2d(2, 2, 3, padding=2, padding_mode="circular"))
    with pytest.raises(InvalidWeight, match="No kernel can be assigned"):
        orthogonal(nn.Conv2d(2, 2, 3)).weight = torch.zeros(2, 2, 3, 3)
    with pytest.raises(InvalidWeight, match="no freedom"):
        orthogonal(nn.Linear(1, 1), "bro")
    layer = orthogonal(nn.Conv2d(3, 4, 3, padding=1)).eval()
    expected = layer(x := torch.randn(1, 3, 5, 5))
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv2d and list(layer.state_dict()) == ["bias", "weight"]
    torch.testing.assert_close(layer(x), expected)
