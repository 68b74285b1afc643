"""Gradient and curvature of margins on a ball: ranges of second derivatives, known answers, laws, radii that no attack breaks."""

from dataclasses import replace
from itertools import pairwise, product

import mpmath
import numpy as np
import pytest

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.arithmetic.second import SECOND, second_derivatives
from sdplip.kernel.accuracy import radii
from sdplip.kernel.centred import Around, Bends, Front, smooth
from sdplip.kernel.check import conclude
from sdplip.network import Activation, Builder, Dense, Sum, chain
from sdplip.network.jacobian import derivative
from sdplip.robustness.around import enlarge, largest_radius
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.verifier.images import Images

pytestmark = pytest.mark.usefixtures("one_thread")
TRUE = {
    "tanh": mpmath.tanh,
    "tanhshrink": lambda x: x - mpmath.tanh(x),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "logsigmoid": lambda x: -mpmath.log(1 + mpmath.exp(-x)),
    "atan": mpmath.atan,
    "gelu": lambda x: x * (1 + mpmath.erf(x / mpmath.sqrt(2))) / 2,
    "erf": mpmath.erf,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
}
PEAKS = {
    "tanh": 4 / 27**0.5,
    "sigmoid": 1 / 108**0.5,
    "softplus": 0.25,
    "gelu": (2 / np.pi) ** 0.5,
    "silu": 0.5,
}


def two_layers(kind, *sizes, seed=0):
    rng = np.random.default_rng(seed)
    ops = []
    for n, m in pairwise(sizes):
        ops += [Dense(rng.normal(size=(m, n)) / n**0.5 * 1.5, rng.normal(size=m) / 2), Activation(kind, m)]
    return chain(ops[:-1])


def residual(kind="tanh"):
    """x -> C (x + B phi(A x)), then phi, then a head: a sum, and a function behind another."""
    rng, builder = np.random.default_rng(5), Builder((6,))
    inner = builder.add(
        Activation(kind, 8), builder.add(Dense(rng.normal(size=(8, 6)) / 2, rng.normal(size=8)), 0)
    )
    both = builder.add(Sum((1, -1), 6), 0, builder.add(Dense(rng.normal(size=(6, 8)) / 3), inner))
    after = builder.add(Activation("softplus", 6), both)
    return builder.finish(builder.add(Dense(rng.normal(size=(3, 6))), after))


NETWORKS = {
    **{kind: two_layers(kind, 6, 9, 3) for kind in SECOND},
    "deep tanh": two_layers("tanh", 6, 8, 8, 3),
    "deep gelu": two_layers("gelu", 6, 8, 8, 3),
    "residual": residual(),
}


def bends(network, x, radius):
    return Bends.of(Around.of(Front.of(network).at(x), radius))


def test_every_function_has_its_true_value_here():
    assert set(TRUE) == set(SECOND) <= set(FUNCTIONS)


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_lie_in_their_ranges(name):
    """At points, with the ends of an interval around each; and over the whole line, where known peaks are attained."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [rng.normal(size=25) * 2, [-40.0, -2.0, -0.5773502691896258, 0.0, 0.5, 1.3169578969248166, 40.0]]
    )
    low, high = x - rng.exponential(size=x.shape) / 4, x + rng.exponential(size=x.shape) / 4
    with mpmath.workdps(50):
        true = [mpmath.diff(TRUE[name], mpmath.mpf(float(v)), 2) for v in x]
        for ends, wide in (
            (second_derivatives(name, x, x), False),
            (second_derivatives(name, low, high), True),
        ):
            for v, a, b in zip(true, *ends, strict=True):
                assert a <= v <= b and (wide or b - a < 1e-8)
    (least,), (most,) = second_derivatives(name, np.array([-np.inf]), np.array([np.inf]))
    assert least <= min(true) and max(true) <= most
    if name in PEAKS:
        assert most == pytest.approx(PEAKS[name], rel=1e-9)


def test_factors_of_the_argument():
    """softplus(b x) / b bends b times as much, b times as near."""
    beta = np.array([0.5, 3.0])
    low, high = np.array([-0.2, -0.2]), np.array([0.4, 0.4])
    for name in ("softplus", "silu"):
        wide = second_derivatives(name, low, high, beta=beta)
        own = second_derivatives(name, low * beta, high * beta)
        for found, plain in zip(wide, own, strict=True):
            np.testing.assert_allclose(found, plain * beta, rtol=1e-9, atol=1e-9)


def test_one_hidden_layer_is_the_worst_of_all_signs():
    """On a large ball M is the largest norm of W' diag(g s) W over second derivatives s of any sign, at their peaks."""
    rng = np.random.default_rng(0)
    W, g = rng.normal(size=(7, 3)), rng.normal(size=(1, 7))
    every = max(np.linalg.norm((W.T * (g[0] * np.array(s))) @ W, 2) for s in product([-1, 1], repeat=7))
    network = chain([Dense(W), Activation("tanh", 7), Dense(g)])
    found = bends(network, np.zeros(3), 1e6).curvature(np.ones(1))
    assert found == pytest.approx(PEAKS["tanh"] * every, rel=1e-5)


