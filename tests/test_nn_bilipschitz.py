"""Bi-Lipschitz layers, lower constants, and the inverse with its proven error."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, InvalidScaling, InvalidWeight, RefusedModule
from sdplip.nn import (
    BiLipschitz,
    BoundedScale,
    CayleyConv2d,
    ChannelScale,
    Concatenate,
    DeepResidualLinear,
    MaxMin,
    Normalise,
    PadChannels,
    PositionalBias,
    Residual,
    ResidualConv2d,
    ResidualLinear,
    Sandwich,
    Scale,
    Shift2d,
    Sum,
    export_plain,
    lipschitz,
    lower_lipschitz,
    orthogonal,
    rescaled,
)
from sdplip.robustness import inverse

torch.set_num_threads(1)


def circular(out: int, taps: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Module:
    padding = (dilation * (taps - 1)) // 2
    return orthogonal(
        nn.Conv2d(4, out, taps, stride, padding, dilation, groups=groups, padding_mode="circular")
    )


MODULES = {
    "sll": lambda: (BiLipschitz(ResidualLinear(5, 9), 0.2, 4.0), (5,)),
    "sandwich": lambda: (BiLipschitz(Sandwich(4, 4), 0.5, 3.0), (4,)),
    "conv": lambda: (BiLipschitz(ResidualConv2d(2, 5), 0.1, 2.0), (2, 4, 3)),
    "inner is not 1-Lipschitz": lambda: (BiLipschitz(nn.Linear(3, 3), 0.9, 1.1), (3,)),
    "flow": lambda: (
        nn.Sequential(
            BiLipschitz(ResidualLinear(4, 7), 0.2, 4.0), orthogonal(nn.Linear(4, 4)), nn.LeakyReLU(0.3)
        ),
        (4,),
    ),
    "linear": lambda: (nn.Linear(4, 7), (4,)),
    "orthogonal": lambda: (orthogonal(nn.Linear(5, 8), "cayley"), (5,)),
    "pointwise": lambda: (nn.Conv1d(3, 6, 1), (3, 4)),
    "circular": lambda: (circular(4, 3), (4, 3, 4)),
    "circular, groups, dilation": lambda: (circular(8, 3, groups=2, dilation=2), (4, 5, 4)),
    "circular, stride": lambda: (circular(16, 4, 2), (4, 4, 4)),
    "circular, plain": lambda: (
        nn.Conv2d(3, 8, (3, 2), padding="same", padding_mode="circular"),
        (3, 5, 4),
    ),
    "zeros": lambda: (orthogonal(nn.Conv2d(3, 3, 3, padding=1)), (3, 3, 4)),
    "zeros, stride": lambda: (nn.Conv2d(2, 9, 3, 2, 1), (2, 4, 4)),
    "zeros, stride, few channels": lambda: (nn.Conv2d(1, 3, 3, 2, 1), (1, 3, 3)),
    "transposed": lambda: (nn.ConvTranspose2d(3, 2, 2, 2), (3, 3, 3)),
    "Cayley": lambda: (CayleyConv2d(2, 2, 3, (4, 4)), (2, 4, 4)),
    "residual": lambda: (Residual(nn.Sequential(rescaled(nn.Linear(4, 4), "aol"), Scale(0.5))), (4,)),
    "identity plus matrix": lambda: (Residual(nn.Linear(4, 4)), (4,)),
    "sum": lambda: (Sum([Scale(2.0), rescaled(nn.Linear(4, 4), "aol")]), (4,)),
    "sum, falling": lambda: (Sum([Scale(-2.0), rescaled(nn.Linear(4, 4), "aol")]), (4,)),
    "monotone sum": lambda: (Sum([Scale(0.5), nn.LeakyReLU(0.1), BiLipschitz(nn.Tanh(), 1.0, 2.0)]), (4,)),
    "side by side": lambda: (Concatenate([nn.ReLU(), Scale(0.5), nn.Linear(4, 5)]), (4,)),
    "joint": lambda: (DeepResidualLinear(4, [5], h=0.9), (4,)),
    "scales": lambda: (
        nn.Sequential(ChannelScale(3, -0.4), Scale(0.7), Normalise([0.1] * 3, [0.5, 2.0, 1.0])),
        (3, 2),
    ),
    "moves": lambda: (
        nn.Sequential(PadChannels(1), Shift2d(4, 1), PositionalBias((3, 4)), nn.Flatten(), nn.Dropout()),
        (3, 3, 4),
    ),
    "slopes": lambda: (nn.Sequential(nn.LeakyReLU(0.01), nn.PReLU(3, 0.7)), (3, 2)),
}


def jacobians(module: nn.Module, shape: tuple[int, ...]):
    for scale in (0.1, 1.0, 5.0):
        x = scale * torch.randn(1, *shape, dtype=torch.float64)
        yield torch.autograd.functional.jacobian(module, x).reshape(-1, x.numel()).numpy()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_jacobian_is_below_the_bound(name, dtype):
    torch.manual_seed(1)
    module, shape = MODULES[name]()
    for p in module.parameters():
        nn.init.normal_(p, std=0.5) if name not in ("slopes", "joint", "moves") and p.ndim > 1 else None
    module = export_plain(module.to(dtype).eval(), input_shape=shape).model
    lower = lower_lipschitz(module, input_shape=shape)
    assert lower.value > 0
    for J in jacobians(module.double(), shape):
        assert np.linalg.svd(J, compute_uv=False)[-1] >= lower.value * (1 - 1e-12)
        if lower.monotone:
            assert np.linalg.eigvalsh((J + J.T) / 2)[0] >= lower.value * (1 - 1e-12)
    if name in ("linear", "zeros", "pointwise", "orthogonal", "transposed", "circular"):
        assert min(np.linalg.svd(J)[1][-1] for J in jacobians(module, shape)) <= lower.value * (1 + 1e-6)


def near_identity(out, channels, taps, groups=1, seed=0, **options) -> nn.Conv2d:
    """An isometry of channels in the middle, and small taps around it."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(channels, out, taps, groups=groups, dtype=torch.float64, **options)
    nn.init.normal_(layer.weight, std=0.05)
    for part in layer.weight.data.chunk(groups):
        part[:, :, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] += nn.init.orthogonal_(
            torch.empty_like(part[:, :, 0, 0])
        )
    return layer


