"""The kernel and a second checker in rational numbers, which shares no code with it, say the same of small certificates of every rule."""

import json
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest

from sdplip.errors import SdplipError
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.regions import Ball, Box, Cut
from sdplip.kernel.rules import RULES
from sdplip.kernel.rules.local import local_network
from sdplip.kernel.rules.secants import secant_network
from sdplip.network import Activation, Dense, Network, chain
from sdplip.network.read.file import read_file
from sdplip.verifier.claim import claim_of
from sdplip.verifier.document import _to_proof
from tests.forge.honest import Case, every_case, rules_of
from tests.forge.mutants import is_number, paths, put
from tests.forge.truth import _padded
from tests.forge.worlds import axes
from tests.independent import networks
from tests.independent.networks import Nodes, followed, inputs_of, length_of
from tests.independent.rational import (
    diagonal,
    exact,
    plus,
    root_above,
    semidefinite,
    times,
    transposed,
    vector,
)
from tests.independent.replay import Refused
from tests.independent.replay import conclude as replay

pytestmark = pytest.mark.usefixtures("one_thread")
SAME = 1e-9
"""Relative: the kernel rounds up by a few units, and folds with rounded kernels."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[Case]:
    return every_case(tmp_path_factory.mktemp("cases"))


def lipschitz(cases: list[Case]) -> list[tuple[Case, Nodes, dict, Network]]:
    """Every claim about a network whose file the second checker reads, with both forms of the network."""
    found = []
    for case in cases:
        reading = case.document["file"]["reading"]
        if not case.kind.startswith("lipschitz") or reading["kind"] == "onnx":
            continue
        nodes = (
            networks.of_file(case.file)
            if reading["kind"] == "network"
            else networks.of_arrays(arrays(case), reading)
        )
        network = read_file(case.file, reading).network
        for entry in case.document["claims"]:
            if reading["kind"] == "network" and entry["claim"]["region"] is not None:
                continue  # slopes on a region are compared for chains
            goal = claim_of(entry["claim"]).goal(network)  # type: ignore[union-attr]
            found.append((case, chosen(nodes, entry["claim"]["output"]), entry, goal))
    return found


def arrays(case: Case) -> dict[str, np.ndarray]:
    if case.file.suffix == ".npz":
        return dict(np.load(case.file))
    from scipy.io import loadmat

    return {name: A for name, A in loadmat(case.file).items() if not name.startswith("_")}


def chosen(nodes: Nodes, output: list[int]) -> Nodes:
    if not output:
        return nodes
    row = [Fraction(0)] * length_of(nodes, len(nodes), inputs_of(nodes))
    for k, sign in zip(output, (1, -1), strict=False):
        row[k] = Fraction(sign)
    return followed(nodes, [row])


def region_of(claim: dict) -> dict | None:
    """With rational ends."""
    region = claim["region"]
    if region is None:
        return None
    found = {}
    if "ball" in region:
        found["ball"] = vector(region["ball"]["center"]), Fraction(region["ball"]["radius"])
    if "box" in region:
        found["box"] = vector(region["box"]["lower"]), vector(region["box"]["upper"])
    return found


def of_kernel(nodes: Nodes) -> Network:
    """A chain of matrices and relu for the kernel, from which the slopes of a region come."""
    ops = []
    for node in nodes:
        if node.kind == "linear":
            ops.append(
                Dense(
                    np.array([[float(a) for a in row] for row in node.A]),
                    np.array([float(b) for b in node.b]),
                )
            )
        else:
            ops.append(Activation("relu", len(node.alpha)))
    return chain(ops)


def kernel_region(region: dict) -> Ball | Box | Cut:
    ball = (
        Ball(np.array([float(x) for x in region["ball"][0]]), float(region["ball"][1]))
        if "ball" in region
        else None
    )
    box = Box(*(np.array([float(x) for x in end]) for end in region["box"])) if "box" in region else None
    if ball is not None and box is not None:
        return Cut(ball, box)
    return ball or box  # type: ignore[return-value]


def points_in(region: dict, count: int = 24) -> list[list[Fraction]]:
    """Rational points of a region, corners of its hull among them."""
    rng = np.random.default_rng(0)
    if "box" in region:
        low, high = region["box"]
    else:
        low, high = ([x + sign * region["ball"][1] for x in region["ball"][0]] for sign in (-1, 1))
    found = []
    for _ in range(count):
        shares = [Fraction(float(s)) for s in rng.choice([0.0, 0.25, 0.5, 0.75, 1.0], len(low))]
        x = [a + s * (b - a) for s, a, b in zip(shares, low, high, strict=True)]
        if "ball" in region:
            c, r = region["ball"]
            far = sum((a - b) ** 2 for a, b in zip(x, c, strict=True))
            if far > r * r:
                x = [b + (a - b) * r / root_above(far) for a, b in zip(x, c, strict=True)]
                if "box" in region and any(not a <= v <= b for a, v, b in zip(low, x, high, strict=True)):
                    continue
        found.append(x)
    return found


def local_slopes(
    nodes: Nodes, region: dict, network: Network | None = None, *, centred: bool = False
) -> Nodes:
    """The slopes that the kernel uses on a region, each of which must hold all quotients between points of the region."""
    kernel = local_network(of_kernel(nodes), kernel_region(region)) if network is None else network
    points = [region["ball"][0], *points_in(region)] if centred else points_in(region)
    seen = [networks.values(nodes, x) for x in points]
    found = list(nodes)
    for k, node in enumerate(nodes):
        if node.kind != "slopes":
            continue
        op = kernel.nodes[k].op
        assert isinstance(op, Activation)
        alpha, beta = vector(op.alpha), vector(op.beta)
        for a, row in enumerate(seen[:1] if centred else seen):
            for other in seen[a + 1 :]:
                for i, (x, y) in enumerate(zip(row[k], other[k], strict=True)):
                    if x != y:
                        assert alpha[i] <= (row[k + 1][i] - other[k + 1][i]) / (x - y) <= beta[i]
        found[k] = networks.replace(node, alpha=alpha, beta=beta)
    return found


def test_every_rule_is_replayed(cases):
    used = set().union(*(rules_of(entry["proof"]) for case in cases for entry in case.document["claims"]))
    assert set(RULES) - used <= {"secants"}, (  # that stands in no file
        "a new rule needs an honest certificate in `tests/forge/honest.py`"
    )


def test_both_conclude_the_same(cases):
    for case, nodes, entry, goal in lipschitz(cases):
        bound = conclude(goal, _to_proof(entry["proof"]))
        second = replay(
            nodes, entry["proof"], region_of(entry["claim"]), entry["claim"]["norm"], local_slopes
        )
        assert abs(float(second) / bound - 1) < SAME if bound else second == 0, case.kind
        assert bound <= entry["claim"]["bound"]


def test_what_the_kernel_concludes_from_other_numbers_the_second_does_too(cases):
    rng, accepted, refused = np.random.default_rng(0), 0, 0
    for case, nodes, entry, goal in lipschitz(cases):
        slow = len(entry["proof"].get("data", {}).get("R", ())) > 1 or case.kind.endswith(
            ("images", "network file")
        )
        for _ in range(2 if slow else 8):
            proof = json.loads(json.dumps(entry["proof"]))
            numbers = [(at, v) for at, v in paths(proof) if is_number(v) and not isinstance(v, int)]
            size = 10.0 ** rng.uniform(-14, -1)
            for at, v in (
                numbers
                if rng.random() < 0.5
                else [numbers[int(rng.integers(len(numbers)))]]
                if numbers
                else []
            ):
                put(proof, at, v * (1 + size * float(rng.choice([-1, 1]))))
            try:
                bound = conclude(goal, _to_proof(proof))
            except SdplipError:
                refused += 1
                continue
            accepted += 1
            second = replay(nodes, proof, region_of(entry["claim"]), entry["claim"]["norm"], local_slopes)
            assert float(second) <= bound * (1 + 1e-12), (case.kind, proof)
    assert accepted > 100 < refused


@pytest.mark.parametrize("factor", [1 - 1e-6, 0.99])
def test_both_refuse_the_same(cases, factor):
    """A smaller number in place of the one that closes a proof: kappa, or c."""
    refused = 0
    for case, nodes, entry, goal in lipschitz(cases):
        proof = json.loads(json.dumps(entry["proof"]))
        closing = [(at, v) for at, v in paths(proof) if at[-1] in ("kappa", "c") and isinstance(v, float)]
        for at, v in closing:
            put(proof, at, v * factor)
        if not closing:
            continue
        claim = entry["claim"]
        second = outcome(partial(replay, nodes, proof, region_of(claim), claim["norm"], local_slopes))
        first = outcome(partial(conclude, goal, _to_proof(proof)))
        assert (first is None) == (second is None), (case.kind, proof)
        refused += first is None
    assert refused > 20


def outcome(proves: Callable[[], Any]) -> float | None:
    try:
        return float(proves())
    except (SdplipError, Refused):
        return None


def test_secants_of_a_centre():
    rng = np.random.default_rng(3)
    W = [rng.normal(size=shape) for shape in ((4, 2), (3, 4), (2, 3))]
    b = [rng.normal(size=len(A)) * 0.3 for A in W]
    network = chain(
        [
            Dense(W[0], b[0]),
            Activation("relu", 4),
            Dense(W[1], b[1]),
            Activation("relu", 3),
            Dense(W[2], b[2]),
        ]
    )
    nodes = networks.of_arrays(
        {f"{k}.weight": A for k, A in enumerate(W)} | {f"{k}.bias": v for k, v in enumerate(b)}, {}
    )
    ball = Ball(np.array([0.25, -0.5]), 0.375)
    secant = secant_network(network, ball)
    mine = local_slopes(nodes, {"ball": (vector(ball.center), Fraction(ball.radius))}, secant, centred=True)
    order = sum(
        x != y for node in mine if node.kind == "slopes" for x, y in zip(node.alpha, node.beta, strict=True)
    )
    for kappa in 2.0 ** np.arange(0, 12, 0.5):
        part = {"rule": "joint", "data": {"multipliers": [kappa / 8] * order, "kappa": float(kappa)}}
        try:
            bound = conclude(Goal(network, ball, centred=True), Proof("secants", {}, (_to_proof(part),)))
        except SdplipError:
            with pytest.raises(Refused):
                replay(mine, part)
            continue
        assert abs(float(replay(mine, part)) / bound - 1) < SAME
        break
    else:
        pytest.fail("no kappa was proven")
    center = ball.center + np.zeros((2000, 2))
    moved = center + (d := rng.normal(size=(2000, 2))) / np.linalg.norm(
        d, axis=1, keepdims=True
    ) * rng.uniform(0, ball.radius, (2000, 1))
    steep = np.linalg.norm(network(moved) - network(center), axis=1) / np.linalg.norm(moved - center, axis=1)
    assert steep.max() <= bound


def test_conditions(cases):
    """Upper sides by elimination, lower sides because less would be no upper side."""
    count = 0
    for case in cases:
        for entry in case.document["claims"]:
            claim = entry["claim"]
            if claim["kind"] != "condition":
                continue
            W = case.judge.layer(claim["layer"], False)
            assert W is not None
            A, t = dense_statement(np.asarray(W, np.float64), claim)
            gram, T = times(transposed(A), A), diagonal(t)

            def proves(c: float, T=T, gram=gram) -> bool:
                return semidefinite(plus([[Fraction(c) ** 2 * x for x in row] for row in T], gram, -1))

            assert proves(claim["c"]), case.kind
            sized = claim["geometry"] is None or claim["geometry"]["image_size"] is not None
            assert not (sized and proves(claim["c_lower"] * (1 - 1e-12))), case.kind
            count += 1
    assert count >= 20


def dense_statement(W: np.ndarray, claim: dict) -> tuple[list, list]:
    """The matrix and the scaling of its columns."""
    t, geometry = claim["t"], claim["geometry"]
    if geometry is None:
        return exact(W if claim["form"] == "linear" else W.T), vector(t)
    n = W.ndim - 2
    stride, dilation = axes(geometry["stride"], n), axes(geometry["dilation"], n)
    reach = [d * (k - 1) for d, k in zip(dilation, W.shape[2:], strict=True)]
    size, mode = geometry["image_size"], geometry["padding_mode"]
    lower = [r // 2 for r in reach] if geometry["padding"] is None else list(axes(geometry["padding"], n))
    upper = [r - r // 2 for r in reach] if geometry["padding"] is None else lower
    if size is None:
        size, mode, lower, upper = [4 * s for s in stride], "circular", [0] * n, reach
    M = _padded(W, axes(size, n), stride, lower, upper, mode, dilation, geometry["groups"])
    assert M is not None
    if claim["form"] == "residual":
        M = M.T
    return exact(M), [Fraction(x) for x in np.repeat(t, M.shape[1] // len(t)).tolist()]


def test_accuracy_in_exact_arithmetic(cases):
    count = 0
    for case in cases:
        for entry in case.document["claims"]:
            claim, proof = entry["claim"], entry["proof"]
            if claim["kind"] != "accuracy" or claim["arithmetic"] != "exact" or proof["rule"] == "around":
                continue
            nodes = networks.of_arrays(arrays(case), case.document["file"]["reading"])
            constants, images = margin_constants(nodes, proof), case.judge.images
            for index, prediction, radius in zip(
                claim["index"], claim["prediction"], claim["radius"], strict=True
            ):
                x = images[index].reshape(-1)
                x = x.astype(np.float64) / 255 if x.dtype == np.uint8 else x
                y = networks.values(nodes, vector(x))[-1]
                others = [j for j in range(len(y)) if j != prediction]
                assert all(y[j] < y[prediction] for j in others)
                most = min((y[prediction] - y[j]) / constants[prediction][j] for j in others)
                assert (1 - Fraction(SAME)) * most <= Fraction(radius) <= most
                count += 1
    assert count >= 12


def margin_constants(nodes: Nodes, proof: dict) -> list[list[Fraction]]:
    """Constants of the differences of outputs."""
    m = length_of(nodes, len(nodes), inputs_of(nodes))
    if proof["rule"] == "least":
        every = [margin_constants(nodes, part) for part in proof["parts"]]
        return [[min(found[i][j] for found in every) for j in range(m)] for i in range(m)]
    if proof["rule"] == "pairs":
        parts = iter(proof["parts"])
        found = [[Fraction(0)] * m for _ in range(m)]
        for i in range(m):
            for j in range(i + 1, m):
                found[i][j] = found[j][i] = replay(chosen(nodes, [i, j]), next(parts))
        return found
    cut = proof["data"]["cut"]
    L, U = replay(networks.between(nodes, 0, cut), proof["parts"][0]), nodes[-1].A
    return [[L * root_above(sum((a - b) ** 2 for a, b in zip(u, v, strict=True))) for v in U] for u in U]
