"""The network kernel: no false bound, in exact arithmetic and on all activation patterns; tight; re-provable from a file."""

import dataclasses
import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from sdplip.certificates.composite import certify_composite
from sdplip.certificates.network import certify_network, certify_product, network_holds, spectral_norm_above
from sdplip.certificates.network_file import load_network, network_record, save_network, verify_network

from sdplip.errors import InvalidCertificate, InvalidScaling, InvalidWeight
from tests.exact import inertia_signs


def random_weights(rng: np.random.Generator, *widths: int, graded: bool = False) -> list[np.ndarray]:
    weights = [rng.normal(size=(m, n)) for n, m in itertools.pairwise(widths)]
    if graded:  # entries of very different size, within a matrix and between them
        weights = [
            W * 10.0 ** rng.uniform(-6, 6, (len(W), 1)) * 10.0 ** rng.integers(-20, 20) for W in weights
        ]
    return weights


def spectral_multipliers(weights: list[np.ndarray], factor: float = 1.0) -> list[np.ndarray]:
    """ECLipsE-Fast in its simplest form, times `factor`: feasible up to 1, useless or infeasible far above."""
    X, found = np.eye(weights[0].shape[1]), []
    for W in weights[:-1]:
        K = W @ np.linalg.solve(X, W.T)
        lam = np.full(len(W), 2 / np.linalg.eigvalsh(K)[-1])
        X = np.diag(lam) - lam[:, None] * K * lam / 4
        found.append(lam * factor)
    return found