def test_one_neuron_by_hand():
    """f = tanh at 1 falls by tanh 1 - tanh(1 - r): its slope there, and the mean of its bend on the way, say nearly that."""
    network = chain([Activation("tanh", 1), Dense(np.eye(1))])
    for r in (1e-3, 0.1, 0.5):
        true = (np.tanh(1) - np.tanh(1 - r)) / r
        found = bends(network, np.ones(1), r).fall(np.ones(1))
        assert true <= found <= true * (1 + 0.2 * r) + 1e-9, (
            "convex left of 1: what bends upward costs nothing, what is flat does"
        )
        assert bends(network, np.ones(1), r).fall(-np.ones(1)) >= (np.tanh(1 + r) - np.tanh(1)) / r


def test_margin_gradient_and_curvature_one():
    """m = g = M = 1: m - g r - M r^2 / 2 is 0 at sqrt(3) - 1, where a constant of 2 says 1/2."""
    found, _ = largest_radius(lambda R: 1 / (1 + R / 2), 0.1)
    assert found == pytest.approx(3**0.5 - 1, rel=5e-3)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("radius", [0.01, 0.3, 2.0])
def test_no_margin_falls_faster_or_bends_more(name, radius):
    network, rng = NETWORKS[name], np.random.default_rng(1)
    assert smooth(network)
    x, row = rng.normal(size=network.inputs), rng.normal(size=network.outputs)
    found = bends(network, x, radius)
    fall, M = found.fall(row), found.curvature(row)
    assert np.isfinite(fall) and found.flat.gains(row[None])[0] <= fall

    def slope(d):
        return row @ derivative(network, x + d).matrix()

    for d in [-slope(0), *rng.normal(size=(6, network.inputs))]:
        d = d / np.linalg.norm(d) * radius
        for _ in range(3):  # a few steps down the slope at the end, back into the ball
            assert row @ (network(x) - network(x + d)) <= fall * radius * (1 + 1e-9) + 1e-12
            down = -slope(d)
            d = (d + radius * down / np.linalg.norm(down)) / 2
            d = d * min(1.0, radius / np.linalg.norm(d))
        h = 1e-4
        u = d / np.linalg.norm(d)
        assert (slope(d) - slope(d - h * u)) @ u / h >= -M - 1e-3, "differences of slopes, 1e-4 apart"


def test_corners_on_the_ball_have_no_curvature_and_those_outside_cost_nothing():
    W = np.array([[1.0, 0.0], [0.0, 1.0]])
    network = chain(
        [Dense(W), Activation("relu", 2), Dense(W), Activation("tanh", 2), Dense(np.ones((1, 2)))]
    )
    x = np.array([0.5, 0.7])
    assert bends(network, x, 0.1).fall(np.ones(1)) < np.inf
    assert bends(network, x, 0.6).fall(np.ones(1)) == np.inf
    assert not smooth(two_layers("relu", 6, 9, 3))


@pytest.mark.parametrize("name", ["tanh", "softplus", "gelu", "deep tanh", "residual"])
def test_radii_grow_are_proven_again_and_stand_attacks(name):
    network = NETWORKS[name]
    x = np.random.default_rng(2).integers(0, 256, size=(5, network.inputs)).astype(np.uint8)
    before = certify_graph(network, x, network(x / 255).argmax(-1), arithmetic="exact", method="product")
    found = enlarge(network, x, before, bent=0)
    secants = enlarge(network, x, before, bent=0, curvature=False)
    new, old = found.certification.radius, secants.certification.radius
    assert (new >= old * (1 - 5e-3)).all() and new.mean() > 1.005 * old.mean()  # searches end within CLOSE
    points = Images(x, found.claim.label).entering(np.arange(len(x)), "exact")
    again = radii(network, points, found.proof, "exact", conclude)
    assert (again.radius >= found.claim.radius).all()
    assert (new > 0).all()
    for point, label, radius in zip(points, found.claim.label, new, strict=True):
        for j in set(range(network.outputs)) - {int(label)}:
            d = np.zeros(network.inputs)
            for _ in range(10):  # down the slope of each margin on the sphere
                down = (derivative(network, point + d).matrix()[[j, label]] * [[1], [-1]]).sum(0)
                d = d + radius * down / max(np.linalg.norm(down), 1e-300)
                d = 0.999999 * radius * d / np.linalg.norm(d)
                assert network(point + d).argmax() == label
    data = dict(found.proof.data, radius=np.array(found.proof.data["radius"]) * 1.6)
    more = radii(network, points, replace(found.proof, data=data), "exact", conclude)
    assert (more.radius <= new * (1 + 1e-12)).mean() > 0.5, (
        "larger balls fall back on constants of all inputs"
    )
