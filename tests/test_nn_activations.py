"""Laws of activations, pooling, heads and containers: isometries where they claim it, dtypes kept, gradients finite."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import erf, expit
from torch import nn

from sdplip.errors import RefusedModule
from sdplip.nn import PadChannels
from sdplip.nn.activations import Abs, GroupSort, Householder, MaxMin, NActivation
from sdplip.nn.bound import lipschitz
from sdplip.nn.containers import Concatenate, Residual, Scale, Sum
from sdplip.nn.heads import LastLayerNormalised, Normalise
from sdplip.nn.pooling import (
    Center,
    FirstChannels,
    L2Pool1d,
    L2Pool2d,
    L2Pool3d,
    ScaledAvgPool1d,
    ScaledAvgPool2d,
    ScaledAvgPool3d,
)

ISOMETRIES = {
    "GroupSort": GroupSort(2),
    "GroupSort in threes": GroupSort(3),
    "sort": GroupSort(6),
    "MaxMin": MaxMin(),
    "Householder": Householder(6),
    "NActivation": NActivation(6),
    "Abs": Abs(),
}
EVERY = {
    **ISOMETRIES,
    "ScaledAvgPool2d": ScaledAvgPool2d(2),
    "L2Pool2d": L2Pool2d((2, 1)),
    "Center": Center((2, 3)),
    "PadChannels": PadChannels(3),
    "FirstChannels": FirstChannels(2),
    "Normalise": Normalise([0.5] * 6, [0.3] * 6),
    "Scale": Scale(0.3),
    "Concatenate": Concatenate([Abs(), MaxMin()]),
    "Sum": Sum([Abs(), MaxMin()]),
    "Residual": Residual(Abs()),
}


def images(dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 6, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def jacobian(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.autograd.functional.jacobian(module, x).reshape(-1, x.numel())


@pytest.mark.parametrize("name", ISOMETRIES)
def test_gradients_keep_their_length(name):
    module = copy.deepcopy(ISOMETRIES[name]).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    J = jacobian(module, images()[:1])
    assert torch.linalg.svdvals(J).numpy() == pytest.approx(np.ones(len(J)), abs=1e-12)
    assert lipschitz(module).value == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_dtypes_are_kept_and_gradients_are_finite(name, dtype):
    module = copy.deepcopy(EVERY[name]).to(dtype)
    x = images(dtype)
    x[0] = 0  # where norms have a corner
    x.requires_grad_()
    y = module(x)
    assert y.dtype == dtype and bool(y.isfinite().all())
    y.sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_mirrors_are_never_longer_than_one(dtype):
    module = Householder(2000)
    nn.init.uniform_(module.theta, -9, 9)
    a, b = (v.detach().double() for v in module.to(dtype).mirror())
    assert float((a * a + b * b).max()) <= 1
    assert lipschitz(module).value == 1


def test_householder_with_a_right_angle_is_maxmin():
    x = images()
    assert torch.allclose(
        Householder(6).double()(x), MaxMin()(x), atol=1e-7
    )  # `theta` is a single-precision pi / 2


def test_group_sort_sorts_neighbours_and_maxmin_pairs_halves():
    x = torch.tensor([[3.0, 1.0, 2.0, 5.0]])
    assert GroupSort(2)(x).tolist() == [[1.0, 3.0, 2.0, 5.0]]
    assert GroupSort(4)(x).tolist() == [[1.0, 2.0, 3.0, 5.0]]
    assert MaxMin()(x).tolist() == [[3.0, 5.0, 2.0, 1.0]]
    assert torch.equal(GroupSort(2, dim=-1)(x), GroupSort(2)(x))
    with pytest.raises(ValueError, match="must divide the channels"):
        GroupSort(3)(x)


def test_n_activation_by_hand():
    n = NActivation(1, low=-1.0, high=2.0)
    x = torch.tensor([[-3.0], [-1.0], [0.5], [2.0], [4.0]])
    assert n(x).flatten().tolist() == [-1.0, 1.0, -0.5, -2.0, 0.0]
    n.knots.data = n.knots.data.flip(-1)  # in either order
    assert n(x).flatten().tolist() == [-1.0, 1.0, -0.5, -2.0, 0.0]


PEAKS = {  # derivative, proven bound, where it peaks
    "GELU": (
        nn.GELU(),
        lambda x: 0.5 * (1 + erf(x / 2**0.5)) + x * np.exp(-x * x / 2) / (2 * math.pi) ** 0.5,
    ),
    "GELU tanh": (nn.GELU("tanh"), lambda x: _gelu_tanh_slope(x)),
    "SiLU": (nn.SiLU(), lambda x: expit(x) * (1 + x * expit(-x))),
    "Mish": (nn.Mish(), lambda x: _mish_slope(x)),
}


def _gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    k = (2 / math.pi) ** 0.5
    tanh = np.tanh(k * (x + 0.044715 * x**3))
    return 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * k * (1 + 3 * 0.044715 * x**2)


def _mish_slope(x: np.ndarray) -> np.ndarray:
    tanh = np.tanh(np.logaddexp(0, x))
    return tanh + x * (1 - tanh**2) * expit(x)


@pytest.mark.parametrize("name", PEAKS)
def test_peaks_of_smooth_activations(name):
    """Slopes change by less than 2 a unit, so they exceed their values on a grid of step d by less than d. Beyond 12 they are
    monotone and within 1e-6 of 0 and 1."""
    module, slope = PEAKS[name]
    bound = lipschitz(module).value
    step = 2e-6
    for start in range(-12, 12):
        x = start + step * np.arange(0, round(1 / step) + 1)
        assert float(abs(slope(x)).max()) + step <= bound, start
    grid = np.linspace(-12, 12, 100_001)
    assert float(abs(np.gradient(slope(grid), grid)).max()) < 1.9
    assert bound <= float(slope(grid).max()) * (1 + 2e-5)
    x = torch.linspace(-4, 4, 101, dtype=torch.float64, requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.numpy() == pytest.approx(slope(x.detach().numpy()), abs=1e-9)


SCALED = [
    (ScaledAvgPool1d(3), (1, 7)),
    (ScaledAvgPool2d((2, 3)), (1, 5, 6)),
    (ScaledAvgPool3d(2), (1, 4, 2, 2)),
]
NORMS = [(L2Pool1d(3), (1, 1, 9)), (L2Pool2d(2), (1, 1, 4, 4)), (L2Pool3d(2), (1, 1, 2, 2, 2))]


@pytest.mark.parametrize(("pool", "shape"), SCALED)
def test_scaled_means_have_orthonormal_rows(pool, shape):
    J = jacobian(pool, torch.zeros(1, *shape, dtype=torch.float64))
    norm = float(torch.linalg.matrix_norm(J, 2))
    assert norm == pytest.approx(1, abs=1e-6)
    assert norm <= 1 + 1e-15  # the factor is rounded down to single precision
    assert torch.allclose(J @ J.mT, torch.eye(len(J), dtype=J.dtype), atol=1e-6)


@pytest.mark.parametrize(("pool", "shape"), NORMS)
def test_norm_pooling_keeps_the_norm_of_the_image(pool, shape):
    x = torch.randn(shape, dtype=torch.float64)
    assert float(pool(x).norm()) == pytest.approx(float(x.norm()))


def test_wiring_by_hand():
    x = images()
    assert torch.equal(Concatenate([Abs(), nn.Identity()])(x), torch.cat([x.abs(), x], 1))
    assert torch.equal(Sum([Abs(), nn.Identity()])(x), x.abs() + x)
    assert torch.equal(Residual(Abs())(x), x + x.abs())
    assert torch.equal(PadChannels(2)(x)[:, :6], x) and not PadChannels(2)(x)[:, 6:].any()
    assert torch.equal(FirstChannels(2)(x), x[:, :2])
    assert torch.allclose(Center((1,))(x).mean(1), torch.zeros(2, 4, 4, dtype=x.dtype), atol=1e-15)


BROADCASTING = {
    "Sum": Sum([nn.Identity(), nn.Linear(4, 1)]),
    "Residual": Residual(nn.Linear(4, 1)),
    "Normalise": Normalise([0.5] * 3),
    "NActivation": NActivation(3),
    "Householder": Householder(4),
}


@pytest.mark.parametrize("name", BROADCASTING)
def test_nothing_is_broadcast(name):
    """One entry added to n others is copied n times: the constants of these modules would be wrong."""
    x = (
        torch.zeros(2, 4)
        if name in ("Sum", "Residual")
        else torch.zeros(2, 2 if name == "Householder" else 1, 4)
    )
    with pytest.raises(ValueError, match=r"shape|channels"):
        BROADCASTING[name](x)


def test_centering_over_the_batch_is_refused():
    with pytest.raises(ValueError, match="batch"):
        Center((0, 1))
    with pytest.raises(ValueError, match="batch"):
        Center((-4,))(images())
    with pytest.raises(RefusedModule, match="batch"):
        lipschitz(Concatenate([Abs()], dim=0))


def test_normalisation_divides_by_the_deviation():
    layer = Normalise([0.5, 0.25], [0.5, 0.125])
    x = torch.ones(1, 2, 2, 2)
    assert layer(x)[0, :, 0, 0].tolist() == [1.0, 6.0]
    assert lipschitz(layer).value == 8
    assert lipschitz(Normalise([0.5, 0.25])).value == 1  # centering only
    with pytest.raises(ValueError, match="positive"):
        Normalise([0.5], [0.0])


def test_rows_of_the_last_layer_have_length_one():
    head = LastLayerNormalised(5, 40)
    head.weight.data[3] = 0
    lengths = head.rows().detach().norm(dim=1)
    assert lengths[3] == 0 and float(abs(lengths[lengths > 0] - 1).max()) < 1e-6
    head(torch.ones(2, 5)).sum().backward()
    assert head.weight.grad is not None and bool(head.weight.grad.isfinite().all())
    assert lipschitz(head).value > 2  # as a map it is not 1-Lipschitz


def test_the_gradient_of_max_min_is_a_permutation_everywhere():
    x = torch.tensor([[1.0, 2.0, 0.0, 5.0, 1.0, 0.0]], requires_grad=True)  # pairs (1, 5), (2, 1), (0, 0)
    MaxMin()(x).backward(torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]))
    assert x.grad is not None and x.grad.tolist() == [[4.0, 2.0, 3.0, 1.0, 5.0, 6.0]]
    smooth = torch.randn(3, 4, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(MaxMin(), smooth) and torch.autograd.gradgradcheck(MaxMin(), smooth)