def patterns_norm(weights: list[np.ndarray], slopes: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Largest norm of W_l D W_{l-1} ... W_1 over all diagonal D at the ends of the slope intervals."""
    most = 0.0
    for choice in itertools.product(*(itertools.product(*zip(a, b, strict=True)) for a, b in slopes)):
        J = weights[0]
        for W, d in zip(weights[1:], choice, strict=True):
            J = W @ (np.array(d)[:, None] * J)
        most = max(most, float(np.linalg.norm(J, 2)))
    return most


def exact_inequality(weights, multipliers, slopes, bound) -> list[list[Fraction]]:
    """The inequality of LipSDP, written out in rational numbers: kappa times the sum of all stages, plus the last one."""
    sizes = [weights[0].shape[1], *(len(W) for W in weights[:-1])]
    at = np.cumsum([0, *sizes])
    kappa = Fraction(bound) ** 2
    M = [[Fraction(0)] * int(at[-1]) for _ in range(int(at[-1]))]
    for i in range(sizes[0]):
        M[i][i] = kappa
    for k, (lam, (alpha, beta)) in enumerate(zip(multipliers, slopes, strict=True)):
        for r in range(sizes[k + 1]):
            p = {int(at[k + 1]) + r: Fraction(1)} | {
                int(at[k]) + c: -Fraction(alpha[r]) * Fraction(weights[k][r, c]) for c in range(sizes[k])
            }
            q = {int(at[k + 1]) + r: Fraction(1)} | {
                int(at[k]) + c: -Fraction(beta[r]) * Fraction(weights[k][r, c]) for c in range(sizes[k])
            }
            half = kappa * Fraction(lam[r]) / 2
            for i, j in itertools.product(p, p):
                M[i][j] += half * (p[i] * q[j] + q[i] * p[j])
    last, offset = weights[-1], int(at[-2])
    for i, j in itertools.product(range(sizes[-1]), repeat=2):
        M[offset + i][offset + j] -= sum(Fraction(row[i]) * Fraction(row[j]) for row in last)
    return M


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("slopes", [(0.0, 1.0), (-0.25, 1.125), (0.1, 1.0)])
def test_no_false_bound_in_exact_arithmetic(graded, slopes):
    rng = np.random.default_rng(1)
    for _ in range(60):
        widths = [int(n) for n in rng.integers(1, 4, size=int(rng.integers(3, 5)))]
        weights = random_weights(rng, *widths, graded=graded)
        pairs = [(np.full(len(W), slopes[0]), np.full(len(W), slopes[1])) for W in weights[:-1]]
        multipliers = spectral_multipliers(weights, 10.0 ** rng.uniform(-2, 1))
        proof = certify_network(weights, multipliers, pairs)
        assert inertia_signs(exact_inequality(weights, proof.multipliers, pairs, proof.bound))[0]
        assert network_holds(weights, proof.multipliers, pairs, proof.bound)
        assert proof.bound >= patterns_norm(weights, pairs) * (1 - 1e-12)


def test_a_little_less_than_the_least_bound_is_never_proven():
    rng = np.random.default_rng(2)
    for _ in range(100):
        weights = [abs(W) for W in random_weights(rng, 3, 5, 4, 2)]
        product = weights[2] @ weights[1] @ weights[0]
        exact = float(np.linalg.norm(product, 2))
        proof = certify_network(weights, spectral_multipliers(weights))
        assert proof.bound >= exact
        assert not network_holds(weights, proof.multipliers, None, exact * (1 - 1e-13))
        assert not network_holds(weights, proof.multipliers, None, proof.bound * (1 - 1e-9))


def test_one_neuron_by_hand():
    # W1 = [3], W2 = [2], multiplier 2/9: X = 2/9 - 9/81 = 1/9, so L^2 = 4 * 9 and L = 6, which is |2 * 3|.
    proof = certify_network([np.array([[3.0]]), np.array([[2.0]])], [np.array([2 / 9])])
    assert 6 <= proof.bound <= 6 * (1 + 1e-12)


def test_infeasible_multipliers_are_repaired():
    rng = np.random.default_rng(3)
    weights = random_weights(rng, 4, 6, 6, 3)
    good = certify_network(weights, spectral_multipliers(weights))
    for factor in (1 + 1e-9, 2 + 1e-9, 10.0, 1e6):
        proof = certify_network(weights, spectral_multipliers(weights, factor))
        assert np.isfinite(proof.bound) and network_holds(weights, proof.multipliers, None, proof.bound)
    assert good.bound <= certify_product(weights)


def test_dead_neurons_leave_the_statement():
    rng = np.random.default_rng(4)
    W1, W2 = rng.normal(size=(5, 3)), rng.normal(size=(2, 5))
    small = certify_network([W1[:3], W2[:, :3]], [np.ones(3)])
    V1, V2 = W1.copy(), W2.copy()
    V1[3], V2[:, 4] = 0, 0  # neuron 3 has no input, neuron 4 no output
    proof = certify_network([V1, V2], [np.array([1, 1, 1, 0, 0.0])])
    assert proof.bound == pytest.approx(small.bound, rel=1e-12)
    assert certify_network([V1[3:], V2[:, 3:]], [np.ones(2)]).bound == 0 if V1[3:].any() else True


def test_linear_networks_and_wide_layers():
    rng = np.random.default_rng(5)
    W = rng.normal(size=(4, 7))
    assert certify_network([W], []).bound == pytest.approx(np.linalg.norm(W, 2), rel=1e-12)
    wide = [rng.normal(size=(5, 40)), rng.normal(size=(3, 5))]  # the input block is eliminated
    tall = [wide[0].T @ np.eye(5)[:, :4], rng.normal(size=(3, 40))]
    for weights in (wide, tall):
        proof = certify_network(weights, spectral_multipliers(weights))
        assert proof.bound <= certify_product(weights)
        assert network_holds(weights, proof.multipliers, None, proof.bound)


def test_composite_is_the_sum_over_groupings():
    rng = np.random.default_rng(6)
    A, B, C = random_weights(rng, 4, 6, 5, 3)
    norm = lambda W: np.linalg.norm(W, 2)  # noqa: E731
    by_hand = (
        norm(C @ B @ A) + norm(C @ B) * norm(A) + norm(C) * norm(B @ A) + norm(C) * norm(B) * norm(A)
    ) / 4
    bound = certify_composite([A, B, C])
    assert by_hand <= bound <= by_hand * (1 + 1e-11)
    assert bound <= certify_product([A, B, C])


def test_composite_with_other_slopes_is_above_all_patterns():
    rng = np.random.default_rng(7)
    for _ in range(40):
        weights = random_weights(rng, 2, 3, 3, 2)
        slopes = [tuple(np.sort(rng.normal(size=(2, 3)), axis=0)) for _ in range(2)]
        assert certify_composite(weights, slopes) >= patterns_norm(weights, slopes)


def test_norms_and_products_are_above():
    rng = np.random.default_rng(8)
    for shape in ((3, 3), (2, 50), (50, 2)):
        W = rng.normal(size=shape)
        assert np.linalg.norm(W, 2) <= spectral_norm_above(W) * (1 + 1e-15)
        assert spectral_norm_above(W) <= np.linalg.norm(W, 2) * (1 + 1e-11)
    assert spectral_norm_above(np.zeros((2, 2))) == 0
    assert certify_product([np.eye(2)], [(np.zeros(2), np.full(2, 3.0))]) >= 3


def test_refusals():
    W = np.ones((2, 2))
    with pytest.raises(InvalidWeight, match="takes 2"):
        certify_network([np.ones((3, 2)), W], [np.ones(3)])
    with pytest.raises(InvalidScaling, match="hidden layers"):
        certify_network([W, W], [])
    with pytest.raises(InvalidScaling, match="nonnegative"):
        certify_network([W, W], [np.array([-1.0, 1])])
    with pytest.raises(InvalidScaling, match="positive"):
        certify_network([W, W], [np.array([0.0, 1])])
    with pytest.raises(InvalidScaling, match="exceeds"):
        certify_network([W, W], [np.ones(2)], [(np.ones(2), np.zeros(2))])


def test_certificate_file_goes_there_and_back(tmp_path):
    rng = np.random.default_rng(9)
    weights = [W.astype(np.float32) for W in random_weights(rng, 3, 4, 2)]
    proof = certify_network(
        weights, spectral_multipliers([W.astype(float) for W in weights]), method="spectral"
    )
    path = tmp_path / "net.json"
    save_network(path, network_record("net", weights, proof))
    entry = load_network(path)
    assert entry.certificate.bound == proof.bound
    assert verify_network(entry, weights).proven
    assert not verify_network(entry, [weights[0] + 1, weights[1]]).proven
    lie = dataclasses.replace(entry, certificate=dataclasses.replace(proof, bound=proof.bound * (1 - 1e-6)))
    assert not verify_network(lie, weights).proven
    document = json.loads(path.read_text())
    document.pop("multipliers")
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidCertificate, match="malformed"):
        load_network(path)
    path.write_text("{}")
    with pytest.raises(InvalidCertificate, match="schema"):
        load_network(path)
