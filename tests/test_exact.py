"""The exact constant: both sides proven, known answers, all patterns by hand, every kind of hinge, and what is refused."""

import itertools
import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from sdplip.bounds import bound, exact_bound, jacobian
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.hinges import hinged, reduced
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.kernel.sides import sides
from sdplip.network import Activation, Builder, Dense, Maximum, Network, Sort, Sum, chain
from sdplip.verifier.document import digest
from tests.commands import answer, failure, invoke
from tests.independent import patterns
from tests.independent.networks import Nodes, of_arrays
from tests.independent.rational import vector

DATA = os.environ.get("SDPLIP_DATA")
ROOT40 = chain(
    [Dense(np.array([[-1.0, 3.0], [3.0, -1.0]])), Activation("relu", 2), Dense(np.array([[2.0, 2.0]]))]
)


def random_network(seed: int, *widths: int, kind: str = "relu") -> Network:
    rng, ops = np.random.default_rng(seed), []
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        ops.append(Dense(rng.normal(size=(m, n)) / np.sqrt(n), 0.4 * rng.normal(size=m)))
        if k < len(widths) - 2:
            ops.append(Sort(np.arange(m).reshape(-1, 2), m) if kind == "maxmin" else Activation(kind, m))
    return chain(ops)


def mixed() -> Network:
    """Three knots, groups of three, maxima that overlap, a sum, leaky slopes."""
    rng, b = np.random.default_rng(3), Builder((2,))
    a = b.add(Dense(rng.normal(size=(3, 2)), rng.normal(size=3)), 0)
    bent = b.add(Dense(rng.normal(size=(3, 3)), rng.normal(size=3)), b.add(Activation("hardtanh", 3), a))
    sorted_ = b.add(Sort(np.array([[2, 0, 1]]), 3), bent)
    total = b.add(Sum((1, -1), 3), sorted_, b.add(Activation("leaky_relu", 3), bent))
    high = b.add(Maximum(np.array([[0, 1], [1, 2]]), 3), total)
    return b.finish(b.add(Dense(rng.normal(size=(2, 2))), high))


def by_hand(network: Network, box: Box | None) -> float:
    """The largest Jacobian of a pattern that some point has inside, pattern by pattern."""
    hinges, best = hinged(network), 0.0
    n = hinges.inputs
    ends = [(None, None)] * n if box is None else list(zip(box.lower, box.upper, strict=True))
    for sides_ in itertools.product((0, 1), repeat=hinges.order):
        y, out = reduced(hinges, np.array([sides_], np.int8))
        sign = np.where(np.array(sides_) == 1, 1.0, -1.0)
        A, c = y.mid[0][:, :n] * sign[:, None], y.mid[0][:, -1] * sign
        room = np.maximum(abs(A).sum(1), 1e-9)
        found = linprog(np.r_[np.zeros(n), -1.0], A_ub=np.c_[-A, room], b_ub=c, bounds=[*ends, (None, 1)])
        if found.status == 0 and found.x[-1] > 1e-7:
            best = max(best, float(np.linalg.norm(out.mid[0][:, :n], 2)))
    return best


BOX = Box(np.array([-0.3, -0.6]), np.array([0.8, 0.5]))
CASES = [
    (random_network(0, 2, 4, 3, 2), None),
    (random_network(1, 3, 4, 4, 1), None),
    (random_network(2, 2, 4, 4, 2, kind="leaky_relu"), BOX),
    (random_network(3, 2, 6, 4, 2, kind="maxmin"), None),
    (random_network(4, 2, 6, 4, 1, kind="maxmin"), BOX),
    (random_network(5, 2, 4, 3, 2, kind="abs"), BOX),
]


