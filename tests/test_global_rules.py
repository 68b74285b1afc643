"""Rules about all inputs: nothing false in exact arithmetic and on random graphs of every operator; forged data prove nothing."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from sdplip.bounds.increments import Increments, backward
from sdplip.bounds.numerics.riccati import spectral
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.maxima import without_maxima
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.rules.composite import groups
from sdplip.kernel.rules.folded import fold
from sdplip.kernel.rules.narrow import narrowed
from sdplip.kernel.rules.rows import output
from sdplip.kernel.stages import stages
from sdplip.kernel.system import expand, variables
from sdplip.network import (
    AbstractLinear,
    Activation,
    Builder,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Grouped,
    Maximum,
    Network,
    Norms,
    Sort,
    Sum,
    chain,
    followed,
    pooling_windows,
)
from sdplip.network.jacobian import Derivative, derivative
from sdplip.proposals.norm import propose_norm
from tests.dags import image_network, random_graph
from tests.exact import inertia_signs

pytestmark = pytest.mark.usefixtures("one_thread")
Row = dict[int, Fraction]


def mlp(rng, *widths, slopes=(0.0, 1.0), graded=False) -> Network:
    ops = list[AbstractLinear | Activation]()
    for n, m in itertools.pairwise(widths):
        W = rng.normal(size=(m, n))
        if graded:  # entries of very different size, within a matrix and between them
            W = W * 10.0 ** rng.uniform(-6, 6, (m, 1)) * 10.0 ** rng.integers(-20, 20)
        ops += [Dense(W, rng.normal(size=m)), Activation("", m, alpha=slopes[0], beta=slopes[1])]  # type: ignore[arg-type]
    return chain(ops[:-1])


def residual(rng) -> Network:
    """A block with slopes of all kinds, sorting, a difference, and values side by side."""
    builder = Builder((2,))
    first = builder.add(Dense(rng.normal(size=(3, 2))), 0)
    bent = builder.add(Activation("", 3, alpha=np.full(3, -0.25), beta=np.array([1.0, 1.125, -0.25])), first)
    back = builder.add(Dense(rng.normal(size=(2, 3))), bent)
    total = builder.add(Sum((1, -1), 2), 0, back)
    both = builder.add(Concatenate((2, 3)), total, bent)
    sorted_ = builder.add(Sort(np.array([[0, 3], [4, 1]]), 5), both)
    return builder.finish(builder.add(Diagonal(rng.normal(size=5)), sorted_))


def exact_inequality(network: Network, multipliers, kappa: Fraction) -> list[list[Fraction]]:
    """The inequality of the whole network in rational numbers, by an expansion of its own."""
    n = network.inputs
    variables, slopes, weight, group = (
        list[Row](),
        list[tuple[Fraction, Fraction]](),
        list[Fraction](),
        list[int](),
    )

    def combine(coefficients, rows) -> Row:
        total = Row()
        for c, row in zip(coefficients, rows, strict=True):
            for k, x in row.items():
                total[k] = total.get(k, Fraction(0)) + Fraction(c) * x
        return total

    def fresh(row, ends, w, number) -> Row:
        variables.append(row)
        slopes.append(ends)
        weight.append(w)
        group.append(number)
        return {n + len(variables) - 1: Fraction(1)}

    def following() -> int:
        return group[-1] + 1 if group else 0

    def behind(op, values: list[list[Row]]) -> list[Row]:
        if isinstance(op, Sum):
            return [combine(op.signs, rows) for rows in zip(*values, strict=True)]
        if isinstance(op, Concatenate):
            return [row for rows in values for row in rows]
        (rows,) = values
        if isinstance(op, AbstractLinear):
            return [combine(W, rows) for W in op.dense().tolist()]
        if isinstance(op, Activation):
            return [
                combine([a], [row])
                if a == b
                else fresh(row, (Fraction(a), Fraction(b)), Fraction(1), following())
                for row, a, b in zip(rows, op.alpha.tolist(), op.beta.tolist(), strict=True)
            ]
        found = list(rows)
        if isinstance(op, Grouped | Norms):
            c = Fraction(op.constant) if isinstance(op, Grouped) else Fraction(1)
            made = []
            for members in op.groups.tolist():
                number = following()
                made.append([fresh(rows[i], (-c, c), Fraction(1), number) for i in members])
            if isinstance(op, Norms):
                return [new[0] for new in made]
            for members, new in zip(op.groups.tolist(), made, strict=True):
                for i, row in zip(members, new, strict=True):
                    found[i] = row
            return found
        assert isinstance(op, Sort)
        for members in op.groups.tolist():
            size, old, number = len(members), [rows[i] for i in members], following()
            new = [combine([Fraction(1, size)] * size, old)] * size
            for k in range(1, size):
                h = [Fraction(1)] * k + [Fraction(-k)]
                w = Fraction(1, k * (k + 1))
                p = fresh(combine(h, old[: k + 1]), (Fraction(-1), Fraction(1)), w, number)
                new = [combine([1, h[i] * w], [v, p]) if i <= k else v for i, v in enumerate(new)]
            for i, row in zip(members, new, strict=True):
                found[i] = row
        return found

    values: list[list[Row]] = [[{i: Fraction(1)} for i in range(n)]]
    for node in without_maxima(network).nodes:
        values.append(behind(node.op, [values[i] for i in node.inputs]))
    order = n + len(variables)
    M = [[kappa if i == j < n else Fraction(0) for j in range(order)] for i in range(order)]
    for i, (y, (a, b), w, g) in enumerate(zip(variables, slopes, weight, group, strict=True)):
        lam, v = Fraction(multipliers[g]) * w / 2, {n + i: Fraction(1)}
        p, q = (combine([1, -s], [v, y]) for s in (a, b))
        for r, c in itertools.product({*p, *q}, repeat=2):
            M[r][c] += lam * (p.get(r, 0) * q.get(c, 0) + q.get(r, 0) * p.get(c, 0))
    for row in values[-1]:
        for r, c in itertools.product(row, repeat=2):
            M[r][c] -= row[r] * row[c]
    return M


def proven(goal: Goal, proof: Proof) -> float | None:
    try:
        return conclude(goal, proof)
    except NotProvable:
        return None


SMALL = {
    "mlp": lambda rng: mlp(rng, 2, 3, 3, 2),
    "graded": lambda rng: mlp(rng, 2, 3, 2, graded=True),
    "bent": lambda rng: mlp(rng, 2, 3, 2, slopes=(-0.25, 1.125)),
    "residual": residual,
    "sort": lambda rng: chain(
        [Dense(rng.normal(size=(3, 2))), Sort(np.array([[2, 0, 1]]), 3), Dense(rng.normal(size=(2, 3)))]
    ),
    "maximum": lambda rng: chain(
        [Dense(rng.normal(size=(4, 2))), Activation("relu", 4), Maximum(np.array([[0, 1, 2], [2, 3, -1]]), 4)]
    ),
    "norms": lambda rng: chain(
        [Dense(rng.normal(size=(4, 2))), Norms(np.array([[0, 3], [2, 1]]), 4), Dense(rng.normal(size=(2, 2)))]
    ),
    "grouped": lambda rng: chain(
        [Dense(rng.normal(size=(4, 2))), Grouped("softmax", np.array([[0, 3], [2, 1]]), 4)]
    ),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", SMALL)
def test_joint_proves_nothing_false_in_exact_arithmetic(kind, seed):
    rng = np.random.default_rng(seed)
    network = SMALL[kind](rng)
    goal = Goal(network)
    kappa, lam = backward(Increments.of(expand(network)), spectral)
    count = 0
    for multipliers in (lam, lam * rng.uniform(0.5, 2, len(lam))):
        for factor in (1 - 1e-6, 1 - 1e-12, 1 + 1e-11, 1 + 1e-9, 1.5, 4.0):
            bound = proven(goal, Proof("joint", {"multipliers": multipliers, "kappa": kappa * factor}))
            if bound is not None:
                count += 1
                assert inertia_signs(exact_inequality(network, multipliers, Fraction(bound) ** 2))[0]
    assert count


@pytest.mark.parametrize("slopes", [(0.0, 1.0), (-0.25, 1.125), (0.1, 1.0)])
@pytest.mark.parametrize("graded", [False, True])
def test_chain_proves_nothing_false_in_exact_arithmetic(graded, slopes):
    """The stages, added up, are the inequality of the whole network with kappa times the multipliers."""
    rng = np.random.default_rng(1)
    for _ in range(15):
        network = mlp(
            rng, *rng.integers(1, 4, size=int(rng.integers(3, 5))).tolist(), slopes=slopes, graded=graded
        )
        kappa, lam = backward(Increments.of(expand(network)), spectral)
        widths = [node.op.length for node in network.nodes if isinstance(node.op, Activation)]
        parts = np.split(lam / kappa, np.cumsum(widths)[:-1])
        for factor in (1 - 1e-9, 1 + 1e-10, 1.01, 2.0):
            data = {"multipliers": [part * (1 - 1e-9) for part in parts], "kappa": kappa * factor}
            bound = proven(Goal(network), Proof("chain", data))
            if bound is not None:
                square = Fraction(bound) ** 2
                exact = [square * Fraction(v) for part in data["multipliers"] for v in part.tolist()]
                assert inertia_signs(exact_inequality(network, exact, square))[0]


def extremes(network: Network, rng) -> float:
    """The norm of a linear map that the inequalities of the network allow: slopes at their ends, any permutation, any entry."""
    kept = dict[int, np.ndarray]()
    for k, node in enumerate(network.nodes, 1):
        op = node.op
        if isinstance(op, Activation):
            share = rng.integers(0, 2, op.length) if rng.uniform() < 0.8 else rng.uniform(size=op.length)
            kept[k] = op.alpha + share * (op.beta - op.alpha)
        elif isinstance(op, Sort):
            kept[k] = np.arange(op.length)
            for members in op.groups:
                kept[k][members] = rng.permutation(members)
        elif isinstance(op, Maximum):
            kept[k] = np.array([rng.choice(row[row >= 0]) for row in op.index])
        elif isinstance(op, Norms):
            u = rng.normal(size=op.groups.shape)
            kept[k] = u / np.linalg.norm(u, axis=1, keepdims=True)
        elif isinstance(op, Grouped):
            size = op.groups.shape[1]
            kept[k] = np.stack(
                [np.linalg.qr(rng.normal(size=(size, size)))[0] * op.constant for _ in op.groups]
            )
    return float(np.linalg.norm(Derivative(network, kept).matrix(), 2))


@pytest.mark.parametrize("seed", range(40))
def test_joint_is_above_all_linear_maps_that_it_allows(seed):
    rng, network = np.random.default_rng(seed), random_graph(seed)
    system = Increments.of(expand(network))
    lower = max(extremes(network, rng) for _ in range(40))
    kappa, lam = backward(system, spectral)
    assert kappa >= lower**2 * (1 - 1e-9)
    for factor in (1 - 1e-8, 1 + 1e-9, 1 + 1e-6, 1.1):
        bound = proven(Goal(network), Proof("joint", {"multipliers": lam + 1e-30, "kappa": kappa * factor}))
        assert bound is None or bound >= lower * (1 - 1e-12)


@pytest.mark.parametrize(
    "network", [random_graph(seed, groups=False) for seed in range(8)] + [image_network(0)]
)
def test_the_system_is_the_network(network):
    """With the slopes of the network at a point in place of the inequalities, the system gives its Jacobian."""
    rng = np.random.default_rng(0)
    plain = without_maxima(network)
    at = (
        derivative(plain, rng.normal(size=network.inputs))
        if all(node.op.name for node in plain.nodes if isinstance(node.op, Activation))
        else None
    )
    x = rng.normal(size=network.inputs)
    names = all(node.op.name for node in plain.nodes if isinstance(node.op, Activation))
    if names:
        assert np.allclose(plain(x), network(x), rtol=1e-12, atol=1e-12)
    system = expand(network)
    assert system.order == variables(network) == len(system.alpha)
    assert (np.triu(system.y.mid[:, network.inputs :]) == 0).all()
    if at is not None and all(isinstance(node.op, Activation) or _linear(node.op) for node in plain.nodes):
        slope = np.concatenate([
            at.kept[k][node.op.alpha != node.op.beta]
            for k, node in enumerate(plain.nodes, 1) if isinstance(node.op, Activation)
        ] or [np.zeros(0)])  # fmt: skip
        n, v = network.inputs, np.zeros((system.order, network.inputs))
        for i in range(system.order):
            v[i] = slope[i] * (system.y.mid[i, :n] + system.y.mid[i, n:] @ v)
        J = system.out.mid[:, :n] + system.out.mid[:, n:] @ v
        assert np.allclose(J, at.matrix(), atol=1e-10)


def _linear(op) -> bool:
    return isinstance(op, AbstractLinear | Sum | Concatenate)


def test_maxima_are_the_same_function_without_them():
    rng = np.random.default_rng(3)
    windows = pooling_windows(2, (5, 5), (3, 3), (2, 2), ((1, 1), (1, 1)))
    network = chain(
        [
            Dense(rng.normal(size=(50, 7))),
            Activation("relu", 50),
            Maximum(windows, 50),
            Dense(rng.normal(size=(3, len(windows)))),
        ]
    )
    plain = without_maxima(network)
    assert not any(isinstance(node.op, Maximum) for node in plain.nodes)
    assert variables(network) < 50 + 8 * len(windows)  # the function stands behind the maxima
    for x in rng.normal(size=(20, 7)):
        assert np.array_equal(plain(x), network(x))


def test_one_neuron_by_hand():
    # W1 = [3], W2 = [2], multiplier 2/9: X = 2/9 - 9/81 = 1/9, so L^2 = 4 * 9 and L = 6, which is |2 * 3|.
    goal = Goal(chain([Dense(np.array([[3.0]])), Activation("relu", 1), Dense(np.array([[2.0]]))]))
    bound = conclude(goal, Proof("chain", {"multipliers": [[2 / 9]], "kappa": 36 * (1 + 1e-12)}))
    assert 6 <= bound <= 6 * (1 + 1e-12)
    assert proven(goal, Proof("chain", {"multipliers": [[2 / 9]], "kappa": 36 * (1 - 1e-13)})) is None
    joint = conclude(goal, Proof("joint", {"multipliers": [8.0], "kappa": 36 * (1 + 1e-12)}))
    assert 6 <= joint <= 6 * (1 + 1e-12)


def test_composite_is_the_sum_over_groupings():
    rng = np.random.default_rng(6)
    network = mlp(rng, 4, 6, 5, 3)
    A, B, C = (node.op.W for node in network.nodes if isinstance(node.op, Dense))
    norm = lambda W: np.linalg.norm(W, 2)  # noqa: E731
    by_hand = (
        norm(C @ B @ A) + norm(C @ B) * norm(A) + norm(C) * norm(B @ A) + norm(C) * norm(B) * norm(A)
    ) / 4
    norms = [norm(G.mid) * (1 + 1e-13) for _, _, G in groups(stages(network))]
    assert by_hand <= conclude(Goal(network), Proof("composite", {"norms": norms})) <= by_hand * (1 + 1e-11)
    for k in range(6):
        less = [v * (1 - 1e-9 * (i == k)) for i, v in enumerate(norms)]
        assert proven(Goal(network), Proof("composite", {"norms": less})) is None


def test_dead_neurons_leave_the_statement():
    rng = np.random.default_rng(4)
    V1, V2 = rng.normal(size=(5, 3)), rng.normal(size=(2, 5))
    V1[3], V2[:, 4] = 0, 0  # neuron 3 has no input, neuron 4 no output
    small = chain([Dense(V1[:3]), Activation("relu", 3), Dense(V2[:, :3])])
    whole = chain([Dense(V1), Activation("relu", 5), Dense(V2)])
    kappa, lam = backward(Increments.of(expand(small)), spectral)
    lam, kappa = lam / kappa * (1 - 1e-9), kappa * (1 + 1e-8)
    found = conclude(Goal(small), Proof("chain", {"multipliers": [lam], "kappa": kappa}))
    assert found == conclude(Goal(whole), Proof("chain", {"multipliers": [[*lam, 0, 0]], "kappa": kappa}))
    with pytest.raises(NotProvable, match="positive"):
        conclude(Goal(whole), Proof("chain", {"multipliers": [[0, *lam[1:], 0, 0]], "kappa": kappa}))
    dead = chain([Dense(V1[3:]), Activation("relu", 2), Dense(V2[:, 3:] * [1, 0])])
    assert conclude(Goal(dead), Proof("chain", {"multipliers": [[1.0, 1.0]]})) == 0.0


def test_wide_first_matrices_are_replaced_by_square_ones():
    rng = np.random.default_rng(5)
    network = mlp(rng, 30, 4, 3)
    square = narrowed(network)
    W, R = network.nodes[0].op.dense(), square.nodes[0].op.dense()  # type: ignore[union-attr]
    assert square.inputs == 4 and np.allclose(R @ R.T, W @ W.T)
    assert np.linalg.eigvalsh(R @ R.T - W @ W.T)[0] > 0  # a little above
    kappa, lam = backward(Increments.of(expand(square)), spectral)
    proof = Proof("narrow", {}, (Proof("joint", {"multipliers": lam, "kappa": kappa * (1 + 1e-9)}),))
    direct = Proof("joint", {"multipliers": lam, "kappa": kappa * (1 + 1e-7)})
    assert conclude(Goal(network), proof) == pytest.approx(conclude(Goal(network), direct), rel=1e-7)
    with pytest.raises(NotProvable, match="no more columns"):
        conclude(Goal(mlp(rng, 3, 4, 3)), Proof("narrow", {}, (direct,)))


def test_layers_follow_the_graph():
    builder = Builder((4,))
    double = builder.add(Diagonal(np.array([2.0, -1, 0, 1])), 0)
    total = builder.add(Sum((1, -1), 4), double, 0)  # 2 + 1
    both = builder.add(Concatenate((4, 4)), total, double)  # sqrt(9 + 4)
    read = builder.add(Gather(np.array([0, 0, 0, 0, 5]), 8), both)  # twice as long
    network = builder.finish(builder.add(Activation("leaky_relu", 5, {"negative_slope": -3.0}), read))
    assert conclude(Goal(network), Proof("layers")) == pytest.approx(13**0.5 * 2 * 3, rel=1e-14)
    assert conclude(Goal(network), Proof("layers")) >= 13**0.5 * 6
    dense = followed(network, Dense(np.eye(5)))
    with pytest.raises(NotProvable, match="span"):
        conclude(Goal(dense), Proof("layers"))
    norm = Proof("chain", {"multipliers": [], "kappa": 1 + 1e-12})
    spans = Proof("layers", {"spans": [[5, 6]]}, (norm,))
    assert conclude(Goal(dense), spans) == pytest.approx(13**0.5 * 6, rel=1e-11)


def test_rows_are_the_longest():
    rng = np.random.default_rng(7)
    W = rng.normal(size=(4, 3))
    network = chain([Dense(np.eye(3) * 2), Activation("relu", 3), Dense(W)])
    norm = Proof("chain", {"multipliers": [], "kappa": 4 * (1 + 1e-12)})
    front = Proof("layers", {"spans": [[0, 1]]}, (norm,))
    lengths = 2 * np.linalg.norm(W, axis=1)
    caps = Proof("rows", {"behind": 2, "outputs": []}, (front,))
    assert lengths.max() <= conclude(Goal(network, norm="linf"), caps) <= lengths.max() * (1 + 1e-11)
    at = int(np.argmax(lengths))
    own = [i for i in range(4) if i != at]
    parts = []
    for i in own:
        kappa, lam = backward(Increments.of(expand(output(network, i))), spectral)
        parts.append(Proof("joint", {"multipliers": lam, "kappa": kappa * (1 + 1e-9)}))
    all_but_one = Proof("rows", {"outputs": own}, tuple(parts))
    with pytest.raises(NotProvable, match=f"output {at} is missing"):
        conclude(Goal(network, norm="linf"), all_but_one)
    mixed = Proof("rows", {"behind": 2, "outputs": own}, (front, *parts))
    assert conclude(Goal(network, norm="linf"), mixed) == conclude(Goal(network, norm="linf"), caps)
    with pytest.raises(NotProvable, match="Euclidean"):
        conclude(Goal(network), caps)


@pytest.mark.parametrize("groups", [1, 2])
def test_normalisations_are_folded_into_a_convolution(groups):
    rng = np.random.default_rng(8)
    size, pads = (5, 4), ((1, 1), (0, 1))
    K = rng.normal(size=(4, 4 // groups, 3, 2))
    conv = Convolution(K, size, (2, 1), pads, (1, 1), groups)
    before = Diagonal(np.repeat(rng.normal(size=4), 20), error=2.0**-50)
    behind = Diagonal(np.repeat(rng.normal(size=4) * 10.0 ** np.arange(4), conv.outputs // 4))
    network = chain([before, conv, behind])
    exact = float(np.linalg.norm(behind.dense() @ conv.dense() @ before.dense(), 2))
    op, _ = fold(network)
    assert np.allclose(op.dense(), behind.dense() @ conv.dense() @ before.dense(), rtol=1e-14, atol=0)
    merged = Proof("norm", propose_norm(chain([op, Diagonal(np.ones(op.outputs))])).data)
    bound = conclude(Goal(network), Proof("folded", {}, (merged,)))
    assert exact <= bound <= exact * (1 + 1e-9)
    assert bound <= conclude(Goal(network), Proof("folded", {}, (propose_norm(op),))) * (1 + 1e-9)
    with pytest.raises(NotProvable, match="not constant"):
        fold(chain([Diagonal(rng.normal(size=80)), conv]))
    with pytest.raises(NotProvable, match="one convolution"):
        fold(chain([before, before]))
    with pytest.raises(NotProvable, match="one part"):
        conclude(Goal(network), Proof("folded"))


FORGED = [
    Proof("joint", {"multipliers": [1.0], "kappa": 1.0}),
    Proof("joint", {"multipliers": [1.0] * 3, "kappa": float("nan")}),
    Proof("joint", {"multipliers": [-1.0] * 3, "kappa": 1.0}),
    Proof("joint", {"multipliers": "abc", "kappa": 1.0}),
    Proof("joint", {"kappa": 1e300}),
    Proof("joint", {"multipliers": [1e308] * 3, "kappa": 1e308}),
    Proof("joint", {"multipliers": [5e-324] * 3, "kappa": 5e-324}),
    Proof("chain", {"multipliers": [[1.0, 1.0]], "kappa": 9.0}),
    Proof("chain", {"multipliers": [[1.0, 1.0, float("inf")]], "kappa": 9.0}),
    Proof("chain", {"multipliers": [[0.1] * 3], "kappa": 1e-300}),
    Proof("chain", {"multipliers": [[0.1] * 3], "kappa": 1e9, "widen": -1.0}),
    Proof("chain", {"multipliers": [[1e300] * 3], "kappa": 1e9}),
    Proof("composite", {"norms": [1.0]}),
    Proof("composite", {"norms": [0.0, 0.0, 0.0]}),
    Proof("composite", {"norms": [1e200, 1e200, 1e-200]}),
    Proof("narrow"),
    Proof("layers", {"spans": [[0, 99]]}, (Proof("layers"),)),
    Proof("layers", {"spans": [[1, 0]]}, (Proof("layers"),)),
    Proof("layers", {"spans": [[0, 1], [0, 1]]}, (Proof("layers"), Proof("layers"))),
    Proof("layers", {"spans": 3}),
    Proof("layers", {"spans": [[0.0, 1.0]]}, (Proof("layers"),)),
    Proof("layers", {"spans": [[0, 3]]}, (Proof("nothing"),)),
    Proof("rows", {"outputs": [0, 1]}),
    Proof("rows", {"behind": 7, "outputs": []}),
    Proof("rows", {"behind": 2, "outputs": []}),
]


@pytest.mark.parametrize("proof", FORGED)
def test_forged_data_prove_nothing(proof):
    network = chain([Dense(np.ones((3, 2))), Activation("relu", 3), Dense(np.ones((2, 3)))])
    with pytest.raises(NotProvable):
        conclude(Goal(network), proof)


def test_a_proof_without_end_is_refused():
    proof = Proof("layers")
    for _ in range(200):
        proof = Proof("layers", {"spans": [[0, 1]]}, (proof,))
    with pytest.raises(NotProvable, match="nests"):
        conclude(Goal(chain([Diagonal(np.ones(2))])), proof)


def test_sorting_obeys_the_inequality_that_is_claimed():
    rng = np.random.default_rng(1)
    for size in (2, 3, 5):
        x, y = rng.normal(size=(2, 200, size))
        u, v = x - y, np.sort(x) - np.sort(y)
        helmert = [np.array([1.0] * k + [-k] + [0.0] * (size - k - 1)) for k in range(1, size)]
        total = sum(((v @ h) ** 2 - (u @ h) ** 2) / (k * (k + 1)) for k, h in enumerate(helmert, 1))
        assert (total <= 1e-12).all() and np.allclose(u.sum(1), v.sum(1))
