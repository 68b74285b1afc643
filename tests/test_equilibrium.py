"""Networks with implicit layers: known constants, nothing false in rational arithmetic, forged data and bad files prove nothing."""

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest

from sdplip.arithmetic.matrix import Enclosure, enclose
from sdplip.bounds import bound
from sdplip.bounds.classes import margin_constants
from sdplip.errors import InvalidProblem, InvalidWeight, NotProvable, SdplipError
from sdplip.kernel.accuracy import radii
from sdplip.kernel.check import conclude
from sdplip.kernel.evaluate import evaluate
from sdplip.kernel.implicit import solutions
from sdplip.kernel.proof import Goal, Proof
from sdplip.kernel.regions import Ball
from sdplip.kernel.rules import IMPLICIT, RULES
from sdplip.network import Activation, Convolution, Dense, Equilibrium, Network, chain
from sdplip.network.file import read_network, write_network
from sdplip.network.implicit import equilibrium_network, lben_weight, monotone_weight
from sdplip.network.jacobian import derivative
from sdplip.network.read.file import read_file
from sdplip.verifier.document import _to_proof
from tests.commands import answer, failure, invoke
from tests.exact import inertia_signs
from tests.flush import denormals
from tests.forge.honest import implicit_arrays
from tests.forge.worlds import solver
from tests.independent import networks
from tests.independent.replay import conclude as replay

pytestmark = pytest.mark.usefixtures("one_thread")
CLOSE = 1e-6
"""Relative, of an interior-point method beside a known optimum."""


def implicit(W, U, G) -> Network:
    return equilibrium_network(np.atleast_2d(W), np.atleast_2d(U), np.atleast_2d(G))