@pytest.mark.parametrize(("network", "region"), CASES)
def test_the_constant_by_hand(network: Network, region: Box | None):
    found = exact_bound(network, region=region)
    value = by_hand(network, region)
    assert found.lower <= value * (1 + 1e-12) and value <= found.bound * (1 + 1e-12)
    assert found.bound <= found.lower * (1 + 1.1e-6) and found.note == ""
    assert found.lower_proven and np.linalg.norm(jacobian(network, found.witness), 2) >= found.lower * (
        1 - 1e-12
    )
    assert conclude(found.goal, found.proof) == found.bound
    assert found.bound <= bound(network, "lipsdp-neuron", region=region, lower=0.0).bound * (1 + 1e-6)


def test_hinges_of_every_kind():
    network = mixed()
    found = exact_bound(network, region=BOX)
    points = np.random.default_rng(0).uniform(BOX.lower, BOX.upper, (3000, 2))
    value = max(np.linalg.norm(jacobian(network, x), 2) for x in points)
    assert value <= found.bound and value == pytest.approx(found.lower, rel=1e-9)
    assert found.note == "" and found.bound <= found.lower * (1 + 1.1e-6)
    assert conclude(found.goal, found.proof) == found.bound


@pytest.mark.parametrize(
    "network", [random_network(0, 2, 4, 3, 2), random_network(6, 3, 4, 4, 2, kind="maxmin")]
)
def test_all_biases_are_all_patterns(network: Network):
    hinges = hinged(network)
    patterns = np.array(list(itertools.product((0, 1), repeat=hinges.order)), np.int8)
    value = np.linalg.norm(reduced(hinges, patterns)[1].mid[:, :, : hinges.inputs], 2, axis=(1, 2)).max()
    found = exact_bound(network, any_biases=True)
    assert found.lower <= value * (1 + 1e-12) and value <= found.bound * (1 + 1e-12)
    assert found.bound <= found.lower * (1 + 1.1e-6) and found.bound >= exact_bound(network).lower


def test_known_answers():
    assert exact_bound(ROOT40, any_biases=True).bound == pytest.approx(40**0.5, rel=2e-6)
    triple = chain(
        [
            Dense(np.array([[1.0, -3], [2, -1], [2, 2]])),
            Activation("relu", 3),
            Dense(np.array([[3.0, -3, 3]])),
        ]
    )
    assert exact_bound(triple, any_biases=True).bound == pytest.approx(90**0.5, rel=2e-6)


@pytest.mark.parametrize("region", [Ball(np.array([0.1, -0.2]), 0.3), Cut(Ball(np.zeros(2), 0.5), BOX)])
def test_balls_and_cuts(region: Region):
    network = random_network(7, 2, 4, 4, 2)
    found = exact_bound(network, region=region)
    wide = exact_bound(network)
    assert found.lower <= found.bound <= wide.bound * (1 + 1e-9) and found.lower > 0
    rng = np.random.default_rng(0)
    points = np.clip(0.3 * rng.normal(size=(300, 2)), BOX.lower, BOX.upper)
    center, radius = (
        (region.center, region.radius)
        if isinstance(region, Ball)
        else (region.ball.center, region.ball.radius)
    )
    points = points[np.linalg.norm(points - center, axis=1) < radius]
    assert len(points) > 20
    assert max(np.linalg.norm(jacobian(network, x), 2) for x in points) <= found.bound


def test_ends_of_hinges_hold():
    network = random_network(8, 3, 6, 6, 2)
    hinges = hinged(network)
    box = Box(np.full(3, -0.2), np.full(3, 0.3))
    known = sides(hinges, box)
    rng = np.random.default_rng(1)
    values = np.c_[rng.uniform(-0.2, 0.3, (500, 3)), np.zeros((500, 12)), np.ones(500)]
    for layer in hinges.layers:
        y = values @ hinges.y.mid[layer].T
        values[:, 3 + layer] = np.maximum(y, 0)
        assert (y >= known.low[layer]).all() and (y <= known.high[layer]).all()
    assert known.high.max() < 10


