"""Regions and values on them: never narrower than the truth, in exact arithmetic and at the ends of the range of doubles."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from sdplip.arithmetic.matrix import lengths
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.reach import localise, reached
from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.regions import Ball, Box, Cut, apart, furthest
from sdplip.kernel.rules.local import local_network
from sdplip.network import Activation, Dense, Gather, Maximum, Sort, chain
from tests import regional
from tests.regional import HOSTILE, NETWORKS, REGIONS, N, exact, groups, hostile, points

ROOM = 1e-11
"""Relative: what the sampled values round."""


@pytest.mark.parametrize("where", ["ball", "box", "cut off centre", "point"])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_lie_within_and_slopes_occur(name, where):
    rng, network = np.random.default_rng(3), NETWORKS[name]
    region = REGIONS[where](rng.normal(size=N))
    found = reached(network, region)
    x = np.array([*points(region, rng, 60)])
    values = [*network.values(x)]
    for value, (low, high) in zip(values, found.ends, strict=True):
        assert np.isfinite(low).all() and np.isfinite(high).all()
        room = ROOM * (1 + abs(value))
        assert (low <= value + room).all() and (value - room <= high).all()
    for node, op, after in zip(network.nodes, found.ops, values[1:], strict=True):
        if isinstance(op, Activation):
            before = values[node.inputs[0]]
            step = np.diff(before, axis=0)
            with np.errstate(all="ignore"):
                slope = np.where(abs(step) > 1e-6, np.diff(after, axis=0) / step, (op.alpha + op.beta) / 2)
            assert (op.alpha - 1e-8 <= slope).all() and (slope <= op.beta + 1e-8).all()


@pytest.mark.parametrize("where", ["ball", "cut"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_local_network_makes_the_increments_of_the_network(name, where):
    """With the slopes of secants in place of its activations, for pairs of points of the region."""
    rng, network = np.random.default_rng(4), NETWORKS[name]
    region = REGIONS[where](rng.normal(size=N))
    bound = conclude(Goal(network, region), Proof("local", {}, (_layers(local_network(network, region)),)))
    x = np.array([*points(region, rng, 40)])
    y = network(x)
    for i, j in itertools.combinations(range(0, len(x), 3), 2):
        step = np.linalg.norm(x[i] - x[j])
        assert np.linalg.norm(y[i] - y[j]) <= bound * step * (1 + ROOM) + ROOM
    assert bound <= conclude(Goal(network), _layers(network)) * (1 + 1e-9)


def _layers(network):
    """The product of norms: a span for each linear map that has no closed form."""
    from sdplip.kernel.rules.closed import node_factor
    from sdplip.network import AbstractLinear

    spans, parts = [], []
    for k, node in enumerate(network.nodes, 1):
        if isinstance(node.op, AbstractLinear) and node_factor(node.op) is None:
            W = node.op.dense()
            spans.append([node.inputs[0], k])
            parts.append(
                Proof(
                    "joint", {"multipliers": np.zeros(0), "kappa": (np.linalg.norm(W, 2) * (1 + 1e-9)) ** 2}
                )
            )
    return Proof("layers", {"spans": spans}, tuple(parts))


@pytest.mark.parametrize("where", ["ball", "box"])
def test_backward_bounds_narrow(where):
    region = REGIONS[where](np.full(N, 0.3))
    for name in ("deep", "residual", "maxmin"):
        network = NETWORKS[name]
        from sdplip.kernel.reach.walk import _Walk

        walk = _Walk(network, region)
        walk.through()
        low, high = reached(network, region).ends[-1]
        assert (low >= walk.states[-1].low).all() and (high <= walk.states[-1].high).all()
        assert ((high - low) < (walk.states[-1].high - walk.states[-1].low)).all()


def test_a_ball_in_a_box_is_narrower_than_both():
    network, x = NETWORKS["relu"], np.full(N, 0.1)
    ball, box = Ball(x, 0.5), Box(np.zeros(N), np.ones(N))
    ends = [reached(network, region).ends[-1] for region in (Cut(ball, box), ball, box)]
    for low, high in ends[1:]:
        assert (ends[0][0] >= low).all() and (ends[0][1] <= high).all()
        assert (ends[0][1] - ends[0][0] < high - low).all()


def test_limits_of_work_leave_intervals(monkeypatch):
    """Without room for zonotopes and rows the ends are wider and still true; large networks take this way."""
    rng = np.random.default_rng(3)
    for name in ("relu", "image", "residual maxmin", "functions"):
        network, region = NETWORKS[name], Ball(rng.normal(size=N), 0.1)
        free = reached(network, region).ends[-1]
        for limits in (
            {"ROOM": 1},
            {"ROOM": 40},
            {"BACKWARD": 0},
            {"FORWARD": 0, "BACKWARD": 0},
            {"BACKWARD": 3000},
        ):
            for key, value in limits.items():
                monkeypatch.setattr(f"sdplip.kernel.reach.walk.{key}", value)
            low, high = reached(network, region).ends[-1]
            monkeypatch.undo()
            y = network(np.array([*points(region, rng, 50)]))
            assert (low - ROOM <= y).all() and (y <= high + ROOM).all() and np.isfinite(high - low).all()
            assert (high - low >= (free[1] - free[0]) * (1 - 1e-6)).all() or "ROOM" in limits


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "maxmin", "threes"])
@pytest.mark.parametrize("where", ["box", "cut"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_value_escapes_in_exact_arithmetic(name, where, kind, flush):
    """Also where the processor takes subnormal numbers for zero."""
    rng, between = np.random.default_rng(8), {"maxmin": groups(2), "threes": groups(3)}.get(kind)
    network = hostile(name, between or (lambda n: Activation(kind, n)), 2, 4, 4, 4, 2)
    region = REGIONS[where](rng.normal(size=2))
    torch.set_flush_denormal(flush)
    try:
        ends = reached(network, region).ends
    finally:
        torch.set_flush_denormal(False)
    for x in points(region, rng, 6):
        for (low, high), values in zip(ends, exact(network, x), strict=True):
            for a, v, b in zip(low.tolist(), values, high.tolist(), strict=True):
                assert (a == -np.inf or Fraction(a) <= v) and (b == np.inf or v <= Fraction(b))


@pytest.mark.parametrize("scale", [1.0, 2.0**-530, 2.0**500, 1e-310])
@pytest.mark.parametrize("where", REGIONS)
def test_linear_functions_on_regions(where, scale):
    """Above in exact arithmetic, and attained up to rounding; by hand for one of them."""
    rng = np.random.default_rng(4)
    region = REGIONS[where](rng.normal(size=N))
    L = rng.normal(size=(6, N)) * np.array([1, 1, 1e-160, 1e150, 1, 1])[:, None] * scale
    L[4, 1:] = 0.0
    found = region.above(L)
    for x in points(region, rng, 60):
        for row, most in zip(L, found, strict=True):
            assert most == np.inf or sum(
                Fraction(a) * Fraction(v) for a, v in zip(row, x, strict=True)
            ) <= Fraction(most)
    ball = region if isinstance(region, Ball) else getattr(region, "ball", None)
    if ball is not None and scale == 1:
        low, high = region.ends()
        best = ball.center + furthest(L, low - ball.center, high - ball.center, ball.radius)[0]
        near = (found - (L * best).sum(1)) / abs(L).max(1) <= 1e-7
        assert near.all()
    assert Cut(Ball(np.zeros(2), 1.0), Box(np.zeros(2), np.array([0.6, 2.0]))).above(
        np.array([[1.0, 0.5]])
    ) == pytest.approx(0.6 + 0.4)


def test_regions_that_do_not_meet_are_told_from_huge_ones():
    """Squares of coordinates around 1e200 leave the range of doubles; the regions below have points in common."""
    for size in (1e200, 1e-200, 1.0):
        assert not apart(Ball(np.zeros(2), size), Box(np.full(2, size / 2), np.full(2, size)))
        assert not apart(Ball(np.zeros(1), size), Box(np.full(1, size), np.full(1, 2 * size)))
        assert apart(Ball(np.zeros(2), size), Box(np.full(2, size), np.full(2, 2 * size)))
    assert not apart(Ball(np.array([-1.7e308]), 1.7e308), Box(np.array([1e308]), np.array([1.7e308])))
    assert not apart(Ball(np.zeros(1), 5e-324), Box(np.array([5e-324]), np.array([1e-320])))


def test_lengths_are_above_and_tight():
    A = np.random.default_rng(10).normal(size=(26, 300)) * 10.0 ** np.linspace(-320, 305, 26)[:, None]
    for row, length in zip(A, lengths(A), strict=True):
        square = sum(Fraction(a) ** 2 for a in row.tolist())
        assert square <= Fraction(float(length)) ** 2
        assert Fraction(float(length)) ** 2 <= square * (1 + Fraction(1, 10**12)) or length < 1e-290
    assert lengths(np.array([[np.inf, 0], [np.nan, 0], [1e308, 1.7e308], [0, 0]]))[:3].min() == np.inf


def test_ends_are_outward():
    low, high = Ball(np.array([1.0, 1e300, 0.0, 1e-310]), 0.1).ends()
    for a, c, b in zip(low.tolist(), (1.0, 1e300, 0.0, 1e-310), high.tolist(), strict=True):
        assert Fraction(a) <= Fraction(c) - Fraction(0.1) and Fraction(c) + Fraction(0.1) <= Fraction(b)
    low, high = Box(np.array([-5e-324, 5e-324]), np.array([-5e-324, 5e-324])).ends()
    assert (low == [-(2.0**-1022), 0]).all() and (high == [0, 2.0**-1022]).all()


def test_linear_maps_on_intervals_in_exact_arithmetic():
    rng = np.random.default_rng(12)
    for scale in (1.0, 1e-310, 1e150):
        op = Dense(rng.normal(size=(4, 3)) * scale, rng.normal(size=4) * scale)
        low = rng.normal(size=3)
        high = low + rng.choice([0.0, 1e-9, 1.0], size=3)
        ends = Linear(op).interval(low, high)
        for corner in itertools.product(*zip(low.tolist(), high.tolist(), strict=True)):
            for i in range(4):
                y = sum(
                    (Fraction(w) * Fraction(v) for w, v in zip(op.W[i].tolist(), corner, strict=True)),
                    Fraction(float(op.b[i])),
                )
                assert Fraction(float(ends[0][i])) <= y <= Fraction(float(ends[1][i]))


def test_by_hand():
    """relu(x) - relu(-x) = x: on [1, 2] the second is off, the first on; maxima and orders that are certain are read."""
    network = chain([Dense(np.array([[1.0], [-1.0]])), Activation("relu", 2), Dense(np.array([[1.0, -1.0]]))])
    low, high = reached(network, Box(np.ones(1), np.full(1, 2.0))).ends[-1]
    assert low[0] == pytest.approx(1) and high[0] == pytest.approx(2)
    found = localise(network, Box(np.ones(1), np.full(1, 2.0)))
    (op,) = (node.op for node in found.nodes if isinstance(node.op, Activation))
    assert (op.alpha == op.beta).all() and op.beta.tolist() == [1.0, 0.0]
    rows = Dense(np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([0.0, 3, -9]))
    box = Box(np.zeros(2), np.ones(2))
    most = localise(chain([rows, Maximum(np.array([[0, 1, 2], [0, 2, -1]]), 3)]), box)
    assert [type(node.op) for node in most.nodes] == [Dense, Gather]
    assert most.nodes[-1].op.index.tolist() == [1, 0]
    ranks = localise(chain([rows, Sort(np.array([[0, 1, 2]]), 3)]), box)
    assert ranks.nodes[-1].op.index.tolist() == [2, 0, 1]


def test_windows_lose_what_never_wins():
    rows = Dense(np.array([[1.0, 0], [0, 1], [1, 1]]), np.array([0.0, 0, 5]))
    network = chain([rows, Maximum(np.array([[0, 1], [1, 2], [0, 2]]), 3)])
    found = localise(network, Box(np.zeros(2), np.ones(2)))
    (maximum,) = (node.op for node in found.nodes if isinstance(node.op, Maximum))
    assert sorted(map(sorted, maximum.index.tolist())) == [[-1, 2], [-1, 2], [0, 1]]
    x = np.random.default_rng(0).uniform(size=(30, 2))
    np.testing.assert_allclose(np.diff(found(x), axis=0), np.diff(network(x), axis=0), atol=1e-12)


def test_what_is_not_known_keeps_its_slopes():
    network, region = regional.unknown(), Ball(np.zeros(N), 0.1)
    found = reached(network, region)
    assert np.isinf(found.ends[2][0]).all() and (abs(found.ends[4][0]) <= 1 + 1e-9).all()
    ops = [op for op in found.ops if isinstance(op, Activation)]
    assert (ops[0].beta == 2).all() and (ops[1].beta == 1).all() and np.isfinite(found.ends[-1][1]).all()
    huge = chain(
        [
            Dense(np.full((2, 2), 1e300)),
            Activation("relu", 2),
            Dense(np.full((2, 2), 1e300)),
            Activation("relu", 2),
        ]
    )
    found = reached(huge, Box(np.zeros(2), np.ones(2)))
    assert found.ends[-1][1].max() == np.inf and (found.ops[-1].beta == 1).all()


def test_refusals():
    with pytest.raises(InvalidProblem, match="no point in common"):
        Cut(Ball(np.zeros(2), 0.5), Box(np.ones(2), np.ones(2)))
    with pytest.raises(InvalidProblem, match="nothing in common"):
        Cut(Ball(np.zeros(2), 0.5), Box(np.ones(3), np.ones(3)))
    for radius in (-1.0, np.nan, np.inf, "1", None, 10**400, Fraction(1, 3)):
        with pytest.raises(InvalidProblem, match="radius"):
            Ball(np.zeros(2), radius)
    for ends in (
        (np.ones(2), np.zeros(2)),
        (np.zeros(2), np.ones(3)),
        (np.zeros(2), np.full(2, np.nan)),
        (["a"], ["b"]),
    ):
        with pytest.raises(InvalidProblem):
            Box(*ends)
    for center in (np.zeros((2, 2)), np.array([1j]), np.array([None]), 0.0, np.zeros(0)):
        with pytest.raises(InvalidProblem):
            Ball(center, 1.0)
    with pytest.raises(NotProvable, match="coordinates"):
        reached(NETWORKS["relu"], Ball(np.zeros(3), 1.0))