@torch.no_grad()
def test_zero_padding_on_images_of_every_size():
    """The least singular values of dense matrices of many sizes are no smaller, and a large image comes near; the adjoint is the kernel turned round."""
    layers = (
        near_identity(3, 3, 3, padding=1),
        near_identity(5, 3, (3, 1), padding=(1, 0), bias=False),
        near_identity(4, 4, 3, groups=2, padding=2, dilation=2),
        near_identity(2, 2, 3, padding=2),
        nn.Conv2d(2, 3, (2, 3), padding=(1, 2), dtype=torch.float64),  # every output is kept
    )
    for k, layer in enumerate(layers):
        found = lower_lipschitz(layer).value
        assert found > (0.02 if k == 4 else 0.1)
        for shape in ((1, 1), (2, 5), (6, 6)):
            x = torch.zeros(1, layer.in_channels, *shape, dtype=torch.float64)
            J = torch.autograd.functional.jacobian(layer, x).reshape(-1, x.numel()).numpy()
            least = np.linalg.svd(J, compute_uv=False)[-1]
            assert least >= found * (1 - 1e-12)
    single = nn.Conv1d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    single.weight.copy_(torch.tensor([[[0.25, 1.0, 0.25]]]))  # symbol 1 + cos(w) / 2
    assert 0.499999 < lower_lipschitz(single).value <= 0.5
    assert lower_lipschitz(near_identity(3, 3, 3, padding=1).float(), input_shape=(3, 40, 40)).value > 0.1
    for layer in (
        orthogonal(nn.Conv2d(4, 4, 3, padding=1)),
        nn.Conv2d(4, 9, 3, 2, 1),
        nn.Conv2d(4, 4, 3, padding=0),
    ):
        with pytest.raises(RefusedModule):
            lower_lipschitz(layer)


