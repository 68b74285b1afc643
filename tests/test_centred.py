"""Constants of increments from a centre: above all that are found, in exact arithmetic and with hostile weights too."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from sdplip.bounds import bound
from sdplip.bounds.margins import own_constant
from sdplip.bounds.samples import value_and_jacobian
from sdplip.certificates.centred import Front, centred_gains, lengths, secant_layers, secants
from sdplip.certificates.narrow import narrowed
from sdplip.certificates.system import Map, Skip, Slope, Sort, expand
from sdplip.errors import InvalidProblem, InvalidWeight
from sdplip.networks import (
    Activation,
    Affine,
    GroupSort,
    MaxPool,
    Network,
    Residual,
    from_weights,
    system_layers,
)

ROOM = 1e-12
"""Relative: what the sampled outputs round."""


def numbers(*widths, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    Ws = [scale * rng.normal(size=(m, n)) / np.sqrt(n) for n, m in itertools.pairwise(widths)]
    return Ws, [0.3 * rng.normal(size=len(W)) for W in Ws]


def network(kind, *widths, seed=0):
    Ws, bs = numbers(*(widths or (5, 12, 12, 3)), seed=seed)
    return from_weights(Ws, kind, bs)


def residual(between):
    Ws, bs = numbers(5, 8, 8, 8, 3, seed=1)
    skip = Residual((Affine(Ws[1], bs[1]), between, Affine(Ws[2], bs[2])))
    return Network((Affine(Ws[0], bs[0]), skip, between, Affine(Ws[3], bs[3])))


RELU = Activation(0.0, 1.0, "relu")
KINDS = ("relu", "tanh", "abs", "sigmoid", "softplus", "softsign", "maxmin", "maxmin-halves")
NETWORKS = {kind: network(kind) for kind in KINDS} | {
    "leaky": network(Activation(0.1, 1.0, "leaky_relu")),
    "steep leaky": network(Activation(1.0, 3.0, "leaky_relu")),
    "deep": network("relu", 5, *(8,) * 6, 3, seed=3),
    "residual": residual(RELU),
    "residual maxmin": residual(GroupSort(2)),
    "two matrices": Network(
        (Affine(np.eye(5)), Residual((Affine(np.ones((5, 5))),)), RELU, Affine(np.ones((2, 5))))
    ),
    "activation first": Network((RELU, Affine(numbers(5, 3)[0][0]))),
    "one layer": from_weights(numbers(5, 3)[0]),
    "dead": from_weights(
        [np.eye(5), np.zeros((4, 5)), np.ones((3, 4))], "relu", [np.zeros(5), np.zeros(4), np.zeros(3)]
    ),
    "on the kink": from_weights(numbers(5, 12, 12, 3)[0], "relu", [np.zeros(n) for n in (12, 12, 3)]),
    "maxima": Network(
        (
            Affine(numbers(5, 16)[0][0]),
            MaxPool(1, (4, 4), (2, 2), (2, 2), (0, 0)),
            RELU,
            Affine(numbers(4, 3)[0][0]),
        )
    ),
}


def worst(layers, x, radius, rows, rng, tries=60):
    """The largest increment of each row per unit of distance at random points, and uphill of the best of them."""
    f, _ = value_and_jacobian(layers, x)
    most = np.zeros(len(rows))

    def look(v):
        size = np.linalg.norm(v)
        if size:
            at, J = value_and_jacobian(layers, x + v)
            found = (
                abs(rows @ (at - f)) / np.linalg.norm((x + v) - x)
                - ROOM * abs(rows) @ (abs(at) + abs(f)) / size
            )
            np.maximum(most, found, out=most)
            return J
        return None

    for k in range(tries):
        v = rng.normal(size=len(x))
        v *= radius * (1.0, 0.5, 0.01)[k % 3] / np.linalg.norm(v)
        for _ in range(4):
            J = look(v)
            if J is None:
                break
            uphill = J.T @ rows[k % len(rows)] * (-1) ** k
            v = uphill * radius / max(np.linalg.norm(uphill), 1e-300) * (1 - 1e-12)
    return most


@pytest.mark.parametrize("radius", [1e-6, 0.05, 0.4, 3.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_increment_exceeds_its_constant(name, radius):
    net, rng = NETWORKS[name], np.random.default_rng(5)
    layers = system_layers(net)
    front = Front.of(layers, 5)
    rows = np.concatenate([np.eye(net.outputs), np.eye(net.outputs)[0] - np.eye(net.outputs)[1:]])
    x = np.zeros(5) if name == "on the kink" else rng.normal(size=5)
    found = centred_gains(front, x, radius, rows)
    assert (worst(layers, x, radius, rows, rng) <= found).all()


@pytest.mark.parametrize("name", ["relu", "tanh", "maxmin", "residual", "deep", "maxima"])
def test_a_point_has_the_lengths_of_its_jacobian_and_small_balls_nearly(name):
    net = NETWORKS[name]
    layers, x = system_layers(net), np.random.default_rng(6).normal(size=5)
    exact = np.linalg.norm(value_and_jacobian(layers, x)[1], axis=1)
    front, rows = Front.of(layers, 5), np.eye(net.outputs)
    for radius, room in ((0.0, 1e-4), (1e-9, 1e-4), (0.02, 0.5)):
        found = centred_gains(front, x, radius, rows)
        assert (exact <= found).all()
        np.testing.assert_allclose(found, exact, rtol=room)


@pytest.mark.parametrize("name", ["relu", "maxmin", "residual", "residual maxmin", "tanh", "maxima"])
def test_layers_of_secants_bound_increments_from_the_centre(name):
    net, rng = NETWORKS[name], np.random.default_rng(11)
    layers, x, row = system_layers(net), rng.normal(size=5), np.eye(1, NETWORKS[name].outputs)
    for radius in (0.05, 0.4):
        near = (*secant_layers(Front.of(layers, 5), x, radius), Map(row))
        system = expand(
            narrowed(near), next(layer for layer in narrowed(near) if isinstance(layer, Map)).W.shape[1]
        )
        found = own_constant(system, "auto")
        assert worst(layers, x, radius, row, rng)[0] <= found < np.inf
        assert found <= bound(net, "product").value


def test_one_neuron_by_hand():
    """relu(x) from x = 1 on [-2, 4]: secants have slopes from 1/3 to 1. relu(-x) has 2/3; three neurons apart 1/3 each way."""
    net = from_weights([np.array([[1.0], [1], [-1]]), np.array([[1.0, 0, 0], [0, -1, 1]])])
    found = centred_gains(Front.of(system_layers(net), 1), np.ones(1), 3.0, np.array([[1.0, 0], [1, 1]]))
    assert found[0] == pytest.approx(1, rel=1e-5) and 2 / 3 <= found[1] <= 4 / 3 * (1 + 1e-5)
    alpha, beta = secants(np.zeros(1), np.ones(1), np.zeros(1), np.array([-2.0]), np.array([4.0]))
    assert alpha[0] == pytest.approx(1 / 3) and alpha[0] <= 1 / 3 and beta[0] == 1


def test_secants_in_exact_arithmetic():
    rng = np.random.default_rng(7)
    n = 400
    left = rng.choice([0.0, -1.0, 0.1, 1.0, 2.5], size=n)
    center = rng.choice([0.0, 1.0, 1e-300, 1e200], size=n) * rng.normal(size=n)
    slop = abs(center) * rng.choice([0.0, 1e-12, 2.0], size=n)
    low = center - slop - abs(center) * rng.uniform(0, 3, size=n)
    high = center + slop + abs(center) * rng.uniform(0, 3, size=n)
    alpha, beta = secants(left, center, slop, low, high)

    def f(z, k):
        return z if z >= 0 else Fraction(left[k]) * z

    for k in range(n):
        for z, v in itertools.product(
            {max(Fraction(center[k]) - Fraction(slop[k]), Fraction(low[k])), Fraction(center[k])},
            {Fraction(low[k]), Fraction(high[k]), Fraction(low[k]) / 3},
        ):
            if z != v and low[k] <= v <= high[k]:
                slope = (f(v, k) - f(z, k)) / (v - z)
                assert Fraction(alpha[k]) <= slope <= Fraction(beta[k])


def exact_values(net, x):
    """The output of a ReLU network in rational arithmetic."""
    z = [Fraction(v) for v in x]
    for layer in net.layers:
        if isinstance(layer, Affine):
            b = np.zeros(len(layer.W)) if layer.b is None else layer.b
            z = [
                sum(Fraction(w) * v for w, v in zip(row, z, strict=True)) + Fraction(c)
                for row, c in zip(layer.W, b, strict=True)
            ]
        else:
            z = [max(v, Fraction(0)) for v in z]
    return z


HOSTILE = {
    "plain": lambda W, b: (W, b),
    "tiny": lambda W, b: (W * 1e-60, b * 1e-60),
    "huge": lambda W, b: (W * 1e40, b * 1e40),
    "cancelling": lambda W, b: (np.round(W, 1) + np.where(np.arange(W.shape[1]) % 2, -1e8, 1e8), b),
    "equal rows": lambda W, b: (np.broadcast_to(W[:1], W.shape).copy(), b * 0),
    "mixed sizes": lambda W, b: (W * 10.0 ** np.linspace(-9, 9, len(W))[:, None], b),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_false_constant_in_exact_arithmetic(hostile):
    rng = np.random.default_rng(8)
    for seed in range(3):
        Ws, bs = numbers(3, 4, 4, 2, seed=seed)
        pairs = [HOSTILE[hostile](W, b) for W, b in zip(Ws, bs, strict=True)]
        net = from_weights([W for W, _ in pairs], "relu", [b for _, b in pairs])
        layers = system_layers(net)
        front, x = Front.of(layers, 3), rng.normal(size=3)
        for radius in (0.0, 1e-9, 0.3):
            found = centred_gains(front, x, radius, np.eye(2))
            _, J = value_and_jacobian(layers, x)
            start = exact_values(net, x)
            for row in (*J, rng.normal(size=3)):
                row = row / max(abs(row).max(), 1e-300)
                v = row / max(np.linalg.norm(row), 1e-300) * max(radius, 1e-30) * 0.999
                moved = x + v
                step = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(moved, x, strict=True))
                if step > Fraction(radius) ** 2:
                    continue
                for k, (a, b) in enumerate(zip(exact_values(net, moved), start, strict=True)):
                    assert found[k] == np.inf or (a - b) ** 2 <= Fraction(found[k]) ** 2 * step


def test_numbers_that_leave_the_range_are_infinite():
    Ws = [np.full((2, 2), 1e200)] * 3
    found = centred_gains(Front.of(system_layers(from_weights(Ws)), 2), np.ones(2), 1.0, np.eye(2))
    assert (found == np.inf).all()


def test_more_than_the_local_slopes_and_less_than_all(monkeypatch):
    """Without the centre, with slopes [0, 1] of every bent neuron, constants are larger."""
    net = NETWORKS["relu"]
    front, x = Front.of(system_layers(net), 5), np.random.default_rng(9).normal(size=5)
    with_center = centred_gains(front, x, 0.5, np.eye(3))

    def wide(left, center, slop, low, high):  # noqa: ARG001
        on, off = low >= 0, high <= 0
        return np.where(on, 1.0, left), np.where(off, left, 1.0)

    monkeypatch.setattr("sdplip.certificates.centred.secants", wide)
    assert (with_center < centred_gains(front, x, 0.5, np.eye(3))).all()


def test_lengths_are_above():
    A = np.random.default_rng(10).normal(size=(20, 300)) * 10.0 ** np.arange(-10, 10)[:, None]
    for row, length in zip(A, lengths(A), strict=True):
        exact = sum(Fraction(a) ** 2 for a in row)
        assert exact <= Fraction(length) ** 2 and float(length) == pytest.approx(
            float(exact) ** 0.5, rel=1e-12
        )


def test_refusals():
    def ask(layers, n=2):
        return centred_gains(Front.of(layers, n), np.ones(n), 0.1, np.eye(n))

    one = np.ones(2)
    with pytest.raises(InvalidProblem, match="'gelu'"):
        ask((Map(np.eye(2)), Slope(0 * one, one, "gelu"), Map(np.eye(2))))
    with pytest.raises(InvalidProblem, match="groups of 3"):
        ask((Map(np.ones((3, 2))), Sort(np.array([[0, 1, 2]])), Map(np.ones((2, 3)))))
    with pytest.raises(InvalidProblem, match="batch normalisation"):
        ask((Map(np.eye(2), one, 1e-15),))
    with pytest.raises(InvalidWeight, match="is given"):
        ask((Map(np.eye(2)), Skip((Map(np.ones((2, 3))),))))
    assert ask((Map(np.eye(2)), Sort(np.zeros((0, 2), int)))) == pytest.approx(one, rel=1e-5)
