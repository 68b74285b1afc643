"""Offsets on balls: the formula against grids and exact rationals, falls against samples and plain CROWN, and lies that prove nothing false."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.kernel.spread import Front, fall, falls, spread_of
from sdplip.kernel.spread.crop import Chain
from sdplip.kernel.spread.offset import Cap, offset
from sdplip.network import Activation, Builder, Concatenate, Convolution, Dense, Sum, chain
from sdplip.robustness.offset_search import Row, Search
from sdplip.robustness.offsets import proof_of
from tests.regional import plain

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = ("relu", "leaky_relu", "abs")
SLOPES = {"relu": (0.0, 1.0), "leaky_relu": (0.01, 1.0), "abs": (-1.0, 1.0)}


def cap(kind, center, radius, low, high):
    n, (left, right) = len(center), SLOPES[kind]
    return Cap.of(center, radius, low, high, np.full(n, left), np.full(n, right))


def residual():
    rng, b = np.random.default_rng(2), Builder((5,))

    def dense(n, m):
        return Dense(rng.normal(size=(m, n)) / n**0.5, 0.3 * rng.normal(size=m))

    first = b.add(dense(5, 6), 0)
    block = b.add(dense(6, 6), b.add(Activation("relu", 6), first))
    total = b.add(Sum((1, 1), 6), first, block)
    both = b.add(Concatenate((6, 6)), b.add(Activation("abs", 6), total), b.add(Activation("relu", 6), block))
    return b.finish(b.add(dense(12, 3), both))


def images():
    rng = np.random.default_rng(5)

    def kernel(*shape):
        return rng.normal(size=shape) / 3

    first = Convolution(
        kernel(4, 1, 3, 3), (6, 6), (2, 2), ((1, 1), (1, 1)), (1, 1), b=rng.normal(size=36) / 5
    )
    second = Convolution(kernel(3, 4, 2, 2), (3, 3), (1, 1), ((0, 1), (1, 0)), (1, 1))
    head = Dense(rng.normal(size=(3, second.outputs)) / 4)
    return chain([first, Activation("relu", 36), second, Activation("relu", second.outputs), head])


NETWORKS = {
    **{kind: plain(lambda n, kind=kind: Activation(kind, n), 7, 9, 9, 3, seed=3) for kind in KINDS},
    "residual": residual(),
    "images": images(),
}


def exactly(cap_, c, g, scale):
    """The right side of the statement in rational arithmetic."""
    total = Fraction(scale) / 2 * Fraction(cap_.radius) ** 2
    for z, low, high, left, right, c_, g_ in zip(
        *(map(Fraction, v.tolist()) for v in (cap_.center, cap_.low, cap_.high, cap_.left, cap_.right, c, g)),
        strict=True,
    ):
        best = []
        for slope, start, end in ((right, max(low, Fraction(0)), high), (left, low, min(high, Fraction(0)))):
            if start <= end:
                a, points = c_ * slope - g_, [start, end]
                if scale:
                    points.append(min(max(z + a / Fraction(scale), start), end))
                best += [a * p - Fraction(scale) / 2 * (p - z) ** 2 for p in points]
        total += max(best)
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_the_offset_is_that_of_rational_arithmetic(kind):
    rng = np.random.default_rng(0)
    for trial in range(20):
        center, far = rng.normal(size=3), np.abs(rng.normal(size=3)) + 0.1
        low, high = np.minimum(center - far, -0.01), np.maximum(center + far, 0.01)
        c, g = rng.normal(size=3), rng.normal(size=3) / 3
        one = cap(kind, center, 0.7, low, high)
        for scale in (0.0, 2.0 ** (trial - 10)):
            exact = exactly(one, c, g, scale)
            best = min(exact, exactly(one, c, g, 0.0))
            found = offset(one, c[None], g[None], np.array([scale]))[0]
            assert best <= Fraction(float(found)) <= best + (1 + abs(best)) * Fraction(1, 10**13)


def test_the_offset_of_the_paper():
    """Without a box and of a ReLU: the formula of SDP-CROWN, with the signs of an upper bound."""
    rng = np.random.default_rng(1)
    center, c, g = rng.normal(size=(3, 4))
    one = cap("relu", center, 0.5, np.full(4, -1e3), np.full(4, 1e3))
    for scale in (0.3, 1.0, 7.0):
        phi = np.maximum.reduce([c - g + scale * center, g - scale * center, np.zeros(4)])
        paper = (scale * (0.25 - center @ center) + phi @ phi / scale) / 2
        assert offset(one, c[None], g[None], np.array([scale]))[0] == pytest.approx(paper, rel=1e-12)


def test_the_best_scalar_is_tight_in_two_dimensions():
    """The dual of a difference of few corners: at least the grid's maximum, and not far above it where the row is concave."""
    axis = np.linspace(-1, 1, 401)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    grid = grid[(grid**2).sum(1) <= 1]
    rng = np.random.default_rng(2)
    for _ in range(10):
        center, c, g = 0.3 * rng.normal(size=2), -abs(rng.normal(size=2)), rng.normal(size=2) / 3
        z = center + 0.8 * grid
        truth = float((np.maximum(z, 0) @ c - z @ g).max())
        one = cap("relu", center, 0.8, center - 0.8, center + 0.8)
        found = float(offset(one, c[None], g[None], None)[0])
        box = float(offset(one, c[None], g[None], np.zeros(1))[0])
        assert truth <= found <= box and found <= truth + 0.02


