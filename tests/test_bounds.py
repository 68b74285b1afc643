"""Laws of the bounds of whole networks, and the constants that other tools publish."""

from itertools import pairwise

import numpy as np
import pytest

from sdplip.bounds import LipSDP, Reference, bound, composite, estimate_lower, product, riccati
from sdplip.bounds.riccati import FAMILIES
from sdplip.certificates.network import certify_network, network_holds
from sdplip.certificates.region import Ball
from sdplip.errors import InvalidProblem, NotProvable, SolverUnavailable
from sdplip.networks import Activation, Affine, Network, chain_of, from_weights
from sdplip.solvers import CVXPY
from sdplip.solvers.solution import Status
from sdplip.weights import read

METHODS = ["product", "composite", "riccati", "lipsdp-layer", "lipsdp-neuron", "auto"]
CLOSE = 1e-7
"""Relative accuracy of the interior-point method on the bound: its gap is 1e-8 on the square; the kernel adds 1e-9."""


pytestmark = pytest.mark.usefixtures("one_thread")


def random_network(seed: int, *widths: int, activation: str | Activation = "relu") -> Network:
    rng = np.random.default_rng(seed)
    shapes = list(zip(widths[1:], widths, strict=False))
    return from_weights(
        [rng.normal(size=s) for s in shapes], activation, [rng.normal(size=s[0]) for s in shapes]
    )


@pytest.mark.parametrize(
    "activation", ["relu", "tanh", "sigmoid", "abs", Activation(-0.2, 1.2), Activation(0.2, 1.0)]
)
@pytest.mark.parametrize("method", METHODS)
def test_upper_is_above_lower_and_its_certificate_holds(method, activation):
    network = random_network(1, 4, 6, 5, 3, activation=activation)
    found = bound(network, method)
    assert estimate_lower(network) <= found.value
    if found.sdp_lower is not None:
        assert found.sdp_lower <= found.value <= found.sdp_lower * (1 + CLOSE)
    if found.certificate is not None:
        proof = found.certificate
        assert network_holds(found.chain.weights, proof.multipliers, proof.slopes, found.value)


@pytest.mark.parametrize("seed", range(4))
def test_order_of_the_methods(seed):
    network = random_network(seed, 5, 8, 7, 6, 2)
    value = {method: bound(network, method).value for method in METHODS}
    fast = certify_network(chain_of(network).weights, riccati(chain_of(network)).multipliers).bound
    room = 1 + CLOSE
    assert value["product"] * room >= value["composite"] >= value["lipsdp-neuron"] / room
    assert value["product"] * room >= fast >= value["lipsdp-layer"] / room
    assert fast * room >= value["riccati"] >= value["lipsdp-neuron"] / room
    assert value["lipsdp-layer"] >= value["lipsdp-neuron"] / room
    assert value["auto"] == min(value["auto"], *(value[m] for m in ("product", "composite", "riccati")))


@pytest.mark.parametrize("method", METHODS)
def test_nonnegative_networks_are_bounded_by_their_product(method):
    weights = [abs(layer.W) for layer in random_network(2, 3, 6, 5, 2).layers if isinstance(layer, Affine)]
    exact = float(np.linalg.norm(np.linalg.multi_dot(weights[::-1]), 2))
    found = bound(from_weights(weights), method)
    assert found.value >= exact
    assert found.lower == pytest.approx(exact, rel=1e-12)  # the all-active cell is found
    if method in ("lipsdp-neuron", "auto"):
        assert found.value <= exact * (1 + CLOSE)


def test_permuted_neurons_and_rescaled_layers_change_nothing():
    rng = np.random.default_rng(3)
    A, B, C = (layer.W for layer in random_network(3, 4, 7, 6, 3).layers if isinstance(layer, Affine))
    p, q = rng.permutation(7), rng.permutation(6)
    s, t = 10 ** rng.uniform(-2, 2, 7), 10 ** rng.uniform(-2, 2, 6)
    moved = [(s[:, None] * A)[p], ((t[:, None] * B / s)[:, p])[q], (C / t)[:, q]]
    before, after = (bound(from_weights(Ws), "lipsdp-neuron").value for Ws in ([A, B, C], moved))
    assert after == pytest.approx(before, rel=CLOSE)


def test_more_slope_range_never_lowers_the_bound():
    Ws = [layer.W for layer in random_network(4, 4, 6, 5, 2).layers if isinstance(layer, Affine)]
    ranges = [(0.5, 0.6), (0.3, 0.8), (0.0, 1.0), (-0.1, 1.0), (-0.1, 1.3), (-1.3, 1.3)]
    values = [bound(from_weights(Ws, Activation(*r)), "lipsdp-neuron").value for r in ranges]
    assert all(a <= b * (1 + CLOSE) for a, b in pairwise(values))


