"""Multipliers of pairs: known constants, nothing false in exact arithmetic, no linear map above a bound, forged data prove nothing."""

import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from sdplip.bounds import choose
from sdplip.bounds.increments import Increments
from sdplip.bounds.methods.pairs import by_pairs
from sdplip.bounds.methods.reference_pairs import ReferencePairs
from sdplip.bounds.numerics.pair_forms import PairForms, candidates
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.pairwise import REST, SIGNS, TRIANGLE
from sdplip.network import Activation, Builder, Dense, Network, Sort, Sum
from sdplip.network.jacobian import Derivative
from tests.exact import inertia_signs
from tests.nets import Function, mlp, random_mlp
from tests.test_global_rules import exact_inequality, proven

pytestmark = pytest.mark.usefixtures("one_thread")
FIRST = [np.array([[-1.0, 3], [3, -1]]), np.array([[2.0, 2]])]
SECOND = [np.array([[1.0, -3], [2, -1], [2, 2]]), np.array([[3.0, -3, 3]])]
CLOSE = 1e-6
"""Relative, of a general solver with a margin of 1e-8 in every condition."""


def largest(network: Network) -> float:
    """The constant over all biases: the largest norm over slopes at their ends, and both orders of every sorted pair."""
    choices = []
    for k, node in enumerate(network.nodes, 1):
        if isinstance(node.op, Activation | Sort):
            count = node.op.length if isinstance(node.op, Activation) else len(node.op.groups)
            choices.append([(k, ends) for ends in itertools.product((0, 1), repeat=count)])
    return max(_norm(network, dict(chosen)) for chosen in itertools.product(*choices))


def _norm(network: Network, chosen: dict[int, tuple[int, ...]]) -> float:
    kept = dict[int, np.ndarray]()
    for k, ends in chosen.items():
        op, picked = network.made(k).op, np.array(ends)
        if isinstance(op, Activation):
            kept[k] = op.alpha + picked * (op.beta - op.alpha)
        else:
            assert isinstance(op, Sort)
            kept[k] = np.arange(op.length)
            kept[k][op.groups] = np.where(picked[:, None] == 1, op.groups[:, ::-1], op.groups)
    return float(np.linalg.norm(Derivative(network, kept).matrix(), 2))


def proposed(network: Network, layers: int | None = None) -> tuple[PairForms, Task]:
    """What the general solver hands on, with its task."""
    task = Task(network)
    return ReferencePairs(layers)(task.system), task


@pytest.mark.parametrize(
    ("weights", "exact", "pairs"),
    [
        (FIRST, 40**0.5, 40**0.5),
        (SECOND, 90**0.5, 9.5650296),
        ([np.array([[-3.0, 0], [-1, -2]]), np.array([[2.0, -3], [1, 0]])], 6.8647368, 6.8647368),
        ([np.array([[-2.0, 3], [-2, 2]]), np.array([[-1.0, 1]])], 13**0.5, 13**0.5),
    ],
)
def test_known_constants(weights, exact, pairs):
    """The last has the gain 1 at 0, which inequalities of values prove: no Lipschitz constant."""
    network = mlp(weights)
    found, task = proposed(network)
    bound, _ = found.proof(task, task.system)
    assert largest(network) == pytest.approx(exact, rel=1e-8)
    assert largest(network) <= bound
    assert bound == pytest.approx(pairs, rel=CLOSE)


