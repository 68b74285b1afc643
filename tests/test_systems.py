"""Systems of increments: laws of sorting, residual sums, pairs of outputs, and values beside exact constants."""

import itertools

import numpy as np
import pytest

from sdplip.bounds.below import estimate_lower, jacobian
from sdplip.bounds.choose import bound, pair_bounds
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal
from sdplip.kernel.regions import Ball, Box
from sdplip.network import Activation, Builder, Dense, Diagonal, Network, Sum, chain
from tests.nets import between, mlp, random_mlp, residual, weights

CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound, as in test_bounds."""


pytestmark = pytest.mark.usefixtures("one_thread")


NETWORKS = {
    "maxmin": random_mlp(1, 5, 6, 4, 3, kind="maxmin"),
    "halves": random_mlp(2, 5, 6, 4, 3, kind="halves"),
    "groupsort:3": random_mlp(3, 5, 6, 9, 3, kind="groupsort:3"),
    "groupsort:4": random_mlp(4, 3, 8, 4, 2, kind="groupsort:4"),
    "residual": residual(5),
    "residual-maxmin": residual(6, kind="maxmin"),
    "residual-tanh": residual(7, kind="tanh"),
    "wide": random_mlp(8, 40, 6, 4, 3, kind="maxmin"),
}


def block(builder: Builder, value: int, *ops) -> int:
    """Adds x + f(x)."""
    n, branch = int(np.prod(builder.shape(value))), value
    for op in ops:
        branch = builder.add(op, branch)
    return builder.add(Sum((1, 1), n), value, branch)


@pytest.mark.parametrize("name", NETWORKS)
def test_upper_above_lower_and_order_of_the_methods(name):
    values = {
        method: bound(NETWORKS[name], method) for method in ("product", "riccati", "lipsdp-neuron", "auto")
    }
    best = values["lipsdp-neuron"]
    assert best.lower <= best.value <= values["riccati"].value * (1 + CLOSE)
    assert best.value <= values["product"].value * (1 + CLOSE)
    assert best.sdp_lower <= best.value * (1 + 1e-9) <= best.sdp_lower * (1 + CLOSE)
    assert values["auto"].value == min(values["auto"].others.values())
    assert all(conclude(found.goal, found.proof) == found.bound for found in values.values())


def test_a_proof_of_a_wide_network_goes_through_a_square_matrix():
    proof = bound(NETWORKS["wide"], "lipsdp-neuron").proof
    assert proof.rule == "narrow" and proof.parts[0].rule == "joint"
    with pytest.raises(NotProvable):
        conclude(Goal(NETWORKS["maxmin"]), proof)


@pytest.mark.parametrize("method", ["product", "lipsdp-neuron"])
def test_one_sorted_layer_is_the_identity_on_its_mean(method):
    """Groups that fill the layer and an output that adds them up: sorting changes nothing, so the constant is exact."""
    W = np.random.default_rng(0).normal(size=(6, 4))
    net = mlp([W, np.ones((1, 6))], "groupsort:3")
    exact = float(np.linalg.norm(np.ones((1, 6)) @ W, 2))
    value = bound(net, method).value
    assert value >= exact
    assert method == "product" or value <= exact * (1 + CLOSE)


def test_permuted_groups_and_order_within_pairs_change_nothing():
    Ws, _ = weights(9, 4, 6, 6, 3)
    first = bound(mlp(Ws, "maxmin"), "lipsdp-neuron").value
    p = np.array([4, 5, 1, 0, 2, 3])  # pairs move together
    moved = [Ws[0][p], Ws[1][:, p][p], Ws[2][:, p]]
    assert bound(mlp(moved, "maxmin"), "lipsdp-neuron").value == pytest.approx(first, rel=CLOSE)
    halves = np.array([1, 3, 5, 0, 2, 4])  # the pairs of neighbours as (i, i + 3)
    moved = [Ws[0][halves], Ws[1][:, halves][halves], Ws[2][:, halves]]
    assert bound(mlp(moved, "halves"), "lipsdp-neuron").value == pytest.approx(first, rel=CLOSE)


def test_a_system_of_a_chain_gives_the_bound_of_the_chain():
    net = random_mlp(10, 4, 6, 5, 3)
    builder = Builder((4,))
    value = block(builder, 0, Dense(np.zeros((4, 4))))
    for node in net.nodes:
        value = builder.add(node.op, value)
    by_hand = builder.finish(value)
    everywhere = bound(net, "lipsdp-neuron").value
    assert bound(by_hand, "lipsdp-neuron").value == pytest.approx(everywhere, rel=CLOSE)
    whole = bound(net, region=Ball(np.zeros(4), 1e6), method="lipsdp-neuron").value
    assert whole == pytest.approx(everywhere, rel=CLOSE)


def test_residual_layer_by_hand():
    # x + relu(-2 x): slopes 1 and -1, constant 1; composition gives 1 + 2.
    builder = Builder((1,))
    net = builder.finish(
        block(builder, 0, Dense(np.array([[-2.0]])), Activation("relu", 1), Dense(np.eye(1)))
    )
    assert bound(net, "product").value == pytest.approx(3)
    assert 1 <= bound(net, "lipsdp-neuron").value <= 1 + CLOSE


def test_more_slope_range_never_lowers_the_bound():
    A, B, C = np.random.default_rng(11).normal(size=(3, 4, 4))
    values = []
    for ends in ((0.5, 0.5), (0.3, 0.8), (0.0, 1.0), (-0.1, 1.0), (-0.1, 1.3)):
        builder, act = Builder((4,)), between(ends, 4)
        value = block(builder, builder.add(Dense(A), 0), Dense(B), act, Dense(C))
        net = builder.finish(builder.add(Dense(A), builder.add(act, value)))
        values.append(bound(net, "lipsdp-neuron").value)
    assert all(a <= b * (1 + CLOSE) for a, b in itertools.pairwise(values))


def test_projected_shortcuts_and_normalised_branches():
    """A x + f(x) with A in front of the sum, in it, and scaled behind it."""
    rng = np.random.default_rng(12)
    A, B, C, d = rng.normal(size=(4, 3)), rng.normal(size=(5, 3)), rng.normal(size=(4, 5)), rng.normal(size=4)

    def net(short, *scale) -> Network:
        builder = Builder((3,))
        branch = 0
        for op in (Dense(B), Activation("relu", 5), Dense(C)):
            branch = builder.add(op, branch)
        value = builder.add(Dense(short), 0)
        for op in scale:
            value = builder.add(op, value)
        return builder.finish(builder.add(Activation("relu", 4), builder.add(Sum((1, 1), 4), value, branch)))

    twice = bound(net(A, Diagonal(d)), "lipsdp-neuron").value
    assert twice == pytest.approx(bound(net(d[:, None] * A), "lipsdp-neuron").value, rel=CLOSE)
    rounded = bound(net(A, Diagonal(d, error=2.0**-50)), "lipsdp-neuron").value
    assert twice * (1 - CLOSE) <= rounded <= twice * (1 + CLOSE)
    assert twice <= bound(net(A, Diagonal(d)), "product").value


def test_lower_estimates_know_systems():
    for net in NETWORKS.values():
        x = np.random.default_rng(18).normal(size=net.inputs)
        most = max(float(np.linalg.norm(jacobian(net, x), 2)), estimate_lower(net))
        assert 0 < most <= bound(net, "product").value
    assert estimate_lower(chain([Activation("", 2, alpha=np.zeros(2), beta=np.ones(2))])) == 0.0


def test_lower_estimates_do_not_count_kinks():
    """relu(x) - relu(-x) = x without biases: at 0 right slopes of both would give 2, which no difference quotient is."""
    net = mlp([np.array([[1.0], [-1.0]]), np.array([[1.0, -1.0]])])
    assert estimate_lower(net) == pytest.approx(1, rel=1e-12)


def test_pairs_of_outputs():
    net = NETWORKS["maxmin"]
    pair = bound(net, "lipsdp-neuron", output_pair=(0, 2))
    *front, last = (node.op for node in net.nodes)
    assert isinstance(last, Dense)
    by_hand = chain([*front, Dense((last.W[0] - last.W[2])[None])])
    assert pair.value == pytest.approx(bound(by_hand, "lipsdp-neuron").value, rel=CLOSE)
    assert pair.value <= 2**0.5 * bound(net).value * (1 + CLOSE)
    with pytest.raises(InvalidProblem, match="two different outputs"):
        bound(net, output_pair=(1, 1))
    with pytest.raises(InvalidProblem, match="does not take"):
        bound(net, "composite")


def test_all_pairs():
    net, done = NETWORKS["residual-maxmin"], []
    for region in (None, Ball(np.zeros(5), 0.1)):
        found = pair_bounds(net, "lipsdp-neuron", region=region, progress=lambda *step: done.append(step))
        assert (found == found.T).all() and (found.diagonal() == 0).all()
        whole = bound(net, "lipsdp-neuron", region=region).value
        assert (found <= 2**0.5 * whole * (1 + 1e-12)).all()
        pair = bound(net, "lipsdp-neuron", region=region, output_pair=(2, 1)).value
        assert found[1, 2] == min(pair, found[1, 2])
    assert done[:3] == [(1, 3), (2, 3), (3, 3)]


EXACT = {
    # Exact constants of ExLipBaB over all inputs, group size 2; of LipBaB over [0, 0.1]^10 and [0, 1]^4.
    "exlipbab_wine_net__11x12x12x1__GroupSort_numGroups6": (2.788306, None, 1.1),
    "exlipbab_bike_net__13x20x16x8x3__GroupSort_numGroups10": (9095.125, None, 1.1),
    "lipbab_SDnet__10_15_10_3_": (9.5307, 0.1, 1.001),
    "lipbab_SDnet__10_20_15_10_3_": (40.0565, 0.1, 1.05),
    "lipbab_SDnet__10_30_30_30_3_": (19.4628, 0.1, 1.55),
    "lipbab_iris_net__4_5_5_3_": (6.77145, 1.0, 1.001),
}


@pytest.mark.parametrize(("name", "exact"), EXACT.items())
def test_bounds_beside_exact_constants(benchmark_files, name, exact):
    value, end, factor = exact
    Ws, bs = (
        [np.asarray(v, float) for v in np.load(benchmark_files / f"{name}_{part}.npy", allow_pickle=True)]
        for part in ("weights", "biases")
    )  # our own copies of trusted files
    n = len(Ws[0])
    net = mlp([W.T for W in Ws], "relu" if end else "maxmin", bs)
    found = bound(net, "lipsdp-neuron", region=Box(np.zeros(n), np.full(n, end)) if end else None)
    assert value * (1 - 1e-5) <= found.value <= factor * value  # published with five digits
    if factor > 1.5:  # the goal of local bounds, within 1.5 times of the truth
        from sdplip.bounds.regional import split_bound

        assert split_bound(net, Box(np.zeros(n), np.full(n, end)), 8, "lipsdp-neuron").value <= 1.5 * value
