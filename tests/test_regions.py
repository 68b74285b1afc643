"""Bounds of values on boxes, balls and balls in boxes: never below the truth in exact arithmetic."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from sdplip.bounds.samples import value_and_jacobian
from sdplip.certificates.bands import band
from sdplip.certificates.functions import FUNCTIONS
from sdplip.certificates.region import Ball, Box, Cut, _Walk, linear_share, localise, preactivations
from sdplip.certificates.regions import _furthest
from sdplip.certificates.system import Map, Slope, Sort
from sdplip.errors import InvalidProblem
from sdplip.networks import Activation, Affine, GroupSort, Network, Residual, from_weights, system_layers

N = 4


def numbers(*widths, seed=0):
    rng = np.random.default_rng(seed)
    Ws = [rng.normal(size=(m, n)) for n, m in itertools.pairwise(widths)]
    return Ws, [rng.normal(size=len(W)) for W in Ws]


def network(kind, *widths, seed=0):
    Ws, bs = numbers(*(widths or (N, 8, 6, 6, 2)), seed=seed)
    return from_weights(Ws, kind, bs)


def residual(between):
    Ws, bs = numbers(N, 6, 6, 6, 6, 2, seed=1)
    skip = Residual((Affine(Ws[1], bs[1]), between, Affine(Ws[2], bs[2])))
    return Network(
        (Affine(Ws[0], bs[0]), between, skip, between, Affine(Ws[3], bs[3]), between, Affine(Ws[4]))
    )


NETWORKS = {
    kind: network(kind) for kind in ("relu", "abs", "tanh", "sigmoid", "softplus", "softsign", "maxmin")
} | {
    "leaky": network(Activation(0.1, 1.0, "leaky_relu")),
    "steep leaky": network(Activation(1.0, 3.0, "leaky_relu")),
    "groupsort:3": network("groupsort:3", N, 9, 6, 2),
    "deep": network("relu", N, *(6,) * 6, 2, seed=2),
    "residual": residual(Activation(0.0, 1.0, "relu")),
    "residual maxmin": residual(GroupSort(2)),
    "residual tanh": residual(Activation(0.0, 1.0, "tanh")),
}
REGIONS = {
    "ball": lambda x: Ball(x, 0.4),
    "box": lambda x: Box(x - 0.2, x + 0.3),
    "cut": lambda x: Cut(Ball(x, 0.4), Box(x - 0.2, x + 0.3)),
    "cut off centre": lambda x: Cut(Ball(x, 0.4), Box(x + 0.1, x + 0.5)),
    "cut that is a ball": lambda x: Cut(Ball(x, 0.2), Box(x - 1, x + 1)),
    "point": lambda x: Ball(x, 0.0),
}


def points(region, rng, count):
    """Points of the region in exact arithmetic: corners of boxes, ends of balls, and some between."""
    ball = region if isinstance(region, Ball) else region.ball if isinstance(region, Cut) else None
    low, high = region.ends()
    found = [*itertools.product(*zip(low, high, strict=True))] if ball is None or ball is not region else []
    found += [*rng.uniform(low, high, size=(count, len(low)))]
    if ball is not None:
        v = rng.normal(size=(count, len(low)))
        v *= ball.radius * rng.choice([1.0, 0.7], size=(count, 1)) / np.linalg.norm(v, axis=1, keepdims=True)
        found += [np.clip(p, low, high) for p in ball.center + v * (1 - 1e-12)]
    for x in found:
        away = (
            0
            if ball is None
            else sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x, ball.center, strict=True))
        )
        inside = isinstance(region, Ball) or all(
            a <= v <= b
            for a, v, b in zip(
                *(
                    (region.lower, x, region.upper)
                    if ball is None
                    else (region.box.lower, x, region.box.upper)
                ),
                strict=True,
            )
        )
        if inside and (ball is None or away <= Fraction(ball.radius) ** 2):
            yield np.asarray(x)


@pytest.mark.parametrize("where", REGIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_slopes_lie_within(name, where):
    rng = np.random.default_rng(3)
    region = REGIONS[where](rng.normal(size=N))
    layers = system_layers(NETWORKS[name])
    for depth in {len(layers) // 2, len(layers)}:
        least, most = preactivations(layers[:depth], region)
        for x in points(region, rng, 40):
            value = value_and_jacobian(layers[:depth], x)[0]
            room = 1e-12 * (1 + abs(value))  # rounding of the sampled values
            assert (least <= value + room).all() and (value - room <= most).all()


@pytest.mark.parametrize("where", ["ball", "box", "cut", "cut off centre"])
@pytest.mark.parametrize("name", NETWORKS)
def test_backward_bounds_are_never_wider_than_forward_ones(name, where):
    region, layers = REGIONS[where](np.full(N, 0.3)), system_layers(NETWORKS[name])
    walk = _Walk(region)
    walk.all_through(layers)
    (low, high), (least, most) = walk.ends[-1], preactivations(layers, region)
    assert (least >= low).all() and (most <= high).all()
    for a, b in zip(localise(layers, region), layers, strict=False):
        if isinstance(a, Slope) and isinstance(b, Slope):
            assert (a.alpha >= b.alpha).all() and (a.beta <= b.beta).all()
    if name in ("deep", "residual") and where != "cut off centre":
        assert ((most - least) < (high - low)).all()


def test_backward_bounds_fix_more_neurons():
    layers, region = system_layers(network("relu", 5, *(30,) * 5, 3, seed=5)), Ball(np.full(5, 0.5), 0.4)
    forward = linear_share(_Walk(region).all_through(layers))[0]
    assert linear_share(localise(layers, region))[0] > forward


def test_backward_bounds_fix_no_fewer_pairs():
    layers, region = system_layers(network("maxmin", 5, *(20,) * 4, 3, seed=5)), Ball(np.full(5, 0.5), 0.05)
    loose = [
        sum(len(layer.groups) for layer in found if isinstance(layer, Sort))
        for found in (_Walk(region).all_through(layers), localise(layers, region))
    ]
    assert 0 < loose[1] <= loose[0]


def test_a_ball_in_a_box_is_narrower_than_both():
    layers, x = system_layers(NETWORKS["relu"]), np.full(N, 0.1)
    ball, box = Ball(x, 0.5), Box(np.zeros(N), np.ones(N))
    ends = [preactivations(layers, region) for region in (Cut(ball, box), ball, box)]
    for low, high in ends[1:]:
        assert (ends[0][0] >= low).all() and (ends[0][1] <= high).all()
        assert (ends[0][1] - ends[0][0] < high - low).all()


def exact(net, x):
    """All arguments and outputs of a network with ReLU or MaxMin in rational arithmetic."""
    z, found = [Fraction(v) for v in x], []
    for layer in net.layers:
        if isinstance(layer, Affine):
            b = np.zeros(len(layer.W)) if layer.b is None else layer.b
            z = [
                sum(Fraction(w) * v for w, v in zip(row, z, strict=True)) + Fraction(c)
                for row, c in zip(layer.W, b, strict=True)
            ]
            found.append(z)
        else:
            z = (
                [v for k in range(0, len(z), 2) for v in sorted(z[k : k + 2])]
                if isinstance(layer, GroupSort)
                else [max(v, Fraction(0)) for v in z]
            )
    return found


HOSTILE = {
    "plain": lambda W, b: (W, b),
    "tiny": lambda W, b: (W * 1e-60, b * 1e-60),
    "huge": lambda W, b: (W * 1e40, b * 1e40),
    "cancelling": lambda W, b: (np.round(W, 1) + np.where(np.arange(W.shape[1]) % 2, -1e8, 1e8), b),
    "opposite rows": lambda W, b: (W[:1] * np.where(np.arange(len(W)) % 2, -1, 1)[:, None], b * 0),
    "mixed sizes": lambda W, b: (W * 10.0 ** np.linspace(-9, 9, len(W))[:, None], b),
}


@pytest.mark.parametrize("kind", ["relu", "maxmin"])
@pytest.mark.parametrize("where", ["ball", "box", "cut", "cut off centre"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_value_escapes_in_exact_arithmetic(hostile, where, kind):
    rng = np.random.default_rng(8)
    for seed in range(2):
        Ws, bs = numbers(2, 4, 4, 2, 2, seed=seed)
        changed = [HOSTILE[hostile](W, b) for W, b in zip(Ws, bs, strict=True)]
        net = from_weights([W for W, _ in changed], kind, [b for _, b in changed])
        layers, region = system_layers(net), REGIONS[where](rng.normal(size=2))
        ends = [preactivations(layers[: 2 * k + 1], region) for k in range(len(Ws))]
        for x in points(region, rng, 12):
            for (low, high), values in zip(ends, exact(net, x), strict=True):
                for a, v, b in zip(low, values, high, strict=True):
                    assert Fraction(a) <= v <= Fraction(b)


@pytest.mark.parametrize("where", REGIONS)
def test_linear_functions_on_regions(where):
    """Above in exact arithmetic, and attained up to rounding; by hand for one of them."""
    rng = np.random.default_rng(4)
    region = REGIONS[where](rng.normal(size=N))
    L = rng.normal(size=(6, N)) * np.array([1, 1, 1e-160, 1e150, 1, 1])[:, None]
    L[4, 1:] = 0.0
    found = region.above(L)
    for x in points(region, rng, 60):
        for row, most in zip(L, found, strict=True):
            assert sum(Fraction(a) * Fraction(v) for a, v in zip(row, x, strict=True)) <= Fraction(most)
    ball = region if isinstance(region, Ball) else getattr(region, "ball", None)
    if ball is not None:
        low, high = region.ends()
        best = ball.center + _furthest(L, low - ball.center, high - ball.center, ball.radius)[0]
        scale = abs(L).max(1)
        near = (found - (L * best).sum(1)) / scale <= 1e-9
        assert near[[0, 1, 3, 4, 5]].all()  # squares of 1e-160 are out of range
    assert Cut(Ball(np.zeros(2), 1.0), Box(np.zeros(2), np.array([0.6, 2.0]))).above(
        np.array([[1.0, 0.5]])
    ) == pytest.approx(0.6 + 0.4)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_smooth_functions_stay_in_their_bands(kind):
    rng = np.random.default_rng(6)
    low = rng.normal(size=200) * 3
    high = low + rng.choice([0.0, 1e-9, 0.1, 2.0, 20.0], size=200)
    here, found = band(Slope(np.zeros(200), np.ones(200), kind), low, high)
    for share in np.linspace(0, 1, 41):
        x = np.clip(low + share * (high - low), low, high)
        value, error = FUNCTIONS[kind].value(x)
        assert (found.slope * x + found.bottom <= value + error).all()
        assert (value - error <= found.slope * x + found.top).all()
        assert (found.least <= value + error).all() and (value - error <= found.most).all()
    height = (here.beta - here.alpha) * (high - low) / 2  # of the band without the values at the ends
    assert (found.top - found.bottom <= height * (1 + 1e-9) + 1e-10).all()


def test_refusals():
    with pytest.raises(InvalidProblem, match="no point in common"):
        Cut(Ball(np.zeros(2), 0.5), Box(np.ones(2), np.ones(2)))
    with pytest.raises(InvalidProblem, match="nothing in common"):
        Cut(Ball(np.zeros(2), 0.5), Box(np.ones(3), np.ones(3)))
    with pytest.raises(InvalidProblem, match="range of double"):
        preactivations(
            (Map(np.full((2, 2), 1e300)), Map(np.full((2, 2), 1e300))), Box(np.zeros(2), np.ones(2))
        )
