"""The barrier method of wide chains of few layers: its algebra, and its optimum, against those with all entries of every matrix."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from sdplip.bounds.choose import bound
from sdplip.bounds.methods.work import interior_work
from sdplip.bounds.numerics import chain as chains
from sdplip.bounds.numerics import lipsdp as module
from sdplip.bounds.numerics.barrier import central
from sdplip.bounds.numerics.blocks import Blocks
from sdplip.bounds.numerics.chain import Chain
from sdplip.bounds.numerics.lipsdp import LipSDP
from sdplip.bounds.numerics.shallow import Shallow
from sdplip.bounds.numerics.whole import Whole
from sdplip.solvers.solution import Status
from tests.nets import mlp
from tests.test_blocks import inequalities, optimum

SHAPES = {"one hidden": (3, 4, 2), "three": (4, 5, 3, 4, 2), "wide input": (6, 3, 3, 3), "tall": (2, 7, 5, 1)}
generator = np.random.default_rng(8)


def chain(*widths, slopes=(0.0, 1.0)) -> Chain:
    weights = tuple(generator.normal(size=(m, n)) / np.sqrt(n) for n, m in pairwise(widths))
    return Chain(weights, tuple((np.full(n, slopes[0]), np.full(n, slopes[1])) for n in widths[1:-1]))


@pytest.fixture
def wide(monkeypatch):
    """Every chain of few layers is one for the barrier method."""
    monkeypatch.setattr(chains, "MANY", 0)
    monkeypatch.setattr(chains, "OUTPUTS", 0)


def barrier(blocks: Blocks, y: torch.Tensor, weight: float) -> torch.Tensor:
    """The function with all entries of S, differentiable."""
    n = blocks.inputs
    S = torch.eye(blocks.order, dtype=y.dtype)
    for k, (W, lam, b) in enumerate(
        zip(blocks.weights, *map(blocks.layers, (y[1:], blocks.beta)), strict=False)
    ):
        here = n + sum(blocks.sizes[1 : k + 1])
        before, m = here - blocks.sizes[k], len(W)
        side = torch.zeros_like(S)
        side[here : here + m, before:here] = -(b * lam)[:, None] * W
        D = torch.zeros_like(S)
        D[here : here + m, here : here + m] = torch.diag(2 * lam) - torch.eye(m, dtype=y.dtype)
        S = S + side + side.mT + D
    F = blocks.weights[-1]
    T = y[0] * torch.eye(len(F), dtype=y.dtype) - F @ torch.linalg.inv(S)[-F.shape[1] :, -F.shape[1] :] @ F.mT
    return -torch.logdet(T) - weight * torch.logdet(S)


@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_derivatives_are_those_of_the_barrier(widths):
    blocks, _, point = inequalities(widths, alpha=False)
    shallow = Shallow(blocks)
    y = shallow.own(point)
    torch.testing.assert_close(shallow.point(y), point)

    def value(y):
        return barrier(blocks, y, shallow.weight)

    factor = shallow.factor(y)
    assert factor is not None
    AP, H = shallow.derivatives(y, factor)
    torch.testing.assert_close(AP, -jacobian(value, y), rtol=1e-9, atol=1e-13)
    expected = hessian(value, y)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(H.tril(), expected.tril(), rtol=1e-8, atol=1e-12)
    assert shallow.logdet(factor) == pytest.approx(-float(value(y)), abs=1e-10)


@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_it_is_definite_where_the_whole_inequality_is(widths):
    blocks, _, point = inequalities(widths, alpha=False)
    shallow = Shallow(blocks)
    for size in (1.0, 1e-1, 1e-2, 1e-3):
        for part in (
            point,
            torch.cat([point[:1], size * point[1:]]),
            torch.cat([size * point[:1], point[1:]]),
        ):
            whole = Whole(blocks).factor(part) is not None
            assert (shallow.factor(shallow.own(part)) is not None) == whole
    assert shallow.factor(torch.cat([-point[:1], point[1:]])) is None


@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
def test_both_methods_have_the_same_optimum(widths):
    blocks, _, y = inequalities(widths, alpha=False)
    rho, below = optimum(Whole(blocks), y, None)
    points = []
    for point in central(Shallow(blocks), y, 1e-8):
        points.append(point)  # every point is feasible, every lower value is below
        assert Whole(blocks).factor(point.y) is not None
        assert point.lower <= rho * (1 + 1e-9) and float(point.y[0]) >= below * (1 - 1e-9)
        if point.gap < 1e-8 or len(points) > 80:
            break
    assert float(points[-1].y[0]) == pytest.approx(rho, rel=2e-8)
    assert points[-1].lower == pytest.approx(rho, rel=1e-6)


def test_the_lower_value_is_one_of_the_dual_at_any_feasible_point():
    blocks, _, point = inequalities((5, 7, 6, 3), alpha=False)
    rho, _ = optimum(Whole(blocks), point, None)
    shallow = Shallow(blocks)
    for _ in range(20):
        y = shallow.own(point) * torch.tensor(generator.uniform(0.9, 1.0, len(point)))
        y[0] *= 2
        factor = shallow.factor(y)
        assert factor is not None
        assert 0 < shallow.lower(y, factor) <= rho * (1 + 1e-9)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    ("widths", "slopes"),
    [((30, 40, 20, 4), (0.0, 1.0)), ((5, 12, 9, 7, 11, 3), (0.0, 0.7))],
    ids=["two hidden", "four hidden"],
)
def test_lipsdp_takes_it_for_wide_chains_of_few_layers(monkeypatch, widths, slopes):
    problem, steps = chain(*widths, slopes=slopes), []
    mine = LipSDP()(problem, lambda *step: steps.append(step) or True)
    monkeypatch.setattr(module, "central", None)  # which the other method does not call
    other = LipSDP(barrier=False)(problem)
    assert mine.status is other.status is Status.OPTIMAL
    assert mine.sdp_lower == pytest.approx(other.sdp_lower, rel=5e-7)  # rounding of T
    assert all(lower <= upper * (1 + 1e-12) for _, upper, lower in steps)
    assert steps[-1][1] == pytest.approx(other.sdp_lower, rel=1e-8)
    with pytest.raises(TypeError):
        LipSDP()(problem)


@pytest.mark.usefixtures("wide")
def test_the_kernel_proves_its_optimum_and_it_stops_when_asked():
    network = mlp(chain(20, 30, 10, 3).weights, "relu")
    best = bound(network, "lipsdp-neuron")
    assert best.lower <= best.bound and best.bound == pytest.approx(best.sdp_lower, rel=1e-7)
    reference = bound(network, "reference", lower=0.0)
    assert best.bound == pytest.approx(reference.bound, rel=1e-5)
    proposal = LipSDP()(chain(20, 30, 10, 3), lambda *step: step[0] < 3)
    assert proposal.status is Status.STOPPED and proposal.iterations == 3


@pytest.mark.usefixtures("wide")
def test_the_other_method_goes_on_where_the_barrier_breaks_down(monkeypatch):
    problem = chain(6, 9, 8, 2)

    def broken(barrier, y, gap):
        for k, point in enumerate(central(barrier, y, gap)):
            yield point
            if k == 4:
                return

    expected = LipSDP(barrier=False)(problem).sdp_lower
    monkeypatch.setattr(module, "central", broken)
    found = LipSDP()(problem)
    assert found.status is Status.OPTIMAL and found.iterations > 5
    assert found.sdp_lower == pytest.approx(expected, rel=1e-7)


def test_auto_takes_strided_convolutions_of_2352_neurons():
    sizes = (784, 1568, 784, 10)
    flat = [np.ones((m, 1)) @ np.ones((1, n)) for n, m in pairwise(sizes)]
    assert interior_work(mlp(flat, "relu")) < np.inf