def sampled(network, x, radius, row, count=4000):
    rng = np.random.default_rng(9)
    d = rng.normal(size=(count, len(x)))
    d *= radius / np.linalg.norm(d, axis=1, keepdims=True)
    return float((row @ network(x) - network(x + d) @ row).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_no_sample_falls_farther(name):
    network = NETWORKS[name]
    front, row = Front.of(network, {}), np.eye(network.outputs)[0] - np.eye(network.outputs)[1]
    x = np.random.default_rng(3).normal(size=network.inputs)
    for radius in (0.01, 0.3, 2.0):
        spread = spread_of(front, x, radius)
        plain_, searched, uncoupled = falls(spread, row, None), *(
            falls(spread, row, proof_of(Search(front)([Row(spread, row)], until=None, scalars=coupled)[0]))
            for coupled in (True, False)
        )  # fmt: skip
        most = sampled(network, x, radius, row)
        assert 0 < most <= min(plain_, searched, uncoupled)
        assert searched <= plain_ * 1.02 + 1e-6 and searched <= uncoupled * 1.02 + 1e-6
        for k, (low, high) in enumerate(zip(spread.low, spread.high, strict=True)):
            *_, inside = (v for _, v in zip(range(k + 1), network.values(x), strict=False))
            assert (low <= inside).all() and (inside <= high).all()


def test_whatever_is_given_is_sound():
    """Slopes and scalars of any size, and splits of any entry: each gives a bound, none below the samples."""
    network = NETWORKS["relu"]
    front, row = Front.of(network, {}), np.array([1.0, -1.0, 0.0])
    x = np.random.default_rng(3).normal(size=7)
    spread, rng = spread_of(front, x, 1.0), np.random.default_rng(0)
    most = sampled(network, x, 1.0, row)
    for size in (0.0, 1.0, 1e3, 1e150, 1e300):
        slopes = [size * rng.normal(size=9), size * rng.normal(size=9)]
        for scale in (0.0, 1e-300, 1.0, 1e300):
            proof = Proof("offset", {"slopes": slopes, "scale": [scale, scale / 2]})
            assert falls(spread, row, proof) >= most
            cut = Proof("split", {"activation": 1, "entry": 2}, (proof, proof))
            assert falls(spread, row, cut) >= most


@pytest.mark.parametrize(
    "proof",
    [
        Proof("offset", {}),
        Proof("offset", {"slopes": [np.zeros(9)], "scale": [1.0, 1.0]}),
        Proof("offset", {"slopes": [np.zeros(9), np.zeros(8)], "scale": [1.0, 1.0]}),
        Proof("offset", {"slopes": [np.zeros(9), np.full(9, np.nan)], "scale": [1.0, 1.0]}),
        Proof("offset", {"slopes": [np.zeros(9), np.zeros(9)], "scale": [1.0, -1.0]}),
        Proof("offset", {"slopes": [np.zeros(9), np.zeros(9)], "scale": [1.0, np.inf]}),
        Proof("split", {"activation": 0, "entry": 9}, (Proof("offset"), Proof("offset"))),
        Proof("split", {"activation": 2, "entry": 0}, (Proof("offset"), Proof("offset"))),
        Proof("split", {"activation": 0, "entry": 0}, (Proof("offset"),)),
        Proof("layers", {}),
    ],
)
def test_what_is_malformed_is_refused(proof):
    spread = spread_of(Front.of(NETWORKS["relu"], {}), np.zeros(7), 1.0)
    with pytest.raises(NotProvable):
        falls(spread, np.array([1.0, -1.0, 0.0]), proof)


def test_functions_with_other_knots_are_refused():
    for name in ("tanh", "relu6", "hardtanh"):
        with pytest.raises(NotProvable, match="ReLU, leaky ReLU"):
            Front.of(plain(lambda n, name=name: Activation(name, n), 4, 5, 2), {})


def test_a_split_is_worth_what_it_decides():
    """With every open entry cut, a ReLU network of one layer is linear on each part: the fall is the worst gradient's, and no more."""
    network = chain([Dense(np.eye(2)), Activation("relu", 2), Dense(np.array([[1.0, -1.0], [0.0, 0.0]]))])
    spread = spread_of(Front.of(network, {}), np.array([0.1, 0.1]), 1.0)
    row = np.array([1.0, -1.0])  # x1+ - x2+: falls by (x2 - .1) + .1 at most 1, at (0.1, 1.1)
    leaf = Proof("offset", {"slopes": [np.array([1.0, 1.0])], "scale": [1.0]})
    tree = leaf
    for entry in (0, 1):
        tree = Proof("split", {"activation": 0, "entry": entry}, (tree, tree))
    search = Search(Front.of(network, {}))
    found = search([Row(spread, row)], until=None)[0]
    whole = falls(spread, row, proof_of(found))
    parts = []
    for on in (False, True):
        side = spread.cut(2, 0, on)
        one = search([Row(side, row, found)], until=None)[0]
        parts.append(falls(side, row, proof_of(one)))
    assert sampled(network, np.array([0.1, 0.1]), 1.0, row) <= max(parts) + 1e-9
    assert max(parts) <= whole + 1e-6 and falls(spread, row, tree) >= max(parts) - 1e-3


@pytest.mark.parametrize("factor", [2.0**-300, 2.0**300])
def test_extreme_values(factor):
    """Weights and images of any size: bounds stay above the truth, or are infinite, or the network is refused."""
    ops = [n.op for n in NETWORKS["relu"].nodes]
    network = chain([replace(ops[0], W=ops[0].W * factor, b=ops[0].b * factor), *ops[1:]])
    x, row = np.linspace(-1, 1, 7), np.array([1.0, -1.0, 0.0])
    for radius in (1e-200, 1e-3, 1.0):
        spread = spread_of(Front.of(network, {}), x, radius)
        assert falls(spread, row, None) >= sampled(network, x, radius, row, 200)


def windowed(stride, pads, dilation, groups):
    """Three convolutions on images that are not square, one with a bias of each pixel."""
    rng, size = np.random.default_rng(8), (7, 6)
    ops, channels = [], 2
    for out, taps in ((4, (3, 2)), (6, (2, 3)), (4, (2, 2))):
        K = rng.normal(size=(out, channels // groups, *taps)) / 2
        op = Convolution(K, size, stride, pads, dilation, groups=groups)
        ops += [replace(op, b=rng.normal(size=op.outputs) / 5), Activation("leaky_relu", op.outputs)]
        size, channels = op.output_size, out
    return chain(
        [*ops[:-1], Activation("relu", ops[-2].outputs), Dense(rng.normal(size=(3, ops[-2].outputs)))]
    )


@pytest.mark.parametrize(
    ("stride", "pads", "dilation", "groups"),
    [
        ((1, 1), ((1, 1), (1, 1)), (1, 1), 1),
        ((2, 1), ((1, 1), (0, 1)), (1, 1), 2),
        ((1, 2), ((0, 1), (1, 1)), (1, 1), 1),
        ((1, 1), ((1, 1), (1, 2)), (1, 2), 2),
    ],
)
def test_windows_of_an_image_are_worth_the_whole(stride, pads, dilation, groups, monkeypatch):
    """The ends that windows of pixels give are those of rows through whole images, wherever an edge is."""
    network = windowed(stride, pads, dilation, groups)
    x = np.random.default_rng(1).normal(size=network.inputs)
    tiled = spread_of(Front.of(network, {}), x, 0.7)
    assert len(Chain.of(network, 5).tiles(fall.TILE)) > 1 and Chain.of(network, 7) is None
    monkeypatch.setattr(fall.Chain, "of", lambda *_: None)
    whole = spread_of(Front.of(network, {}), x, 0.7)
    assert list(tiled.caps) == [2, 4, 6]
    for k in (3, 5):
        for one, other in ((tiled.low, whole.low), (tiled.high, whole.high)):
            np.testing.assert_allclose(one[k], other[k], rtol=0, atol=1e-9)
        assert (tiled.low[k] < tiled.high[k]).all()
    assert min((tiled.high[3] - tiled.low[3]).max(), tiled.radius[3]) > 0.1


def test_windows_of_what_is_no_image():
    """A chain is followed only where zeros stand outside, and where every value has the pixels that the next one reads."""
    around = Convolution(np.ones((1, 1, 3, 3)), (4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), circular=True)
    far = Convolution(np.ones((1, 1, 2, 2)), (4, 4), (1, 1), ((2, 2), (2, 2)), (1, 1))
    assert all(Chain.of(chain([op]), 1) is None for op in (around, far))
    wide = Convolution(np.ones((1, 1, 1, 1)), (2, 8), (1, 1), ((0, 0), (0, 0)), (1, 1))
    square = replace(wide, image_size=(4, 4))
    assert Chain.of(chain([wide, Activation("relu", 16), square]), 3) is None
    assert Chain.of(chain([square, Activation("relu", 16), square]), 3).shapes == ((1, 4, 4),) * 4
    assert Chain.of(chain([square, Dense(np.eye(16))]), 2) is None