def mondeq(seed: int = 5, n: int = 8, m: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    A, B = (rng.normal(size=(n, n)) / np.sqrt(n) for _ in range(2))
    return monotone_weight(A, B, m), rng.normal(size=(n, 4)) / 2, rng.normal(size=(3, n)) / np.sqrt(n)


def largest(W, U, G) -> float:
    """The largest Jacobian over all patterns of slopes 0 and 1."""
    eye = np.eye(len(W))
    patterns = map(np.diag, itertools.product((0.0, 1.0), repeat=len(W)))
    return max(float(np.linalg.norm(G @ np.linalg.solve(eye - D @ W, D @ U), 2)) for D in patterns)


@pytest.mark.parametrize(("w", "u", "g"), [(0.5, 1.0, 1.0), (-3.0, 2.0, 1.0), (0.9, 1.0, 2.0)])
def test_one_unit_is_tight(w, u, g):
    exact = abs(g * u) / (1 - w)
    assert exact <= bound(implicit(w, u, g), "equilibrium").bound <= exact * (1 + CLOSE)


@pytest.mark.parametrize("t", [1.0, 5.0, 100.0])
def test_skew_weights_of_any_size_have_the_constant_one(t):
    network = implicit(t * np.array([[0.0, 1.0], [-1.0, 0.0]]), np.eye(2), np.eye(2))
    assert 1.0 <= bound(network, "equilibrium").bound <= 1.0 + CLOSE


def test_mondeq_far_below_its_published_constant():
    """|U| |G| / m = 5.884; the optimum over all multipliers is 2.0968643, the largest Jacobian 2.0172."""
    W, U, G = mondeq()
    found = bound(implicit(W, U, G))
    assert np.linalg.norm(U, 2) * np.linalg.norm(G, 2) / 0.5 == pytest.approx(5.88421, rel=1e-5)
    assert largest(W, U, G) == pytest.approx(2.017215, rel=1e-6)
    assert largest(W, U, G) <= found.bound <= 2.0968643264
    assert 2.0 < found.lower <= found.bound
    assert found.method == "equilibrium"


def test_lben_of_free_parameters():
    rng = np.random.default_rng(3)
    V, S = (rng.normal(size=(7, 7)) for _ in range(2))
    U, G = rng.normal(size=(7, 3)), rng.normal(size=(2, 7))
    W = lben_weight(V, 3 * S, U, G, np.exp(rng.normal(size=7)), 1.5, 1e-3)
    assert largest(W, U, G) <= bound(implicit(W, U, G), "equilibrium").bound <= 1.5 * (1 + CLOSE)


@pytest.mark.parametrize(
    "W",
    [2 * np.eye(2), np.eye(1), np.array([[0.0, 3.0], [3.0, 0.0]]), np.array([[-1.0, 40.0], [0.1, 0.9]])],
)
def test_without_an_equilibrium_nothing_is_proven(W):
    """Also of outputs that do not depend on it: z may not exist."""
    for U, method in ((np.eye(len(W)), "auto"), (np.zeros_like(W), "equilibrium")):
        with pytest.raises(NotProvable, match="equilibri"):
            bound(implicit(W, U, U), method)
    proof = Proof(
        "equilibrium", {"existence": [np.ones(len(W))], "multipliers": np.ones(len(W)), "kappa": 1e9}
    )
    with pytest.raises(NotProvable, match="exactly one equilibrium"):
        conclude(Goal(implicit(W, 0 * W, 0 * W)), proof)


def test_multipliers_that_are_far_from_equal_are_found():
    """Coordinates scaled by up to 2^40: no guess of the closed ones but the Lyapunov solution, or the search, helps."""
    W, U, G = mondeq(7, 6)
    s = np.ldexp(1.0, np.random.default_rng(0).integers(-20, 20, 6))
    exact = bound(implicit(W, U, G), "equilibrium").bound
    found = bound(implicit(s[:, None] * W / s, s[:, None] * U, G / s), "equilibrium").bound
    assert found == pytest.approx(exact, rel=CLOSE)


def test_only_rules_that_know_implicit_layers_speak_of_them():
    network = implicit(*mondeq())
    proof = bound(network, "equilibrium").proof
    for rule in set(RULES) - IMPLICIT:
        with pytest.raises(NotProvable, match="implicit"):
            conclude(Goal(network, Ball(np.zeros(4), 1.0)), Proof(rule, proof.data, (proof,)))


def test_false_statements_are_refused_and_true_ones_hold_in_rational_arithmetic():
    """Existence and inequality with kappa around the least one, and with multipliers that were changed."""
    rng, count, refused = np.random.default_rng(0), 0, 0
    for seed in range(3):
        W, U, G = mondeq(seed, 3)
        network = implicit(W, U[:, :2], G)
        nodes = networks.of_arrays({"W": W, "U": U[:, :2], "G": G}, {"kind": "equilibrium"})
        proof, most = bound(network, "equilibrium", lower=0.0).proof, largest(W, U[:, :2], G)
        for k in range(24):
            data = json.loads(json.dumps({key: np.asarray(v).tolist() for key, v in proof.data.items()}))
            data["kappa"] *= float(rng.choice([1 - 1e-3, 1 - 1e-9, 1.0, 1 + 1e-6]))
            name = ("existence", "multipliers")[k % 2]
            values = np.array(data[name]) * (
                1 + 10.0 ** rng.integers(-14, 1) * rng.uniform(-1, 1, np.shape(data[name]))
            )
            data[name] = values.tolist()
            try:
                value = conclude(Goal(network), Proof("equilibrium", data))
            except NotProvable:
                refused += 1
                continue
            count += 1
            assert value >= most
            assert replay(nodes, {"rule": "equilibrium", "data": data}) <= Fraction(value)
    assert count > 15
    assert refused > 15


@pytest.mark.parametrize(
    "exponents", [(0, 0, 0), (200, -200, 0), (400, 100, -300), (-500, 0, 480), (0, 500, 500), (-530, 0, 0)]
)
def test_extreme_ranges(exponents):
    """Units of hidden neurons, inputs and outputs in powers of two; what is concluded is so in rational arithmetic."""
    hidden, inner, outer = exponents
    a = implicit_arrays()
    s = np.ldexp(1.0, np.array([hidden, 0, -hidden // 2]).clip(-1000, 1000))
    with np.errstate(all="ignore"):
        W, U, G = s[:, None] * a["W"] / s, np.ldexp(s[:, None] * a["U"], inner), np.ldexp(a["G"] / s, outer)
    if not all(np.isfinite(A).all() for A in (W, U, G)):
        return
    network, reading = implicit(W, U, G), {"kind": "equilibrium"}
    nodes, plain = networks.of_arrays({"W": W, "U": U, "G": G}, reading), implicit(a["W"], a["U"], a["G"])
    proof, accepted = bound(plain, "equilibrium", lower=0.0).proof, 0
    with np.errstate(all="ignore"):
        lam = np.ldexp(np.asarray(proof.data["multipliers"]) / s / s, 2 * outer)
        own = [np.asarray(v) / s / s for v in proof.data["existence"]]
        kappa = float(np.ldexp(proof.data["kappa"], 2 * (inner + outer)))
    for factor, flush in itertools.product((0.5, 1 - 1e-9, 1.0, 1 + 1e-9, 4.0), (False, True)):
        data = {"multipliers": lam, "existence": own, "kappa": kappa * factor}
        try:
            with denormals(flush):
                value = conclude(Goal(network), Proof("equilibrium", data))
        except NotProvable:
            continue
        accepted += 1
        listed = {
            "multipliers": lam.tolist(),
            "existence": [v.tolist() for v in own],
            "kappa": kappa * factor,
        }
        assert replay(nodes, {"rule": "equilibrium", "data": listed}) <= Fraction(value) * (
            1 + Fraction(1, 10**9)
        )
    assert accepted or exponents != (0, 0, 0)


def test_values_and_jacobians():
    """Of relu against all patterns, of smooth functions by differences; t = 5, c = (1, 6) by hand."""
    op = Equilibrium(5 * np.array([[0.0, 1.0], [-1.0, 0.0]]))
    assert op.value(np.array([1.0, 6.0])) == pytest.approx([1.19230769, 0.03846154], abs=1e-8)
    W, U, G = mondeq()
    x = 2 * np.random.default_rng(1).normal(size=(20, 8))
    for name in ("relu", "tanh", "sigmoid", "softplus", "leaky_relu"):
        op = Equilibrium(W, name)
        assert op.value(x) == pytest.approx(solver(W, name)(x), abs=1e-6)
    network = implicit(W, U, G)
    points = np.random.default_rng(2).normal(size=(5, 4))
    J, h = derivative(network, points).matrix(), 1e-6
    for k in range(4):
        step = h * np.eye(4)[k]
        slope = (network(points + step) - network(points - step)) / (2 * h)
        assert J[:, :, k] == pytest.approx(slope, abs=1e-7)
    assert np.isnan(Equilibrium(np.array([[3.0]])).value(np.array([1.0]))).all()


def test_proven_values():
    """(31, 1) / 26 by hand lies in its box; boxes are small, hold the solutions of a whole box of inputs, and there is none without a solution."""
    op = Equilibrium(5 * np.array([[0.0, 1.0], [-1.0, 0.0]]))
    box = solutions(op, Enclosure.exact(np.array([[1.0, 6.0]])))
    for value, mid, rad in zip((Fraction(31, 26), Fraction(1, 26)), box.mid[0], box.radius()[0], strict=True):
        assert abs(value - Fraction(float(mid))) <= Fraction(float(rad)) < Fraction(1, 10**12)
    rng = np.random.default_rng(1)
    W, x = mondeq()[0], 2 * rng.normal(size=(6, 8))
    for name in ("relu", "tanh", "sigmoid", "leaky_relu"):
        op = Equilibrium(W, name)
        box = solutions(op, enclose(x, 1e-4))
        assert box.radius().max() < 0.01
        for _ in range(20):
            near = op.value(x + 1e-4 * rng.uniform(-1, 1, size=x.shape))
            assert (abs(near - box.mid) <= box.radius() + 1e-12).all()
    y = np.where(abs(x) < 0.7, 0.0, x)  # arguments of the solution z, many of them at the kink
    z = np.maximum(0, y)
    kink = solutions(Equilibrium(W), Enclosure.exact(y - z @ W.T))
    assert (abs(kink.mid - z) <= kink.radius() + 1e-12).all()  # infinite where the test fails
    none = solutions(Equilibrium(np.array([[3.0]])), Enclosure.exact(np.ones((1, 1))))
    assert np.isinf(none.radius()).all()


def test_certified_radii():
    """Of exact arithmetic: no input within its radius gets another class; a network without a proof of its equilibria has no values."""
    network = implicit(*mondeq())
    proof = Proof("margins", {"cut": network.output}, (bound(network, "equilibrium").proof,))
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 4))
    found = radii(network, x, proof, "exact", conclude)
    assert (found.prediction == network(x).argmax(-1)).all() and (found.radius > 0).all()
    for _ in range(50):
        step = rng.normal(size=x.shape)
        step *= 0.999 * found.radius[:, None] / np.linalg.norm(step, axis=1)[:, None]
        assert (network(x + step).argmax(-1) == found.prediction).all()
    W, U, G = mondeq()
    with pytest.raises(NotProvable):
        radii(implicit(W + 2 * np.eye(8), U, G), x, proof, "exact", conclude)
    with pytest.raises(NotProvable):
        radii(network, x, proof, "float64", conclude)


def test_in_a_larger_network(tmp_path):
    """A convolution in front, relu behind: by parts and jointly; the file gives the same proof."""
    rng = np.random.default_rng(0)
    W, U, G = mondeq(2, 5)
    conv = Convolution(rng.normal(size=(1, 1, 3)) / 2, (4,), (1,), ((1, 1),), (1,))
    network = chain(
        [
            conv,
            Activation("relu", 4),
            Dense(U),
            Equilibrium(W, "tanh"),
            Dense(G),
            Activation("relu", 3),
            Dense(rng.normal(size=(2, 3))),
        ]
    )
    joint, product = bound(network, "equilibrium"), bound(network, "product")
    assert joint.lower <= joint.bound <= product.bound * (1 + CLOSE)
    write_network(tmp_path / "net.safetensors", network)
    again = read_network(tmp_path / "net.safetensors")
    for found in (joint, product, bound(again, output_norm="linf"), bound(again, output_pair=(0, 1))):
        assert conclude(Goal(found.goal.network, None, found.goal.norm), found.proof) == found.bound
    M = margin_constants(network, "auto").values
    assert M[0, 1] <= joint.bound * 2**0.5 * (1 + CLOSE)


def test_what_is_not_known_of_implicit_layers_is_refused_in_a_sentence():
    network = implicit(*mondeq())
    with pytest.raises(NotProvable, match="without the region"):
        bound(network, region=Ball(np.zeros(4), 1.0))
    with pytest.raises(InvalidProblem, match="implicit layer"):
        bound(network, "riccati")
    with pytest.raises(NotProvable, match="values"):
        evaluate(network, np.zeros((1, 4)))
    with pytest.raises(InvalidProblem, match="no implicit layer"):
        bound(chain([Dense(np.eye(2)), Activation("relu", 2), Dense(np.eye(2))]), "equilibrium")


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"W": np.ones((2, 3))}, "square|needs W"),
        ({"U": np.ones((3, 2))}, "needs W"),
        ({"G": np.ones(8)}, "needs W"),
        ({"D": np.ones((3, 3))}, "needs W"),
        ({"b": np.ones(3)}, "8"),
        ({"W": np.full((8, 8), np.nan)}, "finite"),
        ({"W": np.array([["a"] * 8] * 8)}, "real numbers"),
    ],
)
def test_files_that_do_not_fit(changed, match, tmp_path):
    W, U, G = mondeq()
    np.savez(tmp_path / "bad.npz", **{"W": W, "U": U, "G": G, **changed})
    with pytest.raises(SdplipError, match=match):
        read_file(tmp_path / "bad.npz", {"kind": "equilibrium"})


