"""The method "pairs": beside the general solver, above every choice of slopes, on regions and residual sums, priced and in time."""

from typing import Any

import numpy as np
import pytest
import torch

from sdplip.bounds.choose import bound
from sdplip.bounds.increments import compressed
from sdplip.bounds.methods.pairs import by_pairs
from sdplip.bounds.methods.reference_pairs import ReferencePairs
from sdplip.bounds.numerics.pair_forms import Scaled, candidates
from sdplip.bounds.numerics.pairs import Pricing, best, inequality, start
from sdplip.bounds.numerics.pricing import prices
from sdplip.bounds.task import Task
from sdplip.errors import InvalidProblem
from sdplip.kernel.check import conclude
from sdplip.kernel.regions import Ball
from sdplip.network import Activation, Builder, Dense, Network, Sum
from sdplip.network.jacobian import derivative
from sdplip.network.read.weights import weights_network
from sdplip.solvers.solution import Status
from tests.nets import mlp, random_mlp
from tests.test_rule_pairwise import FIRST, SECOND, largest

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = 1e-5
"""Relative: of the squared bound both solvers stop at 1e-6 or better."""


def block(seed: int = 3) -> Network:
    """x + f(x), then a function."""
    builder, rng = Builder((2,)), np.random.default_rng(seed)
    branch = builder.add(Activation("relu", 3), builder.add(Dense(rng.normal(size=(3, 2))), 0))
    total = builder.add(Sum((1, 1), 2), 0, builder.add(Dense(rng.normal(size=(2, 3))), branch))
    return builder.finish(builder.add(Activation("relu", 2), total))