def nodes_of(network: Network) -> Nodes:
    """For the second checker: a chain of matrices and relu."""
    ops = [node.op for node in network.nodes if isinstance(node.op, Dense)]
    arrays = {f"{k}.weight": op.W for k, op in enumerate(ops)} | {
        f"{k}.bias": op.b for k, op in enumerate(ops)
    }
    return of_arrays(arrays, {})


def test_the_proof_in_rational_numbers():
    network = random_network(4, 2, 4, 3, 1)
    found = exact_bound(network)
    nodes, data = nodes_of(network), found.proof.data
    assert -2 in data["fork"] and float(patterns.conclude(nodes, data, None)) == pytest.approx(
        found.bound, rel=1e-12
    )
    with pytest.raises(patterns.Open, match="bounded leaf"):
        patterns.conclude(nodes, {**data, "kappa": data["kappa"] * 0.9}, None)


def test_hinges_that_the_region_decides():
    network, box = random_network(12, 3, 8, 8, 2), Box(np.full(3, -0.05), np.full(3, 0.05))
    hinges, goal = hinged(network), Goal(network, box, "l2", values=True)
    where, found = sides(hinges, box), exact_bound(network, region=box)
    proof, data, N = found.proof, found.proof.data, hinges.order
    by_ends = [r for r in data["rows"] if r // N >= 4]
    assert {r // N for r in by_ends} == {4, 5} and len(by_ends) >= (~where.open).sum() > N / 2
    nodes, region = nodes_of(network), {"box": (vector(box.lower), vector(box.upper))}
    assert float(patterns.conclude(nodes, data, region)) == pytest.approx(found.bound, rel=1e-12)
    other = [r if r // N < 4 else r + N if r // N == 4 else r - N for r in data["rows"]]
    for wrong in (forged(proof, rows=other), forged(proof, rows=[r + 6 * N for r in data["rows"]])):
        with pytest.raises(NotProvable):
            conclude(goal, wrong)
    with pytest.raises(patterns.Open, match="an empty leaf"):
        patterns.conclude(nodes, {**data, "rows": other}, region)
    everywhere = Goal(network, None, "l2", values=True)  # where no hinge has ends
    with pytest.raises(NotProvable):
        conclude(everywhere, forged(proof, weights=np.zeros(0)))


def forged(proof: Proof, **changes: object) -> Proof:
    return Proof("patterns", {**proof.data, **changes})


def test_what_a_forger_would_change():
    network = random_network(4, 2, 4, 3, 1)
    found = exact_bound(network)
    goal, proof, data = found.goal, found.proof, found.proof.data
    rows, fork = list(data["rows"]), list(data["fork"])
    first = fork.index(-2)
    wrong = [
        forged(proof, kappa=data["kappa"] * (1 - 1e-5)),
        forged(proof, fork=[-2]),
        forged(proof, fork=fork[:-1]),
        forged(proof, fork=[*fork, -1]),
        forged(proof, fork=[-2 if k == -1 else k for k in fork]),
        forged(proof, fork=[fork[0], fork[0], *fork[1:]]),
        forged(proof, rows=[(r + 1) % hinged(network).order for r in rows]),
        forged(proof, rows=rows[:-1], count=[*data["count"][:-1], data["count"][-1] - 1]),
        forged(proof, multipliers=np.asarray(data["multipliers"]) * 0.5),
        forged(proof, base=[99] * len(data["base"])),
        forged(proof, fork=[*fork[:first], fork[0], *fork[first + 1 :]]),
    ]
    for one in wrong:
        with pytest.raises(NotProvable):
            conclude(goal, one)
    increments = Goal(network)  # an empty leaf is about values, which rules may have dropped
    with pytest.raises(NotProvable, match="increments"):
        conclude(increments, proof)


def test_narrow_loses_values():
    network = random_network(10, 6, 2, 3, 1)
    found = exact_bound(network)
    assert -2 in found.proof.data["fork"]
    with pytest.raises(NotProvable, match="increments"):
        conclude(found.goal, Proof("narrow", {}, (found.proof,)))


def test_refused():
    tanh = chain([Dense(np.eye(2)), Activation("tanh", 2)])
    with pytest.raises(InvalidProblem, match="tanh is not piecewise linear"):
        exact_bound(tanh)
    with pytest.raises(InvalidProblem, match="Drop it, or the region"):
        exact_bound(ROOT40, any_biases=True, region=BOX)
    with pytest.raises(InvalidProblem, match="a bias of its own"):
        exact_bound(mixed(), any_biases=True)
    with pytest.raises(InvalidProblem, match="`gap` must be positive"):
        exact_bound(ROOT40, gap=0.0)


def test_a_search_goes_on(tmp_path: Path):
    network, state = random_network(11, 4, 8, 8, 2), tmp_path / "search.npz"
    first = exact_bound(network, state=state, seconds=1e-9)
    assert "time was over" in first.note and first.lower <= first.bound and state.exists()
    second = exact_bound(network, state=state)
    whole = exact_bound(network)
    assert (
        second.note == ""
        and second.bound == pytest.approx(whole.bound, rel=2e-6)
        and second.bound <= first.bound
    )
    with pytest.raises(InvalidProblem, match="another network"):
        exact_bound(random_network(12, 4, 8, 8, 2), state=state)
    state.write_bytes(b"nothing")
    with pytest.raises(InvalidProblem, match="no kept search"):
        exact_bound(network, state=state)


def test_an_interrupt_keeps_both_sides():
    network = random_network(11, 4, 8, 8, 2)

    def stop(nodes: int, upper: float, lower: float) -> None:
        assert lower <= upper and nodes > 0
        raise KeyboardInterrupt

    found = exact_bound(network, progress=stop)
    assert "interrupted" in found.note and 0 < found.lower <= exact_bound(network).bound <= found.bound * (
        1 + 1e-9
    )


def test_the_largest_output():
    network = random_network(13, 3, 4, 4, 3)
    found = exact_bound(network, output_norm="linf")
    rows = [
        exact_bound(chain([*(node.op for node in network.nodes), Dense(np.eye(1, 3, i))])).bound
        for i in range(3)
    ]
    assert found.bound == pytest.approx(max(rows), rel=3e-6) and found.row == int(np.argmax(rows))


PUBLISHED = [
    ("lipbab_iris_net__4_5_5_3_", Box(np.zeros(4), np.ones(4)), 6.77145),
    ("lipbab_SDnet__10_15_10_3_", Box(np.zeros(10), np.full(10, 0.1)), 9.5307),
    ("exlipbab_iris_net__4x6x6x3__ReLU", None, 11.63436),
    ("exlipbab_wine_net__11x12x12x1__ReLU", None, 1.743370),
]


@pytest.mark.skipif(
    DATA is None, reason="SDPLIP_DATA is not set: the networks of LipBaB and ExLipBaB lie there"
)
@pytest.mark.parametrize(("name", "region", "value"), PUBLISHED)
def test_published_values(name: str, region: Box | None, value: float):
    folder = Path(str(DATA)) / "benchmarks"
    W = np.load(folder / f"{name}_weights.npy", allow_pickle=True)
    b = np.load(folder / f"{name}_biases.npy", allow_pickle=True)
    ops: list = []
    for k, (A, shift) in enumerate(zip(W, b, strict=True)):
        ops += [Dense(A.T.astype(float), shift.astype(float))] + [Activation("relu", A.shape[1])] * (
            k < len(W) - 1
        )
    found = exact_bound(chain(ops), region=region)
    assert found.lower == pytest.approx(value, rel=1e-5) and found.bound <= found.lower * (1 + 1.1e-6)


def test_the_command(tmp_path: Path):
    network, file, proof = random_network(4, 2, 4, 3, 1), tmp_path / "net.npz", tmp_path / "proof.json"
    layers = [node.op for node in network.nodes if isinstance(node.op, Dense)]
    arrays = {f"fc{k}.weight": op.W for k, op in enumerate(layers)} | {
        f"fc{k}.bias": op.b for k, op in enumerate(layers)
    }
    np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    code, found = answer(invoke, "bound", file, "--method", "exact", "--certificate", proof)
    assert (
        code == 0
        and found["lower_proven"]
        and found["lower"] <= found["bound"] <= found["lower"] * (1 + 1.1e-6)
    )
    assert found["bound"] == exact_bound(network).bound and len(found["witness"]) == 2
    assert invoke("verify", proof, file)[0] == 0
    _, free = answer(invoke, "bound", file, "--method", "exact", "--any-biases")
    assert free["bound"] >= found["lower"] and free["witness"] is None
    shifted = {**arrays, "fc1.bias": -arrays["fc1.bias"]}
    np.savez(file, **shifted)  # pyright: ignore[reportArgumentType]
    document = json.loads(proof.read_text())
    document["file"]["sha256"] = digest(file)
    proof.write_text(json.dumps(document))
    assert invoke("verify", proof, file)[0] == 1, "leaves that were empty with other biases"
    code, wrong = failure(invoke, "bound", file, "--gap", "1e-3")
    assert code == 2 and "--method exact" in wrong["error"]


def test_biases_must_be_understood(tmp_path: Path):
    network, file, proof = random_network(4, 2, 4, 3, 1), tmp_path / "net.npz", tmp_path / "proof.json"
    layers = [node.op for node in network.nodes if isinstance(node.op, Dense)]
    weights = {f"w{k}": op.W for k, op in enumerate(layers)}
    np.savez(file, **weights, other=np.ones(9))  # pyright: ignore[reportArgumentType]
    assert invoke("bound", file)[0] == 0
    code, wrong = failure(invoke, "bound", file, "--method", "exact")
    assert code == 2 and "bias" in wrong["error"]
    np.savez(file, **weights, **{f"b{k}": op.b for k, op in enumerate(layers)})  # pyright: ignore[reportArgumentType]
    assert invoke("bound", file, "--method", "exact", "--certificate", proof)[0] == 0
    other = tmp_path / "other.npz"
    np.savez(other, **weights, other=np.ones(9))  # pyright: ignore[reportArgumentType]
    document = json.loads(proof.read_text())
    document["file"]["sha256"] = digest(other)
    proof.write_text(json.dumps(document))
    assert invoke("verify", proof, other)[0] != 0, "the proof rests on biases that this file does not say"


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (-450, 0), (450, -450), (-300, -300), (200, 300), (-500, 480)]
)
@pytest.mark.parametrize("region", [None, "box"])
def test_extreme_ranges_against_rational_numbers(first, second, region):
    """Weights times powers of two, far from 1 on both sides: what is proven holds in exact arithmetic, or nothing is."""
    network = random_network(4, 2, 4, 3, 1)
    scales = iter((2.0**first, 2.0**second, 1.0))
    ops, biases = [], 1.0
    for node in network.nodes:
        op = node.op
        if isinstance(op, Dense):
            scale = next(scales)
            biases *= scale
            op = Dense(op.W * scale, op.b * biases)
        ops.append(op)
    scaled = chain(ops)
    box = None if region is None else Box(np.array([-0.4, -0.3]), np.array([0.5, 0.6]))
    try:
        found = exact_bound(scaled, region=box)
        proven = found.bound
    except NotProvable:
        assert (first, second) != (0, 0)
        return
    ends = None if box is None else {"box": (vector(box.lower), vector(box.upper))}
    if found.proof.rule != "patterns":
        pytest.skip(f"proven by `{found.proof.rule}`, which has tests of its own")
    second_opinion = patterns.conclude(nodes_of(scaled), found.proof.data, ends)
    assert second_opinion <= Fraction(proven) * (1 + Fraction(1, 10**12))
    assert found.lower <= proven
