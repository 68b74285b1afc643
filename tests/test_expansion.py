"""Proven lower constants of networks that are given: known answers, laws, what is refused."""

import numpy as np
import pytest

from sdplip.arithmetic.matrix import Enclosure
from sdplip.bounds import bound, expansion
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.expansion import RULE, conclude_expansion, expands
from sdplip.kernel.proof import Proof
from sdplip.network import Activation, Builder, Dense, Diagonal, Network, Sort, Sum
from sdplip.network.jacobian import derivative


def orthonormal(rng: np.random.Generator, m: int, n: int):
    """A matrix with orthonormal rows or columns, whichever are fewer."""
    Q = np.linalg.qr(rng.normal(size=(max(m, n), min(m, n))))[0]
    return Q if m >= n else Q.T


def monotone(n: int, units: list[int], mu: float, nu: float, seed: int) -> Network:
    r"""A layer of Wang, Dvijotham and Manchester: $z = \sigma(V z + \sqrt{2 g} S x + b)$, $y = \mu x + \sqrt{g / 2} S^\top z$, $g = \nu - \mu$.

    $[A_k\ B_k]$ has orthonormal rows, Q orthonormal rows or columns, $S_k = A_k Q_k - B_k Q_{k - 1}$, $V_{k, k - 1} = 2 B_k A_{k - 1}^\top$: then
    $2 I - V - V^\top = 2 S S^\top$ on the range of Q.
    """
    rng, b, g = np.random.default_rng(seed), Builder((n,)), nu - mu
    Q = np.split(orthonormal(rng, sum(units), n), np.cumsum(units)[:-1])
    outs, before, A_before = [b.add(Diagonal(np.full(n, mu)), 0)], None, None
    for k, m in enumerate(units):
        A, B = np.split(orthonormal(rng, m, m + (units[k - 1] if k else 0)), [m], 1)
        S = A @ Q[k] - (B @ Q[k - 1] if k else 0)
        v = b.add(Dense(np.sqrt(2 * g) * S, rng.normal(size=m)), 0)
        if before is not None:
            v = b.add(Sum((1, 1), m), v, b.add(Dense(2 * B @ A_before.T), before))
        before, A_before = b.add(Activation("relu", m), v), A
        outs.append(b.add(Dense(np.sqrt(g / 2) * S.T), before))
    return b.finish(b.add(Sum((1,) * len(outs), n), *outs))


def plain(*weights, slope: float = 0.2) -> Network:
    b = Builder((weights[0].shape[1],))
    value = b.add(Dense(weights[0]), 0)
    for W in weights[1:]:
        low = np.full(W.shape[1], slope)
        value = b.add(Dense(W), b.add(Activation("leaky_relu", W.shape[1], {"negative_slope": low}), value))
    return b.finish(value)


@pytest.mark.parametrize(("units", "n", "seed"), [([4, 4], 6, 1), ([3, 3, 3], 9, 3), ([8], 3, 4)])
def test_layers_that_were_built_by_the_inequality(units, n, seed):
    """0.5 and 3, both of which slope patterns attain."""
    network = monotone(n, units, 0.5, 3.0, seed)
    found = expansion(network, samples=60)
    assert 0.5 * (1 - 1e-7) <= found.lower <= found.estimate * (1 + 1e-12)
    assert found.lower <= 0.5 * (1 + 1e-9) or seed != 1
    assert bound(network, "lipsdp-neuron", lower=0.0).bound <= 3 * (1 + 1e-6)
    assert conclude_expansion(network, found.proof) == found.lower


def test_one_unit_by_hand():
    """x + relu(x) expands by 1, x - relu(x) / 2 by a half, x - relu(x) not at all."""
    for factor, lower in ((1.0, 1.0), (-0.5, 0.5), (-1.0, None), (-3.0, None)):
        b = Builder((1,))
        branch = b.add(Diagonal(np.array([factor])), b.add(Activation("relu", 1), 0))
        network = b.finish(b.add(Sum((1, 1), 1), 0, branch))
        if lower is None:
            with pytest.raises(NotProvable, match="No positive lower bound"):
                expansion(network)
        else:
            assert lower * (1 - 1e-6) <= expansion(network).lower <= lower


def test_no_jacobian_of_random_networks_is_below():
    rng = np.random.default_rng(0)
    proven = 0
    for n, m, slope in ((2, 3, 0.5), (3, 5, 0.7), (2, 2, 0.3), (3, 8, 0.1)):
        network = plain(
            rng.normal(size=(m, n)), rng.normal(size=(m + 1, m)) + 2 * np.eye(m + 1, m), slope=slope
        )
        try:
            found = expansion(network, samples=20)
        except NotProvable:
            continue
        proven += 1
        for x in 3 * rng.normal(size=(50, n)):
            J = derivative(network, x).matrix()
            assert np.linalg.svd(J, compute_uv=False)[-1] >= found.lower * (1 - 1e-12)
    assert proven >= 2


def test_a_matrix_has_its_least_singular_value():
    rng = np.random.default_rng(1)
    W = rng.normal(size=(6, 4))
    b = Builder((4,))
    found = expansion(b.finish(b.add(Dense(W), 0)))
    least = np.linalg.svd(W, compute_uv=False)[-1]
    assert least * (1 - 1e-9) <= found.lower <= least * (1 + 1e-12)
    assert expands(Enclosure.exact(W), least * (1 - 1e-9))
    for s in (least * (1 + 1e-9), -1.0, np.inf, np.nan):
        assert not expands(Enclosure.exact(W), s)
    assert not expands(Enclosure.exact(W.T), 1e-12)
    assert not expands(Enclosure(W, np.full(W.shape, least)), least / 2)


def test_nothing_is_proven_of_what_is_not_so():
    network = monotone(4, [5], 0.5, 3.0, 2)
    found = expansion(network)
    data = dict(found.proof.data)
    for forged in (
        Proof(RULE, {**data, "kappa": 0.2501}),
        Proof(RULE, {**data, "multipliers": -data["multipliers"]}),
        Proof(RULE, {**data, "multipliers": data["multipliers"][:-1]}),
        Proof(RULE, {**data, "kappa": np.nan}),
        Proof("joint", data),
        Proof(RULE, data, (found.proof,)),
    ):
        with pytest.raises(NotProvable):
            conclude_expansion(network, forged)
    with pytest.raises(NotProvable):
        conclude_expansion(monotone(4, [5], 0.4, 3.0, 2), found.proof)
    zero = Proof(RULE, {**data, "kappa": 0.0})
    assert conclude_expansion(network, zero) == 0.0


def test_what_is_refused():
    b = Builder((4,))
    with pytest.raises(InvalidProblem, match="4 inputs to 3 outputs"):
        expansion(b.finish(b.add(Dense(np.ones((3, 4))), 0)))
    b = Builder((4,))
    with pytest.raises(NotProvable, match="No positive lower bound"):
        expansion(b.finish(b.add(Sort(np.arange(4).reshape(2, 2), 4), 0)))
    b = Builder((1600,))
    with pytest.raises(NotProvable, match="more than the 1500"):
        expansion(b.finish(b.add(Diagonal(np.ones(1600)), 0)))
