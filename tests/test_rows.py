"""From l2 to l-infinity: the largest constant of one output, whichever outputs were left out, and its proof."""

import itertools

import numpy as np
import pytest

from sdplip.bounds.below import estimate_lower, jacobian
from sdplip.bounds.choose import bound
from sdplip.bounds.methods import rows
from sdplip.bounds.regional import split_bound
from sdplip.errors import InvalidProblem
from sdplip.kernel.check import conclude
from sdplip.kernel.regions import Ball, Box
from sdplip.kernel.rules.rows import output
from sdplip.network import Activation, Builder, Dense, Network, Sum, followed
from tests.nets import mlp

CLOSE = 1e-6  # of two solves of the same problem
BALL = Ball(np.full(4, 0.2), 0.3)


def numbers(*widths: int, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    Ws = [rng.normal(size=(m, n)) / np.sqrt(n) for n, m in itertools.pairwise(widths)]
    return Ws, [rng.normal(size=len(W)) for W in Ws]


def network(kind: str = "relu") -> Network:
    Ws, bs = numbers(4, 6, 6, 4)
    return mlp(Ws, kind, bs)


def residual() -> Network:
    Ws, bs = numbers(4, 4, 4, 4, 5, seed=1)
    builder, relu = Builder((4,)), Activation("relu", 4)
    first = builder.add(Dense(Ws[0], bs[0]), 0)
    branch = builder.add(relu, builder.add(Dense(Ws[1], bs[1]), first))
    total = builder.add(Sum((1, 1), 4), first, builder.add(Dense(Ws[2], bs[2]), branch))
    return builder.finish(builder.add(Dense(Ws[3], bs[3]), builder.add(relu, total)))


def ends_in_a_branch() -> Network:
    builder = Builder((4,))
    return builder.finish(builder.add(Sum((1, 1), 4), 0, builder.add(Dense(np.diag([1.0, -2, 3, 0.5])), 0)))


NETWORKS = {
    "relu": network(),
    "tanh": network("tanh"),
    "maxmin": network("maxmin"),
    "residual": residual(),
    "one layer": mlp(numbers(4, 5)[0]),
    "ends in relu": followed(network(), Activation("relu", 4)),
    "ends in a branch": ends_in_a_branch(),
    "same rows": mlp([np.eye(4), np.ones((3, 4))]),
}


@pytest.mark.parametrize("region", [None, BALL, Box(np.zeros(4), np.ones(4))], ids=["all", "ball", "box"])
@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_the_largest_bound_of_one_output(name, region):
    net = NETWORKS[name]
    for method in ("product", "lipsdp-neuron"):
        found = bound(net, method, output_norm="linf", region=region)
        each = [bound(output(net, i), method, region=region).value for i in range(net.outputs)]
        assert found.value == pytest.approx(max(each), rel=CLOSE)
        assert each[found.row] == pytest.approx(max(each), rel=CLOSE)
        whole = bound(net, method, region=region)
        assert found.lower <= found.value <= whole.value * (1 + CLOSE)
        assert found.lower <= whole.lower * (1 + 1e-9) or whole.lower == whole.value
        assert whole.row is None and whole.value <= np.sqrt(net.outputs) * found.value * (1 + CLOSE)
        assert conclude(found.goal, found.proof) == found.bound


@pytest.mark.parametrize("name", NETWORKS)
def test_no_row_of_a_jacobian_is_longer(name):
    net, rng = NETWORKS[name], np.random.default_rng(3)
    found, local = (bound(net, output_norm="linf", region=region) for region in (None, BALL))
    for _ in range(40):
        far, near = rng.normal(size=4) * 3, rng.normal(size=4)
        near = BALL.center + near * (BALL.radius * rng.uniform() / np.linalg.norm(near))
        assert np.linalg.norm(jacobian(net, far), axis=1).max() <= found.value * (1 + 1e-12)
        assert np.linalg.norm(jacobian(net, near), axis=1).max() <= local.value * (1 + 1e-12)


def test_outputs_that_cannot_be_the_largest_are_not_solved(monkeypatch):
    Ws, _ = numbers(4, 8, 6, 40, seed=2)
    Ws[-1][1:] *= 1e-3
    asked, plain = [], rows.output
    monkeypatch.setattr(rows, "output", lambda net, i: asked.append(i) or plain(net, i))
    for region in (None, BALL):
        asked.clear()
        found = bound(mlp(Ws, "relu", [np.zeros(len(W)) for W in Ws]), output_norm="linf", region=region)
        assert found.row == 0 and asked == [0]


@pytest.mark.parametrize("kind", ["relu", "maxmin"])
def test_multipliers_of_the_largest_output_stand_for_those_like_it(kind, monkeypatch):
    Ws, _ = numbers(4, 8, 6, 1, seed=4)
    Ws[-1] = np.array([Ws[-1][0] * (1 - 1e-3 * k) * [1, 1, 1, 1, 1, (-1) ** k] for k in range(4)])
    solved, plain = [], rows._shared
    monkeypatch.setattr(rows, "_shared", lambda *a: solved.append(plain(*a)) or solved[-1])
    found = bound(mlp(Ws, kind), "lipsdp-neuron", output_norm="linf")
    assert any(shared is not None for shared in solved)
    each = [bound(output(mlp(Ws, kind), i), "lipsdp-neuron").value for i in range(4)]
    assert max(each) * (1 - CLOSE) <= found.value <= max(each) * (1 + CLOSE)


def test_positive_weights_by_hand():
    W1, W2 = np.array([[1.0, 2], [0, 1]]), np.array([[1.0, 1], [3, 0]])
    found = bound(mlp([W1, W2]), output_norm="linf")
    assert found.row == 1 and found.value == pytest.approx(45**0.5, rel=CLOSE)  # 3 (1, 2), all neurons on
    assert found.lower == pytest.approx(45**0.5, rel=1e-12)
    zero = mlp([np.eye(2), np.array([[0.0, 0], [1, 0], [0, 0]])])
    assert bound(zero, output_norm="linf").row == 1


def test_large_networks_and_norms_from_below(monkeypatch):
    net = NETWORKS["relu"]
    dense = estimate_lower(net, norm="linf")
    monkeypatch.setattr("sdplip.bounds.below.DENSE", 0)
    monkeypatch.setattr("sdplip.bounds.below.SIZE", 0)
    assert 0 < estimate_lower(net, norm="linf") <= bound(net, output_norm="linf").value
    assert 0 < estimate_lower(net) <= bound(net).value
    assert dense <= bound(net, output_norm="linf").value


def test_pairs_pieces_and_strange_norms():
    net = NETWORKS["relu"]
    pair = bound(net, output_pair=(0, 1), output_norm="linf")
    assert pair.value == bound(net, output_pair=(0, 1)).value and pair.row is None
    box = Box(np.full(4, -1.0), np.ones(4))
    whole, cut = (split_bound(net, box, pieces, "lipsdp-neuron", output_norm="linf") for pieces in (1, 4))
    assert whole.value == bound(net, "lipsdp-neuron", region=box, output_norm="linf").value
    assert cut.lower <= cut.value <= whole.value and cut.row is not None
    with pytest.raises(InvalidProblem, match="'l1'"):
        bound(net, output_norm="l1")  # pyright: ignore[reportArgumentType]
