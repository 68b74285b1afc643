"""Increments from a centre: constants above all that are found, in exact arithmetic and with hostile weights too."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.errors import NotProvable
from sdplip.kernel.centred import Around, Front
from sdplip.kernel.centred.ball import norm_above
from sdplip.kernel.centred.pairs import without_pairs
from sdplip.kernel.centred.slopes import secants
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.regions import Ball, Box
from sdplip.kernel.rules.secants import secant_network
from sdplip.network import Activation, Dense, Diagonal, Network, Sort, chain
from sdplip.network.jacobian import derivative, is_known
from tests.regional import HOSTILE, NETWORKS, N, dense, exact, groups, hostile, plain

ROOM = 1e-12
"""Relative: what the sampled outputs round."""
CASES = NETWORKS | {
    "fives": plain(groups(5), N, 10, 5, 3),
    "dead": chain(
        [
            Dense(np.eye(N)),
            Activation("relu", N),
            Dense(np.zeros((3, N))),
            Activation("relu", 3),
            Dense(np.ones((2, 3))),
        ]
    ),
    "linear": chain([dense(np.random.default_rng(0), N, 3), Diagonal(np.arange(3.0))]),
}


def worst(
    network: Network, x: np.ndarray, radius: float, rows: np.ndarray, rng, tries: int = 30
) -> np.ndarray:
    """The largest increment of each row per unit of distance at random points, and uphill of the best of them."""
    f, most = network(x), np.zeros(len(rows))
    for k in range(tries):
        v = rng.normal(size=len(x))
        v *= radius * (1.0, 0.5, 0.01)[k % 3] / np.linalg.norm(v)
        for _ in range(3):
            size = np.linalg.norm((x + v) - x)
            if not 0 < size <= radius:
                break
            at = network(x + v)
            found = abs(rows @ (at - f)) / size - ROOM * abs(rows) @ (abs(at) + abs(f)) / size
            most = np.maximum(most, found)
            if not is_known(network):
                break
            uphill = derivative(network, x + v).backward(rows[k % len(rows)] * (-1.0) ** k)
            v = uphill * radius / max(np.linalg.norm(uphill), 1e-300) * (1 - 1e-12)
    return most


@pytest.mark.parametrize("radius", [1e-6, 0.05, 3.0])
@pytest.mark.parametrize("name", CASES)
def test_no_increment_exceeds_its_constant(name, radius):
    network, rng = CASES[name], np.random.default_rng(5)
    one = np.eye(network.outputs)
    rows, x = np.concatenate([one, one[0] - one[1:]]), rng.normal(size=N)
    around = Around.of(Front.of(network).at(x), radius)
    assert (worst(network, x, radius, rows, rng) <= around.gains(rows)).all()
    y = network(x + rng.normal(size=(60, N)) * radius / (4 * N))
    assert (
        np.isfinite(around.length())
        and around.length() <= np.linalg.norm(around.gains()) * (1 + 1e-9) + 1e-300
    )
    assert len(y) == 60


@pytest.mark.parametrize("name", ["relu", "tanh", "maxmin", "residual", "deep", "image", "gelu"])
def test_a_point_has_the_lengths_of_its_jacobian_and_small_balls_nearly(name):
    network, x = CASES[name], np.random.default_rng(6).normal(size=N)
    truth = np.linalg.norm(derivative(network, x).matrix(), axis=1)
    centre = Front.of(network).at(x)
    for radius, room in ((0.0, 1e-4), (1e-9, 1e-4), (0.02, 0.5)):
        found = Around.of(centre, radius).gains()
        assert (truth <= found * (1 + 1e-12)).all()
        np.testing.assert_allclose(found, truth, rtol=room)


@pytest.mark.parametrize(
    "name", ["relu", "maxmin", "residual", "residual maxmin", "silu", "image", "functions"]
)
def test_the_rule_and_its_parts(name):
    network, rng = CASES[name], np.random.default_rng(11)
    x, row = rng.normal(size=N), np.eye(1, CASES[name].outputs)
    for radius in (0.05, 0.4):
        ball = Ball(x, radius)
        whole = conclude(Goal(network, ball, centred=True), Proof("secants"))
        each = conclude(Goal(network, ball, "linf", centred=True), Proof("secants"))
        assert each <= whole < np.inf
        local = secant_network(network, ball)
        assert worst(network, x, radius, row, rng)[0] <= each
        pairs = rng.normal(size=(2, 20, N))
        steps = np.linalg.norm(pairs[0] - pairs[1], axis=-1)
        linear = _between(local)
        moved = np.linalg.norm(linear(pairs[0]) - linear(pairs[1]), axis=-1)
        assert np.isfinite(moved / steps).all()


def _between(network: Network) -> Network:
    """The network with one slope of each interval."""
    from dataclasses import replace

    def straight(op):
        if not isinstance(op, Activation):
            return op
        d = op.alpha / 2 + op.beta / 2
        return Diagonal(d)

    return Network(network.input_shape, tuple(replace(node, op=straight(node.op)) for node in network.nodes))


def test_one_neuron_by_hand():
    """relu(x) from x = 1 on [-2, 4]: secants have slopes from 1/3 to 1. relu(-x) has 2/3; three neurons apart 1/3 each way."""
    network = chain(
        [
            Dense(np.array([[1.0], [1], [-1]])),
            Activation("relu", 3),
            Dense(np.array([[1.0, 0, 0], [0, -1, 1]])),
        ]
    )
    found = Around.of(Front.of(network).at(np.ones(1)), 3.0).gains(np.array([[1.0, 0], [1, 1]]))
    assert found[0] == pytest.approx(1, rel=1e-5) and 2 / 3 <= found[1] <= 4 / 3 * (1 + 1e-5)
    one = np.ones(1)
    alpha, beta = secants(Activation("relu", 1), (one, one), np.array([-2.0]), np.array([4.0]))
    assert alpha[0] == pytest.approx(1 / 3) and alpha[0] <= 1 / 3 and beta[0] == 1


def test_secants_of_pieces_in_exact_arithmetic():
    rng, n = np.random.default_rng(7), 400
    for name, left in (("relu", Fraction(0)), ("abs", Fraction(-1)), ("leaky_relu", Fraction(0.01))):
        center = rng.choice([0.0, 1.0, 1e-300, 1e200], size=n) * rng.normal(size=n)
        slop = abs(center) * rng.choice([0.0, 1e-12, 2.0], size=n)
        low = center - slop - abs(center) * rng.uniform(0, 3, size=n)
        high = center + slop + abs(center) * rng.uniform(0, 3, size=n)
        near = np.maximum(center - slop, low), np.minimum(center + slop, high)
        alpha, beta = secants(Activation(name, n), near, low, high)
        for k in range(n):
            ends = [Fraction(v[k]) for v in (*near, low, high)]
            for z, v in itertools.product(
                {*ends[:2], Fraction(center[k])}, {*ends[2:], ends[2] / 3, ends[3] / 3}
            ):
                if z != v and ends[2] <= v <= ends[3]:
                    slope = ((v if v >= 0 else left * v) - (z if z >= 0 else left * z)) / (v - z)
                    assert Fraction(alpha[k]) <= slope <= Fraction(beta[k])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_secants_of_every_function(name):
    rng, n = np.random.default_rng(8), 300
    op = Activation(name, n)
    center = 3 * rng.normal(size=n)
    low, high = center - rng.choice([0, 0.01, 1, 20], size=n), center + rng.choice([0, 0.01, 1, 20], size=n)
    alpha, beta = secants(op, (center, center), low, high)
    for share in np.linspace(0, 1, 41):
        x = np.clip(low + share * (high - low), low, high)
        step = x - center
        with np.errstate(all="ignore"):
            slope = (op.value(x) - op.value(center)) / step
        sure = abs(step) > 1e-3
        assert (alpha[sure] - 1e-9 <= slope[sure]).all() and (slope[sure] <= beta[sure] + 1e-9).all()


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_false_constant_in_exact_arithmetic(name, flush):
    rng = np.random.default_rng(8)
    for kind in ("relu", "maxmin"):
        between = groups(2) if kind == "maxmin" else lambda n: Activation("relu", n)
        network, x = hostile(name, between, 3, 4, 4, 2), rng.normal(size=3)
        torch.set_flush_denormal(flush)
        try:
            centre = Front.of(network).at(x)
            balls = [(radius, Around.of(centre, radius)) for radius in (0.0, 1e-9, 0.3)]
            gains = [(radius, ball.gains().tolist(), ball.length()) for radius, ball in balls]
        finally:
            torch.set_flush_denormal(False)
        start = exact(network, x)[-1]
        for radius, found, whole in gains:
            for row in (*np.eye(3), *rng.normal(size=(3, 3))):
                v = row / np.linalg.norm(row) * max(radius, 1e-30) * 0.999
                step = sum(
                    (Fraction(a) - Fraction(b)) ** 2
                    for a, b in zip((x + v).tolist(), x.tolist(), strict=True)
                )
                if not 0 < step <= Fraction(radius) ** 2:
                    continue
                moved = [(a - b) ** 2 for a, b in zip(exact(network, x + v)[-1], start, strict=True)]
                for gain, square in zip(found, moved, strict=True):
                    assert gain == np.inf or square <= Fraction(gain) ** 2 * step
                assert whole == np.inf or sum(moved) <= Fraction(whole) ** 2 * step


def test_numbers_that_leave_the_range_are_infinite():
    network = chain([Dense(np.full((2, 2), 1e200))] * 3)
    assert (Around.of(Front.of(network).at(np.ones(2)), 1.0).gains() == np.inf).all()
    with pytest.raises(NotProvable, match="no finite bound"):
        conclude(Goal(network, Ball(np.ones(2), 1.0), centred=True), Proof("secants"))


def test_more_than_the_local_slopes_and_less_than_all(monkeypatch):
    """Without the centre, with the slopes of the ball, constants are larger."""
    front, x = Front.of(CASES["relu"]), np.random.default_rng(9).normal(size=N)
    with_center = Around.of(front.at(x), 0.5).gains()

    def wide(op, near, low, high):  # noqa: ARG001
        from sdplip.kernel.reach.activations import quotients

        return quotients(op, low, high)

    monkeypatch.setattr("sdplip.kernel.centred.ball.secants", wide)
    assert (with_center < Around.of(front.at(x), 0.5).gains()).all()


def test_sorted_pairs_and_threes_are_written_out():
    rng = np.random.default_rng(3)
    for size in (1, 2, 3, 4):
        network = plain(groups(size), N, 12, 12, 2)
        other = without_pairs(network)
        assert not any(isinstance(node.op, Sort) for node in other.nodes)
        x = rng.normal(size=(30, N))
        np.testing.assert_allclose(other(x), network(x), atol=1e-12)
    assert any(isinstance(node.op, Sort) for node in without_pairs(CASES["fives"]).nodes)


@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e160])
def test_norms_are_above_and_tight(scale):
    for shape in ((3, 5), (5, 3), (1, 4)):
        A = np.random.default_rng(0).normal(size=shape)
        found = norm_above(A * scale) / scale
        assert np.linalg.norm(A, 2) * (1 - 1e-14) <= found <= np.linalg.norm(A) * (1 + 1e-12)
        if scale == 1:
            assert found <= np.linalg.norm(A, 2) * (1 + 1e-8)
    assert norm_above(np.zeros((2, 2))) < 1e-300 and norm_above(np.full((2, 2), np.inf)) == np.inf


def test_refusals():
    network, ball = CASES["relu"], Ball(np.zeros(N), 0.1)
    for goal, reason in (
        (Goal(network, ball), "about all pairs"),
        (Goal(network, None, centred=True), "needs a ball"),
        (Goal(network, Box(np.zeros(N), np.ones(N)), centred=True), "needs a ball"),
        (Goal(network, Ball(np.zeros(N + 1), 0.1), centred=True), "needs a ball"),
    ):
        with pytest.raises(NotProvable, match=reason):
            conclude(goal, Proof("secants"))
    with pytest.raises(NotProvable, match="one part or none"):
        conclude(
            Goal(network, ball, centred=True), Proof("secants", {}, (Proof("secants"), Proof("secants")))
        )
    with pytest.raises(NotProvable, match="about all pairs"):  # parts are about all inputs
        conclude(Goal(network, ball, centred=True), Proof("secants", {}, (Proof("secants"),)))
    with pytest.raises(NotProvable, match="coordinates"):
        Front.of(network).at(np.zeros(3))
    with pytest.raises(NotProvable, match="radius"):
        Around.of(Front.of(network).at(np.zeros(N)), -1.0)
    large = chain([Dense(np.ones((1, 8000)))])
    with pytest.raises(NotProvable, match="dense matrix"):
        Front.of(large)