def test_slopes_below_zero_count():
    # The published ECLipsE code returns 1 here; the truth is 1.13.
    network = from_weights([np.eye(1), np.eye(1)], Activation(-0.13, 1.13))
    for method in METHODS:
        assert bound(network, method).value >= 1.13
    assert bound(network, "lipsdp-neuron").value <= 1.13 * (1 + CLOSE)


def test_a_linear_activation_is_a_product():
    network = random_network(5, 4, 5, 3, activation="identity")
    A, B = (layer.W for layer in network.layers if isinstance(layer, Affine))
    found = bound(network)
    assert found.value == pytest.approx(np.linalg.norm(B @ A, 2), rel=1e-9)
    assert bound(network, "lipsdp-neuron").value == pytest.approx(
        found.value, rel=1e-3
    )  # its slopes are widened


def test_the_coupled_form_is_refused_and_the_truth_is_sqrt_13():
    network = from_weights([np.array([[-2.0, 3], [-2, 2]]), np.array([[-1.0, 1]])])
    with pytest.raises(InvalidProblem, match="not a bound"):
        bound(network, "lipsdp-network")
    found = bound(network)
    assert 13**0.5 <= found.value <= 13**0.5 * (1 + CLOSE)
    assert found.lower == pytest.approx(13**0.5, rel=1e-12)


def test_pairs_of_outputs():
    network = random_network(6, 4, 6, 5, 3)
    last = network.layers[-1]
    by_hand = Network((*network.layers[:-1], Affine((last.W[0] - last.W[2])[None], None)))
    found = bound(network, output_pair=(0, 2))
    assert found.value == pytest.approx(bound(by_hand).value, rel=CLOSE)
    assert found.value <= 2**0.5 * bound(network).value * (1 + CLOSE)
    for pair in ((0, 3), (1, 1), (-1, 0)):
        with pytest.raises(InvalidProblem, match="two different outputs"):
            bound(network, output_pair=pair)


def test_the_rounding_of_a_difference_of_rows_is_paid_for():
    W = np.array([[1.0], [2.0**-60]])  # 1 - 2^-60 is not a double
    found = bound(Network((Affine(W),)), output_pair=(0, 1))
    assert 1 < found.value < 1 + 1e-12


def test_dead_neurons_and_constant_networks():
    A, B, C = (layer.W.copy() for layer in random_network(14, 4, 6, 5, 2).layers if isinstance(layer, Affine))
    A[2], B[:, 3], C[:, 1] = 0, 0, 0  # no input, no output, no output
    keep1, keep2 = [0, 1, 4, 5], [0, 2, 3, 4]
    small = from_weights([A[keep1], B[np.ix_(keep2, keep1)], C[:, keep2]])
    for method in METHODS[2:]:
        found = bound(from_weights([A, B, C]), method)
        assert found.value == pytest.approx(bound(small, method).value, rel=CLOSE)
        if found.certificate is not None:
            assert network_holds([A, B, C], found.multipliers, found.certificate.slopes, found.value)
    nothing = from_weights([np.array([[1.0, 0], [0, 0]]), np.array([[0, 1.0]])])
    assert bound(nothing).value == 0


def test_squares_that_overflow_leave_the_product():
    Ws = [W * 1e100 for W in (np.eye(2), np.ones((2, 2)), np.eye(2))]
    assert bound(from_weights(Ws)).value == pytest.approx(2e300, rel=1e-9)
    with pytest.raises(NotProvable, match="Rescale"):
        bound(from_weights(Ws), "riccati")


def test_one_layer_and_one_neuron():
    W = np.random.default_rng(7).normal(size=(3, 5))
    assert bound(Network((Affine(W),))).value == pytest.approx(np.linalg.norm(W, 2), rel=1e-12)
    for method in METHODS:
        value = bound(from_weights([np.array([[3.0]]), np.array([[-2.0]])]), method).value
        assert value == pytest.approx(6, rel=CLOSE)


def test_a_trailing_activation():
    W = np.random.default_rng(8).normal(size=(3, 5))
    network = Network((Affine(W), Activation(kind="relu")))
    assert bound(network).value == pytest.approx(np.linalg.norm(W, 2), rel=CLOSE)


def test_all_riccati_families_prove_a_bound():
    chain = chain_of(random_network(9, 5, 8, 7, 3))
    for scaling in FAMILIES.values():
        assert np.isfinite(certify_network(chain.weights, riccati(chain, scaling).multipliers).bound)


def test_the_reference_agrees():
    network = random_network(10, 3, 4, 4, 2)
    pytest.importorskip("clarabel")
    for theirs, ours in (("reference", "lipsdp-neuron"), ("reference-layer", "lipsdp-layer")):
        assert bound(network, theirs).value == pytest.approx(bound(network, ours).value, rel=1e-5)


def test_the_reference_reduces_without_loss():
    network = random_network(11, 7, 4, 4, 6)
    plain = bound(network, Reference(reduced=False))
    assert plain.value == pytest.approx(bound(network, "reference").value, rel=1e-5)