def test_state_dicts_of_the_published_network(tmp_path):
    """By the names of their arrays, with the m of its script; other networks of that library are refused."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 6, 6)) / 6**0.5
    U, G, b, d = rng.normal(size=(6, 4)), rng.normal(size=(3, 6)), rng.normal(size=6), rng.normal(size=3)
    arrays = {"Wout.weight": G, "Wout.bias": d, "mon.linear_module.U.bias": b}
    arrays |= {f"mon.linear_module.{name}.weight": C for name, C in zip("UAB", (U, A, B), strict=True)}
    path = tmp_path / "mon.pth"
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)
    found = read_file(path)
    own = equilibrium_network(0.9 * np.eye(6) - A.T @ A + B - B.T, U, G, b=b, b_y=d)
    x = rng.normal(size=(5, 4))
    np.testing.assert_allclose(found.network(x), own(x), atol=1e-9)
    assert "m = 0.1" in found.sentences[0] and bound(found.network).bound >= bound(found.network).lower > 0
    out = tmp_path / "proof.json"
    assert invoke("bound", path, "--certificate", out)[0] == 0 and invoke("verify", out, path)[0] == 0
    for name, wrong in (("A.weight", A[:, :, None, None]), ("B.weight", B[:5]), ("h", np.ones(()))):
        np.savez(tmp_path / "other.npz", **{**arrays, f"mon.linear_module.{name}": wrong})
        with pytest.raises(InvalidWeight, match="monDEQ"):
            read_file(tmp_path / "other.npz")


def test_activations_that_do_not_fit(tmp_path):
    W, U, G = mondeq()
    np.savez(tmp_path / "net.npz", W=W, U=U, G=G)
    for name, match in (("gelu", "slopes in"), ("maxmin", "elementwise"), ("nothing", "no activation")):
        with pytest.raises(InvalidWeight, match=match):
            read_file(tmp_path / "net.npz", {"kind": "equilibrium", "activation": name})
    with pytest.raises(InvalidWeight, match="name"):
        Equilibrium(np.eye(2) / 2, "")


def test_command_line(tmp_path):
    """File, bound, certificate, and the verifier of NumPy alone."""
    from sdplip.verifier.verify import verify

    W, U, G = mondeq()
    file, proof = tmp_path / "deq.npz", tmp_path / "deq.json"
    np.savez(file, W=W, U=U, G=G, b=np.ones(8), b_y=np.ones(3), D=np.zeros((3, 4)))
    _, found = answer(invoke, "bound", file, "--certificate", proof)
    assert found["bound"] == pytest.approx(2.0968643, rel=1e-7)
    assert any("equilibrium network" in sentence for sentence in found["assumed"])
    assert verify(proof, file).proven
    document = json.loads(proof.read_text())
    assert {"equilibrium"} == {entry["proof"]["rule"] for entry in document["claims"]}
    assert _to_proof(document["claims"][0]["proof"]).rule == "equilibrium"
    W[0, 0] += 3.0
    np.savez(file, W=W, U=U, G=G)
    assert "equilibrium exists" in failure(invoke, "bound", file)[1]["error"]
    assert "--activation" in invoke("bound", file, "--transpose")[2]


def test_rational_judge_of_the_existence():
    """The judge of these tests refuses what has no equilibrium."""
    assert not inertia_signs([[Fraction(2 - 2 * 2)]])[1]
    assert inertia_signs([[Fraction(1)]])[1]