def test_one_unit_by_hand():
    r"""$x - \max(x, 0)$ twice the step: $F = \nu x - (\nu - \mu) \max(x, 0)$ has the slopes nu and mu, and both constants are exact."""
    inner = ResidualLinear(1, 1, "spectral", bias=False)
    with torch.no_grad():
        inner.weight.fill_(1.0)
    F = BiLipschitz(inner, 0.5, 3.0).double()
    y = F(torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    assert y.flatten().tolist() == pytest.approx([-3.0, 0.5], abs=1e-12)
    assert lipschitz(F).value == pytest.approx(3.0, rel=1e-9)
    assert lower_lipschitz(F).value == pytest.approx(0.5, rel=1e-9)


def test_a_gradient_of_a_convex_function():
    r"""With SLL inside the Jacobian is symmetric and its eigenvalues lie between mu and nu."""
    torch.manual_seed(0)
    F = BiLipschitz(ResidualLinear(6, 20, "aol"), 0.2, 4.0).double()
    for J in jacobians(F, (6,)):
        values = np.linalg.eigvalsh((J + J.T) / 2)
        assert abs(J - J.T).max() < 1e-13 and values[0] >= 0.2 and values[-1] <= 4.0


@pytest.mark.parametrize("c", [0.5, 1.0, 1.01, 1.2])
def test_the_constants_are_those_of_the_inner_module(c):
    F = BiLipschitz(Scale(-c), 0.5, 3.0)
    upper, lower = lipschitz(F).value, lower_lipschitz(F).value
    stored = float(np.float32(c))
    assert upper == pytest.approx(1.75 + 1.25 * stored, rel=1e-15)
    assert lower == pytest.approx(1.75 - 1.25 * stored, rel=1e-14)
    x = torch.ones(1, 1)
    assert F(x).item() == pytest.approx(lower, rel=1e-6)


def test_numbers_that_every_format_multiplies_with():
    for mu, nu in ((0.2, 4.0), (1e-3, 1e3), (0.999, 1.001), (0.1, 10.0), (1e-30, 1e30)):
        F = BiLipschitz(nn.Identity(), mu, nu)
        a, r = F.centre, F.radius
        assert float(np.float32(a)) == a and float(np.float32(r)) == r
        assert math.fsum([a, -r, -mu]) >= 0 and math.fsum([a, r, -nu]) <= 0
        assert r >= (nu - mu) / 2 - 2e-7 * nu


def test_what_is_refused():
    for mu, nu in ((0, 1), (-1, 1), (1, 1), (2, 1), (1, math.inf), (1.0, 1.0 + 1e-12), (1e39, 1e40)):
        with pytest.raises(InvalidScaling, match="mu"):
            BiLipschitz(nn.Identity(), mu, nu)
    with pytest.raises(InvalidProblem, match="inner"):
        BiLipschitz(lambda x: x, 1, 2)
    with pytest.raises(InvalidWeight, match="keep the shape"):
        BiLipschitz(nn.Linear(3, 4), 1, 2)(torch.ones(2, 3))
    spoiled = BiLipschitz(nn.Identity(), 1, 2)
    spoiled.centre = 0.1
    with pytest.raises(RefusedModule, match="single precision"):
        lower_lipschitz(spoiled)
    for module, why in (
        (nn.ReLU(), "slopes"), (MaxMin(), "sorts"), (nn.Linear(5, 4), "different inputs"), (nn.Tanh(), "slopes"),
        (nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"), "different inputs"), (Scale(0.0), "no positive"), (nn.Linear(3, 3), "no positive"),
        (Residual(nn.Identity()), "no positive"), (BiLipschitz(Scale(4.0), 1, 2), "no positive"),
        (nn.Sequential(nn.Linear(4, 8), nn.ReLU()), "slopes"), (Shift2d(4, 1, "zeros"), "leave the image"),
        (nn.ZeroPad2d(-1), "crops"), (nn.Dropout().train(), "eval"), (ResidualLinear(3, 4), "Pass `input_shape`"),
        (nn.Conv2d(4, 4, 3, padding=1), "Pass the `input_shape`"),
    ):  # fmt: skip
        if isinstance(module, nn.Linear) and module.out_features == 3:
            nn.init.ones_(module.weight)
        with pytest.raises(RefusedModule, match=why):
            lower_lipschitz(module)
    assert lower_lipschitz(BoundedScale(2.0, -0.7).double()).value == pytest.approx(0.7)
    with pytest.raises(RefusedModule, match="different inputs"):
        lower_lipschitz(nn.AvgPool2d(2), input_shape=(1, 4, 4))
    hooked = nn.Linear(3, 3)
    hooked.register_forward_hook(lambda *_: None)
    with pytest.raises(RefusedModule, match="hook"):
        lower_lipschitz(hooked)


INVERTIBLE = (
    "sll",
    "sandwich",
    "conv",
    "flow",
    "circular",
    "zeros",
    "residual",
    "monotone sum",
    "moves",
    "slopes",
)


@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_inverse_within_its_error(name):
    torch.manual_seed(2)
    module, shape = MODULES[name]()
    if name == "moves":
        module, shape = module[1:], (4, 3, 4)
    x = torch.randn(6, *shape, dtype=torch.float64)
    module = module.double().eval()
    with torch.no_grad():
        y = module(x)
    found = inverse(module, y, input_shape=shape)
    off = (found.point - x).flatten(1).norm(dim=1).numpy()
    assert found.point.shape == x.shape and found.error.max() <= 1e-9
    rounded = 1e-14 / found.lower  # y itself is, and so is what has no proven rounding
    assert (off <= found.error + rounded).all()


def test_residual_over_lower_by_hand():
    """F = 2 x + relu-free: of a point that is off by d the error is at most |2.5 d| / 0.5."""
    F = BiLipschitz(Scale(1.0), 0.5, 2.5)
    y = torch.tensor([[5.0]], dtype=torch.float64)
    found = inverse(F, y, limit=0)
    assert found.lower == pytest.approx(0.5) and found.rounding == "proven"
    assert abs(found.point.item() - 2.0) <= found.error[0] <= 1e-9
    loose = inverse(F, y, lower=0.25)
    assert loose.error[0] == pytest.approx(2 * inverse(F, y, lower=0.5).error[0], rel=1e-6)


def test_large_samples_go_by_banach_and_conjugate_gradients():
    torch.manual_seed(0)
    conv = orthogonal(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))
    F = nn.Sequential(BiLipschitz(ResidualConv2d(1, 4), 0.5, 2.0), conv).double().eval()
    x = torch.randn(2, 1, 17, 16, dtype=torch.float64)
    with torch.no_grad():
        found = inverse(F, F(x), tolerance=1e-11)
    assert found.error.max() < 1e-11 and (found.point - x).flatten(1).norm(dim=1).max() <= 1e-10


def test_what_has_no_inverse():
    y = torch.ones(2, 4, dtype=torch.float64)
    with pytest.raises(RefusedModule, match="slopes"):
        inverse(nn.ReLU(), y)
    with pytest.raises(InvalidProblem, match="as many"):
        inverse(nn.Linear(3, 4), y, input_shape=(3,))
    with pytest.raises(InvalidProblem, match="finite"):
        inverse(nn.Identity(), y * math.nan)
    with pytest.raises(InvalidProblem, match="positive"):
        inverse(nn.Identity(), y, tolerance=0)
    with pytest.raises(InvalidProblem, match="positive number"):
        inverse(nn.Identity(), y, lower=-1.0)
    with pytest.raises(InvalidProblem, match=r"torch\.nn\.Module"):
        inverse(lambda x: x, y)


def test_half_the_square_of_an_invertible_network_has_one_minimum():
    r"""$|\nabla p|^2 / 2 \ge m^2 p$ for $p = |F|^2 / 2$, and the distance to the minimiser lies between $|F| / M$ and $|F| / m$."""
    torch.manual_seed(4)
    F = nn.Sequential(BiLipschitz(ResidualLinear(3, 8), 0.5, 2.0), nn.LeakyReLU(0.5)).double().eval()
    m, M = lower_lipschitz(F).value, lipschitz(F).value
    found = inverse(F, torch.zeros(1, 3, dtype=torch.float64))
    x = (3 * torch.randn(100, 3, dtype=torch.float64)).requires_grad_()
    p = F(x).square().sum(1) / 2
    (slope,) = torch.autograd.grad(p.sum(), x)
    away, length = (x - found.point).norm(dim=1).detach(), (2 * p).sqrt().detach()
    assert (slope.square().sum(1) / 2 >= m * m * p * (1 - 1e-12)).all()
    off = float(found.error[0])
    assert (away <= length / m * (1 + 1e-12) + off).all() and (away >= length / M * (1 - 1e-12) - off).all()
    assert found.rounding == "proven" and F(found.point).norm() <= M * off + 1e-12