def test_the_reference_is_any_solver_of_cvxpy():
    network, coarse = random_network(10, 7, 4, 4, 2), Reference(solver=CVXPY("SCS", eps=1e-3))
    found = bound(network, coarse)
    assert found.method == "reference" and found.value <= 1.02 * bound(network, "lipsdp-neuron").value
    assert found.value >= found.lower
    with pytest.raises(SolverUnavailable, match="not installed"):
        bound(network, Reference(solver=CVXPY("NONE")))
    with pytest.raises(InvalidProblem, match="for all inputs"):
        bound(network, coarse, region=Ball(np.zeros(7), 1.0))
    with pytest.raises(InvalidProblem, match="for all inputs"):
        bound(network, coarse, output_norm="linf")


def test_a_solver_that_is_stopped_still_leads_to_a_proof():
    chain = chain_of(random_network(11, 5, 8, 7, 3))
    proposal = LipSDP(max_iterations=3)(chain)
    assert proposal.status is Status.STOPPED
    proof = certify_network(chain.weights, proposal.multipliers, proposal.slopes)
    assert proof.bound >= bound(random_network(11, 5, 8, 7, 3), "lipsdp-neuron").value


def test_progress_is_reported():
    lines = []
    bound(random_network(12, 3, 4, 2), "lipsdp-neuron", progress=lambda *line: lines.append(line))
    assert [line[0] for line in lines] == list(range(1, len(lines) + 1))
    assert all(low <= high for _, high, low in lines)


def test_unknown_method_is_refused():
    with pytest.raises(InvalidProblem, match="not known"):
        bound(random_network(13, 2, 2), "guess")


PUBLISHED = {
    "lipsdp_random_weights.mat": (36.48222959637795, 1e-9),  # exact: all weights are nonnegative
    "lipsdp_mnist_weights.mat": (24.36634889, 1e-7),
    "eclipse_genlocal_lyr5n10.mat": (4.9433974, 1e-7),
    "eclipse_genlocal_lyr5n20.mat": (0.63523470, 1e-7),
    "eclipse_mnist_lyr3n100test1.mat": (15.73320411, 1e-7),
    "eclipse_demo_lyr2n80test1.npz": (0.73726, 1e-5),
}


@pytest.mark.parametrize(("name", "value"), PUBLISHED.items())
def test_published_networks(benchmark_files, name, value):
    published, accuracy = value
    assert bound(from_weights(read(benchmark_files / name)), "lipsdp-neuron").value == pytest.approx(
        published, rel=accuracy
    )


@pytest.mark.parametrize(
    ("name", "stored"),
    [("fnn2_seed0", 5.109714769), ("fnn3_seed3", 7.753896705), ("fnn3_seed9", 8.116528999)],
)
def test_digits_networks_of_glipsdp(benchmark_files, name, stored):
    weights = [W.array for W in read(benchmark_files / f"glipsdp_digits_{name}.mat", transpose=True)]
    weights[-1] = weights[-1][7:8]
    assert bound(from_weights(weights), "lipsdp-neuron").value == pytest.approx(stored, rel=1e-8)


def test_composite_reproduces_stored_liplt(benchmark_files):
    for name, stored in {"fnn2": 6.064167172963947, "fnn3": 12.05031001166835}.items():
        weights = [
            W.array for W in read(benchmark_files / f"glipsdp_digits_{name}_seed0.mat", transpose=True)
        ]
        weights[-1] = weights[-1][7:8]
        chain = chain_of(from_weights(weights))
        assert composite(chain) == pytest.approx(stored, rel=1e-11)
        assert composite(chain) <= product(chain)


EXACT = {
    # Exact constants by branch and bound: LipBaB on a box, ExLipBaB; a global bound may not be below them.
    "lipbab_SDnet__10_15_10_3_": 9.5307,
    "lipbab_SDnet__10_20_15_10_3_": 40.0565,
    "lipbab_SDnet__10_30_30_30_3_": 19.4628,
    "lipbab_iris_net__4_5_5_3_": 6.77145,
    "exlipbab_abalone_net__9x16x16x1__ReLU": 11.12160,
    "exlipbab_iris_net__4x6x6x3__ReLU": 11.63436,
    "exlipbab_wine_net__11x12x12x1__ReLU": 1.743370,
}


@pytest.mark.parametrize(("name", "exact"), EXACT.items())
def test_bounds_are_not_below_exact_constants(benchmark_files, name, exact):
    stored = np.load(
        benchmark_files / f"{name}_weights.npy", allow_pickle=True
    )  # our own copies of trusted files
    weights = [np.asarray(W, float).T for W in stored]
    found = bound(from_weights(weights), "lipsdp-neuron")
    assert found.value >= exact * (1 - 1e-5)  # published with five digits
    assert found.value <= bound(from_weights(weights), "product").value
