"""Fixed points and fields: errors that are proven, and hold against exact answers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, NotProvable, RefusedModule
from sdplip.nn import LastLayerNormalised, MaxMin, PadChannels, ResidualLinear, Scale, lipschitz, orthogonal
from sdplip.robustness.fields import safe_margin
from sdplip.robustness.fixed_point import fixed_point


def linear(q=0.5, b=1.0):
    """x -> q x + b on two entries, fixed point b / (1 - q)."""
    module = nn.Linear(2, 2).double()
    with torch.no_grad():
        module.weight.copy_(q * torch.eye(2))
        module.bias.fill_(b)
    return module


def contracting(seed, factor=0.9):
    torch.manual_seed(seed)
    return nn.Sequential(
        ResidualLinear(5, 12), orthogonal(nn.Linear(5, 5)), ResidualLinear(5, 7, "aol"), Scale(factor)
    ).eval()


@pytest.mark.parametrize("tolerance", [1e-3, 1e-9, 1e-30])
def test_the_error_holds_against_the_exact_solution(tolerance):
    found = fixed_point(linear(0.75, 0.1), torch.zeros(1, 2), tolerance=tolerance)
    exact = Fraction(0.1) / (1 - Fraction(0.75))
    true = 2**0.5 * max(abs(float(Fraction(float(entry)) - exact)) for entry in found.point[0])
    assert found.rounding == "proven" and 0.75 <= found.rate <= 0.7500001
    assert true <= found.error[0]
    assert found.error[0] <= tolerance or tolerance < 1e-20
    assert found.iterations <= found.guaranteed + 10
    assert len(found.history) == found.iterations + 1


def test_the_guaranteed_iterations_are_known():
    """q = 1/2, first residual sqrt 2: error sqrt 2 / (1/2) 2^-k <= 1/1000 from k = 12 on; the iteration needs as many."""
    found = fixed_point(linear(0.5), torch.zeros(1, 2), rate=0.5, tolerance=1e-3)
    assert found.guaranteed == 12 and found.iterations == 12
    assert found.residual[0] == pytest.approx(2**0.5 / 2**12, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_every_start_leads_to_the_same_point_within_the_errors(seed):
    f = contracting(seed)
    starts = 10 * torch.randn(4, 5)
    found = fixed_point(f, starts)
    assert (found.error <= 1e-9).all() and found.rate <= 0.9 * (1 + 1e-6)
    gaps = torch.cdist(found.point, found.point).numpy()
    assert (gaps <= found.error[:, None] + found.error).all()
    assert (np.diff(found.history) <= 0).all()
    rough = fixed_point(f, starts, tolerance=0.1)
    assert ((rough.point - found.point).norm(dim=1).numpy() <= rough.error + found.error).all()


def test_a_function_needs_a_rate_and_its_rounding_is_not_counted():
    found = fixed_point(lambda x: x.cos() / 2, torch.zeros(3, 1, dtype=torch.float64), rate=0.5)
    assert found.rounding == "float64" and found.point[0] == pytest.approx(0.4501836112948736, abs=1e-9)
    with pytest.raises(InvalidProblem, match="`rate` must be given"):
        fixed_point(torch.cos, torch.zeros(1, 1))
    assert fixed_point(nn.Sequential(nn.Tanh(), Scale(0.5)), torch.ones(1, 2)).rounding == "float64"


def test_a_constant_map_takes_one_step():
    module = linear(0.0, 3.0)
    found = fixed_point(module, torch.zeros(1, 2))
    assert found.guaranteed == 1 and found.iterations == 1 and found.rate == 0
    assert torch.equal(found.point, torch.full((1, 2), 3.0, dtype=torch.float64)) and found.error[0] < 1e-9


@pytest.mark.parametrize("rate", [1.0, 1.5, float("inf")])
def test_no_contraction_is_refused(rate):
    with pytest.raises(NotProvable, match="not below 1"):
        fixed_point(linear(), torch.zeros(1, 2), rate=rate)
    with pytest.raises(NotProvable, match="Scale"):
        fixed_point(linear(1.0), torch.zeros(1, 2))


def test_what_is_no_map_of_points_is_refused():
    with pytest.raises(InvalidProblem, match="constant"):
        fixed_point(linear(), torch.zeros(1, 2), rate=float("nan"))
    with pytest.raises(InvalidProblem, match="finite numbers of shape"):
        fixed_point(lambda x: x / 0, torch.zeros(1, 2), rate=0.5)
    with pytest.raises(InvalidProblem, match="shape"):
        fixed_point(lambda x: x[:, :1], torch.zeros(1, 2), rate=0.5)
    with pytest.raises(InvalidProblem, match="batch"):
        fixed_point(linear(), torch.zeros(2))
    with pytest.raises(InvalidProblem, match="positive"):
        fixed_point(linear(), torch.zeros(1, 2), tolerance=0)
    with pytest.raises(RefusedModule):
        fixed_point(nn.LayerNorm(2, elementwise_affine=False, eps=0.0), torch.zeros(1, 2))


class Distance(nn.Module):
    """Distance to the origin less 1: the exact field of a circle."""

    def forward(self, x):
        return x.norm(dim=1, keepdim=True) - 1


def circle(n, radius=1.0):
    angle = torch.arange(n, dtype=torch.float64) * 2 * torch.pi / n
    return radius * torch.stack([angle.cos(), angle.sin()], 1), radius * 2 * np.sin(np.pi / (2 * n)) * (
        1 + 1e-12
    )


def test_of_an_exact_field_only_the_covering_radius_is_lost():
    points, h = circle(500)
    found = safe_margin(Distance(), points, h)
    assert found.high == pytest.approx(h, rel=1e-6) and found.low == pytest.approx(-h, rel=1e-6)
    x = torch.tensor([[3.0, 0.0], [0.0, 0.25], [1.0, 0.0]])
    assert found.clearance(x) == pytest.approx([2 - h, 0.75 - h, 0], rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_place_of_the_surface_is_nearer_than_the_clearance(dtype):
    """Whatever the field is: here one that was never trained, with a large constant besides."""
    torch.manual_seed(1)
    field = nn.Sequential(
        PadChannels(14), orthogonal(nn.Linear(16, 16)), MaxMin(), ResidualLinear(16, 30), LastLayerNormalised(16, 1), Scale(7.0)
    ).to(dtype)  # fmt: skip
    surface, h = circle(300, 0.1)
    found = safe_margin(field, surface, h)
    assert found.rounding == "proven" and found.bound.value == pytest.approx(7, rel=1e-5)
    x = 4 * torch.randn(2000, 2)
    clearance = found.clearance(x)
    assert (clearance <= abs(x.double().norm(dim=1).numpy() - 0.1)).all() and clearance.max() > 0.1
    fine = safe_margin(field, circle(3000, 0.1)[0], 0.0)
    assert found.low <= fine.low <= fine.high <= found.high


def test_what_is_no_field_is_refused():
    points, h = circle(5)
    with pytest.raises(InvalidProblem, match="at least 0"):
        safe_margin(Distance(), points, -h)
    with pytest.raises(InvalidProblem, match="one number a point"):
        safe_margin(nn.Linear(2, 2), points, h)
    with pytest.raises(InvalidProblem, match="points"):
        safe_margin(Distance(), points[:0], h)
    with pytest.raises(InvalidProblem, match="NaN"):
        safe_margin(Distance(), points, h).clearance(torch.full((1, 2), torch.nan))
    with pytest.raises(RefusedModule):
        safe_margin(nn.Sequential(nn.Linear(2, 1), nn.Hardshrink()), points, h)


def test_a_map_of_two_ports_is_proven_as_a_module():
    """x -> S f(x) + e with one network at each port: the rate is the product of the two constants."""
    torch.manual_seed(0)

    class Circuit(nn.Module):
        def __init__(self):
            super().__init__()
            self.element = nn.Sequential(PadChannels(7), ResidualLinear(8, 8), LastLayerNormalised(8, 1))
            self.network = nn.Linear(2, 2)

        def forward(self, a):
            return self.network(torch.cat([self.element(a[:, :1]), self.element(a[:, 1:])], 1))

    circuit = Circuit().double()
    with torch.no_grad():
        circuit.network.weight.copy_(torch.tensor([[0.3, 0.4], [0.4, -0.3]]))
    found = fixed_point(circuit, torch.zeros(1, 2))
    assert (
        found.rate == pytest.approx(0.5, abs=0.21)
        and lipschitz(circuit, input_shape=(2,)).value == found.rate
    )
    assert found.error[0] <= 1e-9