KINDS: dict[str, tuple[Function, tuple[int, ...]]] = {
    "relu": ("relu", (2, 2, 2, 1)),
    "bent": ((-0.25, 1.125), (2, 2, 2, 2)),
    "leaky": ((0.1, 1.0), (2, 2, 2, 1)),
    "maxmin": ("maxmin", (2, 4, 2, 1)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_slopes_exceed_a_bound_and_exact_arithmetic_agrees(kind):
    """Of honest data, and of data scaled and spoilt, whatever the kernel still proves."""
    function, widths = KINDS[kind]
    count = 0
    for seed in range(2):
        rng, network = np.random.default_rng(seed), random_mlp(seed, *widths, kind=function)
        found, task = proposed(network)
        goal, most = Goal(network), largest(network)
        bound, proof = found.proof(task, task.system)
        assert most <= bound
        spoilt = [proof] + [_spoilt(proof, rng) for _ in range(8)]
        for some, factor in itertools.product(spoilt, (1 - 1e-9, 1.0, 1 + 1e-6)):
            data = {**some.data, "kappa": proof.data["kappa"] * factor}
            value = proven(goal, Proof("pairwise", data))
            if value is not None:
                count += 1
                assert value >= most
                assert _holds(network, task.system, data, Fraction(value) ** 2)
    assert count > 10


def _spoilt(proof: Proof, rng) -> Proof:
    """The proof with other numbers in one of its fields."""
    name = rng.choice(["multipliers", "forms", "rests"])
    values = proof.data[name]
    spread = 10.0 ** rng.integers(-12, 0)
    return replace(
        proof, data={**proof.data, name: values * (1 + spread * rng.uniform(-1, 1, np.shape(values)))}
    )


def _holds(network: Network, system: Increments, data, kappa: Fraction) -> bool:
    """Both copositivities of every pair and the inequality, in rational numbers (weights of order one: rows are exact)."""
    M, n = exact_inequality(network, data["multipliers"], kappa), system.inputs
    for i, j, flat, rests in zip(*(data[k] for k in ("first", "second", "forms", "rests")), strict=True):
        F = [[Fraction(flat[k]) for k in row] for row in TRIANGLE]
        for S, rest in zip(SIGNS, rests, strict=True):
            N = [[Fraction(0) if k == 6 else Fraction(rest[k]) for k in row] for row in REST]
            rows = [[int(S[a, b]) * F[a][b] - N[a][b] for b in range(4)] for a in range(4)]
            if not inertia_signs(rows)[0] or min(map(min, N)) < 0:
                return False
        rows = _exact_rows(network, n, i) + _exact_rows(network, n, j)
        for a, b in itertools.product(range(4), repeat=2):
            for r, c in itertools.product(range(len(M)), repeat=2):
                M[r][c] -= F[a][b] * rows[a][r] * rows[b][c]
    return inertia_signs(M)[0]


def _exact_rows(network: Network, n: int, variable: int) -> list[list[Fraction]]:
    """p and q of a variable of a chain, by its own walk through the matrices."""
    count, rows = 0, [[Fraction(int(i == j)) for j in range(40)] for i in range(n)]
    for node in network.nodes:
        if isinstance(node.op, Activation):
            ends = [(Fraction(a), Fraction(b)) for a, b in zip(node.op.alpha, node.op.beta, strict=True)]
            new = [[Fraction(int(j == n + count + k)) for j in range(40)] for k in range(len(ends))]
            if count <= variable < count + len(ends):
                (a, b), y, v = ends[variable - count], rows[variable - count], new[variable - count]
                return [
                    [v[j] - a * y[j] for j in range(40)],
                    [b * y[j] - v[j] for j in range(40)],
                ]
            rows, count = new, count + len(ends)
        elif isinstance(node.op, Sort):
            new = list(rows)
            for first, second in node.op.groups.tolist():
                y = [a - b for a, b in zip(rows[first], rows[second], strict=True)]
                v = [Fraction(int(j == n + count)) for j in range(40)]
                if count == variable:
                    return [
                        [a + b for a, b in zip(v, y, strict=True)],
                        [b - a for a, b in zip(v, y, strict=True)],
                    ]
                both = [a + b for a, b in zip(rows[first], rows[second], strict=True)]
                new[first] = [(a + b) / 2 for a, b in zip(both, v, strict=True)]
                new[second] = [(a - b) / 2 for a, b in zip(both, v, strict=True)]
                count += 1
            rows = new
        else:
            assert isinstance(node.op, Dense)
            W = [[Fraction(w) for w in row] for row in node.op.W.tolist()]
            rows = [[sum(w * row[j] for w, row in zip(ws, rows, strict=True)) for j in range(40)] for ws in W]
    raise AssertionError


def test_pairs_of_two_layers_prove_more_than_those_of_one():
    rng = np.random.default_rng(4)
    network = mlp([rng.normal(size=(m, n)) for n, m in itertools.pairwise((2, 2, 2, 2, 1))])
    values = [next(by_pairs(Task(network), "pairs", ReferencePairs(layers))).bound for layers in (0, 1, None)]
    assert values[0] == pytest.approx(0.7029763, rel=1e-5)
    assert values[2] == pytest.approx(0.6834119, rel=1e-5)
    assert values[0] > values[1] * (1 + 1e-4) > values[2] * (1 - CLOSE)
    assert largest(network) == pytest.approx(0.6834119, rel=1e-6)


def test_residual_sums():
    builder, rng = Builder((2,)), np.random.default_rng(3)
    branch = builder.add(Activation("relu", 3), builder.add(Dense(rng.normal(size=(3, 2))), 0))
    total = builder.add(Sum((1, 1), 2), 0, builder.add(Dense(rng.normal(size=(2, 3))), branch))
    network = builder.finish(builder.add(Activation("relu", 2), total))
    found, task = proposed(network)
    bound, _ = found.proof(task, task.system)
    assert largest(network) <= bound <= choose.bound(network, "lipsdp-neuron").bound * (1 + CLOSE)


def test_groups_of_three_have_no_pairs():
    system = Task(random_mlp(1, 3, 6, 2, kind="groupsort:3")).system
    assert system.order == 4 and not len(candidates(system))


def _forged():
    found, task = proposed(mlp(FIRST))
    _, proof = found.proof(task, task.system)
    data = dict(proof.data)
    forms, rests = data["forms"], data["rests"]
    yield {**data, "kappa": 39.999}
    yield {**data, "first": [0, 0]}
    yield {**data, "first": [2]}
    yield {**data, "first": [-1]}
    yield {**data, "first": [0.0]}
    yield {**data, "second": []}
    yield {**data, "forms": forms * 1.01}
    yield {**data, "forms": -forms}
    yield {**data, "forms": forms * np.nan}
    yield {**data, "forms": forms[:, :9]}
    yield {
        **data,
        "forms": forms + 1e6 * np.eye(1, 10, 1),
    }  # p q is the sector itself, but this is no sum of squares and N
    yield {**data, "rests": -rests}
    yield {**data, "rests": rests * 1.5}
    yield {**data, "rests": rests[:, ::-1]}
    yield {**data, "rests": rests[:, :1]}
    yield {**data, "multipliers": -data["multipliers"] - 1}
    yield {name: data[name] for name in data if name != "rests"}


def test_forged_data_prove_nothing():
    goal = Goal(mlp(FIRST))
    forged = list(_forged())
    assert len(forged) == 17
    for data in forged:
        with pytest.raises(NotProvable):
            conclude(goal, Proof("pairwise", data))


def test_a_variable_of_a_larger_group_has_no_pair():
    network = random_mlp(1, 2, 3, 1, kind="groupsort:3")
    data = {
        "multipliers": [100.0],
        "kappa": 1e6,
        "first": [0],
        "second": [1],
        "forms": np.eye(4)[np.triu_indices(4)][None] * 1e-3,
        "rests": np.zeros((1, 2, 6)),
    }
    with pytest.raises(NotProvable, match="share"):
        conclude(Goal(network), Proof("pairwise", data))
    assert (
        conclude(
            Goal(network),
            Proof(
                "pairwise",
                {**data, "first": [], "second": [], "forms": np.zeros((0, 10)), "rests": np.zeros((0, 2, 6))},
            ),
        )
        > 0
    )