NETWORKS = {
    "first": mlp(FIRST),
    "second": mlp(SECOND),
    "deep": random_mlp(4, 2, 2, 2, 2, 1),
    "bent": random_mlp(1, 2, 3, 2, 2, kind=(-0.25, 1.125)),
    "maxmin": random_mlp(2, 3, 4, 4, 2, kind="maxmin"),
    "wide": random_mlp(5, 9, 3, 2, 1),
    "residual": block(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_both_solvers_agree_between_slopes_and_lipsdp(name):
    network = NETWORKS[name]
    found, alone = bound(network, "pairs"), bound(network, "lipsdp-neuron")
    (theirs,) = by_pairs(Task(network), "reference-pairs", ReferencePairs())
    assert largest(network) <= found.bound <= alone.bound * (1 + 1e-9)
    assert found.bound == pytest.approx(theirs.bound, rel=CLOSE)
    assert found.sdp_lower is None or found.sdp_lower <= found.bound <= found.sdp_lower * (1 + CLOSE)
    assert conclude(found.goal, found.proof) == found.bound and found.method == "pairs"


@pytest.mark.parametrize("seed", range(12))
def test_no_slopes_exceed_the_bound(seed):
    rng = np.random.default_rng(seed)
    kind = ["relu", (0.1, 1.0), (-0.5, 1.0), "maxmin", "abs"][seed % 5]
    widths = [int(2 * n) if kind == "maxmin" else int(n) for n in rng.integers(1, 3, size=3)]
    network = random_mlp(seed, 2, *widths, int(rng.integers(1, 4)), kind=kind)
    assert largest(network) <= bound(network, "pairs", lower=0.0).bound


def test_few_priced_pairs_come_near_to_all():
    system = Task(random_mlp(7, 3, 4, 4, 4, 2)).system
    every, some = best(system), best(system, options=Pricing(most=20, rounds=6))
    none = best(system, options=Pricing(most=0, rounds=0))
    task = Task(random_mlp(7, 3, 4, 4, 4, 2))
    values = [found.proof(task, system)[0] for found in (every, some, none)]
    assert len(every.at) == 66 and 0 < len(some.at) <= 20 and not len(none.at)
    assert values[0] <= values[1] * (1 + CLOSE)
    assert values[1] - values[0] < 0.2 * (values[2] - values[0])
    assert some.sdp_lower is None and every.sdp_lower is not None


def test_prices_are_0_where_moments_have_one_sign():
    """Moments of increments with both signs cost nothing, those of opposite signs in one block do."""
    rng = np.random.default_rng(0)
    a, b = abs(rng.normal(size=(2, 40, 4)))
    b[:, 2:] *= -1
    true = (a.T @ a + b.T @ b) / 40
    wrong = true.copy()
    wrong[:2, 2:] = wrong[2:, :2] = 0.4 * np.array([[1, -1], [-1, 1]])
    R = torch.eye(4, dtype=torch.float64)[[0, 2, 1, 3]]  # p of both variables, then q
    found = [prices(R, torch.tensor(M), np.array([[0, 1]]))[0] for M in (true, wrong)]
    assert found[0] == 0 < found[1]


@pytest.mark.parametrize("kind", ["relu", "groupsort:3"])
def test_the_step_solves_its_system(kind):
    system = Scaled.of(compressed(Task(random_mlp(1, 3, 6, 6, 2, kind=kind)).system)).system
    at = candidates(system)[::3]
    q = inequality(system, at)
    y = start(q, system.depth)
    assert y is not None
    P = q.inverse(y, q.assemble(y))
    rng = torch.Generator().manual_seed(0)
    r = torch.randn(len(y), generator=rng, dtype=torch.float64)
    solve = q.schur(P, P).solver()
    assert solve is not None
    torch.testing.assert_close(q.adjoint(q.product(P, solve(r), P)), r, rtol=1e-6, atol=1e-6)
    S, dy = q.operator(r), torch.randn(len(y), generator=rng, dtype=torch.float64)
    T = q.operator(dy)
    inner = (S.main * T.main).sum() + (S.small * T.small).sum() + (S.line * T.line).sum()
    torch.testing.assert_close(q.adjoint(S) @ dy, inner)


def test_regions_pairs_of_outputs_and_the_largest_output():
    network, ball = random_mlp(3, 3, 5, 4, 3), Ball(np.full(3, 0.1), 0.3)
    options: tuple[dict[str, Any], ...] = ({"region": ball}, {"output_pair": (0, 2)}, {"output_norm": "linf"})
    for some in options:
        found, alone = (bound(network, method, **some) for method in ("pairs", "lipsdp-neuron"))
        assert found.lower <= found.bound <= alone.bound * (1 + 1e-9)
        assert conclude(found.goal, found.proof) == found.bound
    rng = np.random.default_rng(0)
    local = bound(network, "pairs", region=ball)
    for _ in range(20):
        d = rng.normal(size=3)
        x = ball.center + ball.radius * rng.uniform() * d / np.linalg.norm(d)
        assert np.linalg.norm(derivative(network, x).matrix(), 2) <= local.bound


def test_the_largest_output_is_no_larger_than_all():
    """The second output is small, and only all at once have pairs: 6.33 where the largest output alone gives 6.53."""
    network = weights_network([np.array([[-1.0, 3], [3, -1]]), np.array([[2.0, 2], [0, 0.1]])])
    found, alone = bound(network, output_norm="linf"), bound(network, "lipsdp-neuron", output_norm="linf")
    assert found.row is None and alone.row == 0 and found.lower <= found.bound < 0.98 * alone.bound
    assert found.bound == bound(network).bound == conclude(found.goal, found.proof)


def test_a_search_that_is_stopped_has_a_bound():
    """The best round until then: the first one knows neurons alone."""
    task = Task(random_mlp(7, 3, 4, 4, 4, 2))
    values = [best(task.system, lambda k, *_, end=end: k < end, Pricing(most=20)) for end in (8, 10**9)]
    bounds = [found.proof(task, task.system)[0] for found in values]
    assert values[0].status is Status.STOPPED and values[0].iterations == 8
    assert bounds[1] < bounds[0] < np.inf


def test_networks_without_pairs_and_too_large_ones():
    sorted_ = random_mlp(1, 3, 6, 2, kind="groupsort:3")
    assert bound(sorted_, "pairs").bound <= bound(sorted_, "lipsdp-neuron").bound * (1 + CLOSE)
    assert bound(mlp([np.eye(2)]), "pairs").bound == pytest.approx(1)
    with pytest.raises(InvalidProblem, match="tried with pairs"):
        bound(random_mlp(0, 2, 1300, 1), "pairs")
    with pytest.raises(InvalidProblem, match="general solver"):
        bound(random_mlp(0, 60, 70, 1), "reference-pairs")
