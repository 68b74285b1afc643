"""Radii from constants of balls: never below those of all inputs, never broken; what cannot be followed is refused by name."""

import functools
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.networks import from_weights
from sdplip.nn import MaxMin, Normalise
from sdplip.robustness.arithmetic import network_in
from sdplip.robustness.attacks import pgd
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.from_network import module_of
from sdplip.robustness.local import BALLS, largest_radius, local_radii, refined_radius
from sdplip.robustness.tighten import tighten
from tests.commands import answer, invoke
from tests.trained import digits

KINDS = {"relu": nn.ReLU, "maxmin": MaxMin, "tanh": nn.Tanh}
N = 25


@functools.cache
def trained(kind):
    """A plain network, without any constraint on its weights."""
    (images, labels), _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        between = KINDS[kind]
        layers = [nn.Linear(64, 16), between(), nn.Linear(16, 16), between(), nn.Linear(16, 10)]
        model = nn.Sequential(Normalise([0.3]), nn.Flatten(), *layers)
        optimiser = torch.optim.Adam(model.parameters(), 5e-3)
        for _ in range(150):
            at = torch.randint(len(images), (128,))
            loss = nn.functional.cross_entropy(model(images[at] / 255), labels[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@functools.cache
def found(kind, precision="float64"):
    _, (images, labels) = digits()
    known = certify_accuracy(trained(kind), images[:40], labels[:40], precision=precision)
    return local_radii(trained(kind), images[:N], labels[:N], known, bent=0)


@pytest.mark.parametrize(("kind", "precision"), [*((kind, "float64") for kind in KINDS), ("relu", "float32")])
def test_no_radius_falls_and_most_grow(kind, precision):
    result = found(kind, precision)
    before, after = result.before, result.after
    assert before.n == after.n == N and (after.radius >= before.radius).all()
    assert (after.prediction == before.prediction).all() and after.precision == precision
    sure = before.correct & (before.radius > 0)
    assert (after.radius[~sure] == before.radius[~sure]).all()
    assert result.gain > 1.2 and 0 < result.balls <= BALLS * N
    assert after.rounding == before.rounding == ("float64" if kind == "tanh" else "proven")


@pytest.mark.parametrize(("kind", "precision"), [*((kind, "float64") for kind in KINDS), ("relu", "float32")])
def test_attacks_do_not_break_a_local_radius(kind, precision):
    _, (images, labels) = digits()
    after = found(kind, precision).after
    model, sure = network_in(trained(kind), precision), after.correct & (after.radius > 0)
    dtype = torch.float64 if precision == "float64" else torch.float32
    x, y = images[:N][sure].to(dtype) / 255, labels[:N][sure]
    radius = torch.from_numpy(after.radius[sure])
    moved = pgd(steps=20, restarts=2)(model, x, y, 0.99999 * radius)
    assert bool((model(moved).argmax(-1) == y).all())
    farther = pgd(steps=20, restarts=1)(model, x, y, 6 * radius)
    assert not bool((model(farther).argmax(-1) == y).all()), "the attack is able to break something"


def test_radii_are_those_of_margins_over_constants():
    """Far from every kink a ReLU network is linear, and its radius is the margin over the gradient's length."""
    W1, W2 = np.diag([2.0, 1]), np.array([[3.0, 0], [0, 4], [0, 0]])
    model = module_of(from_weights([W1, W2], "relu", [np.full(2, 10.0), np.zeros(3)]))
    images, labels = torch.zeros(1, 1, 1, 2, dtype=torch.float64), torch.tensor([1])
    before = certify_accuracy(model, images, labels)
    after = local_radii(model, images, labels, before).after
    assert before.radius[0] == pytest.approx(1, rel=0.01)  # 40 - 30 over 2 times |(-3, 4)|
    assert after.radius[0] == pytest.approx(10 / 52**0.5, rel=0.01)  # 10 - 6 x1 + 4 x2


def test_constants_of_pairs_come_first():
    _, (images, labels) = digits()
    known = tighten(trained("maxmin"), images[:3], labels[:3], pairs=False).after
    after = local_radii(trained("maxmin"), images[:3], labels[:3], known).after
    assert (after.radius >= known.radius).all() and after.mean_radius >= known.mean_radius


def test_scopes_differ_by_their_rounding():
    _, (images, labels) = digits()
    known = certify_accuracy(trained("relu"), images[:2], labels[:2], precision="float32", scope="exact")
    exact = local_radii(trained("relu"), images[:2], labels[:2], known).after
    assert exact.scope == "exact"
    assert (exact.radius >= found("relu", "float32").after.radius[:2] * (1 - 0.01)).all()


@pytest.mark.parametrize("kind", ["relu", "maxmin"])
def test_multipliers_of_pairs_make_radii_larger_still(kind):
    _, (images, labels) = digits()
    known = certify_accuracy(trained(kind), images[:3], labels[:3])
    plain, refined = (
        local_radii(trained(kind), images[:3], labels[:3], known, bent=bent).after for bent in (0, 128)
    )
    assert (refined.radius >= plain.radius * (1 - 1e-12)).all()
    assert refined.mean_radius > 1.01 * plain.mean_radius


def test_refinement_stops_where_too_many_neurons_bend(monkeypatch):
    _, (images, labels) = digits()
    known = certify_accuracy(trained("relu"), images[:3], labels[:3])
    plain = local_radii(trained("relu"), images[:3], labels[:3], known, bent=0)
    monkeypatch.setattr("sdplip.robustness.local.own_constant", None)
    assert (
        local_radii(trained("relu"), images[:3], labels[:3], known, bent=-1).after.radius
        == plain.after.radius
    ).all()


def test_refined_search_goes_up_and_never_down():
    best, tried = refined_radius(lambda R: 2 / (1 + R), 0.9)
    assert 0.98 <= best <= 1 + 1e-12 and tried <= BALLS
    assert refined_radius(lambda _: 0.0, 0.5) == (0.5, 1)
    assert refined_radius(lambda _: np.nan, 0.5)[0] == 0.5
    assert refined_radius(lambda _: np.inf, 1.0)[0] > 1


def test_the_example_runs():
    found = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "local_radii.py"))
    (images, labels), (others, truth) = digits()
    model = found["train"](images[:300], labels[:300], 8, 6)
    rows = found["measure"](model, others[:4], truth[:4])
    means = [certified.mean_radius for _, certified, _ in rows]
    assert means == sorted(means) and [name for name, *_ in rows][-1] == "around each image"


@pytest.mark.parametrize("start", [1e-3, 0.3, 0.999])
@pytest.mark.parametrize("shape", ["falling", "flat", "steep"])
def test_the_search_finds_where_ball_and_radius_are_equal(start, shape):
    value = {
        "falling": lambda R: 2 / (1 + R),
        "flat": lambda R: 1.0 + 0 * R,
        "steep": lambda R: 1.0 if R <= 1 else 1 / (1 + 20 * (R - 1)),
    }[shape]
    best, tried = largest_radius(value, start)
    assert start <= best <= 1 + 1e-12 and tried <= BALLS
    assert best >= 0.97


def test_a_search_without_success_keeps_the_start():
    assert largest_radius(lambda R: 0.0 * R, 0.5) == (0.5, 1)
    assert largest_radius(lambda _: np.inf, 1.0)[0] <= 2.0**20
    assert largest_radius(lambda _: np.nan, 0.5)[0] == 0.5


def test_refusals():
    _, (images, labels) = digits()
    known = found("relu").after
    with pytest.raises(InvalidProblem, match="not those"):
        local_radii(trained("relu"), images[1:9], labels[1:9], known)
    with pytest.raises(InvalidProblem, match="only 25"):
        local_radii(trained("relu"), images[:30], labels[:30], known)
    gelu = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.GELU(), nn.Linear(4, 10))
    few = replace(
        known, **{name: vars(known)[name][:2] for name in ("label", "prediction", "margin", "radius")}
    )
    with pytest.raises(RefusedModule, match="'gelu'"):
        local_radii(gelu, images[:2], labels[:2], few)
    with pytest.raises(RefusedModule, match="SELU"):
        local_radii(nn.Sequential(nn.Flatten(), nn.SELU(), nn.Linear(64, 10)), images[:2], labels[:2], few)


def test_too_many_neurons_are_refused(monkeypatch):
    _, (images, labels) = digits()
    monkeypatch.setattr("sdplip.robustness.local.SYSTEM_ORDER", 10)
    with pytest.raises(InvalidProblem, match="32 nonlinear neurons"):
        local_radii(trained("relu"), images[:2], labels[:2], found("relu").after)


# ---------------------------------------------------------------------------------------------------- command


def test_command_on_a_weight_file(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # no heading of the table is wrapped
    monkeypatch.chdir(tmp_path)
    linear = [layer for layer in trained("relu") if isinstance(layer, nn.Linear)]
    arrays = {f"w{i}": layer.weight.detach().numpy() for i, layer in enumerate(linear)}
    arrays |= {f"b{i}": layer.bias.detach().numpy() for i, layer in enumerate(linear)}
    np.savez("net.npz", **arrays)
    asked = ["tighten", "net.npz", "--data", "digits", "--limit", 3, "--no-pairs", "--method", "product"]
    code, out = answer(invoke, *asked, "--local", 2, "--plot", "curves.png", "--radii", "36/255")
    near = out["local"]
    assert code == 0 and (tmp_path / "curves.png").stat().st_size > 1000
    assert near["n"] == 2 and list(near["after"]["certified"]) == ["36/255"] and near["gain"] > 1
    assert near["after"]["mean_radius"] > near["before"]["mean_radius"]
    code, text, _ = invoke(*asked, "--local", 1)
    assert code == 0 and "around each image, first 1" in text
    asked[asked.index("--limit") + 1] = 1
    code, text, _ = invoke(*asked, "--local", 50)
    assert code == 0 and "around each image" in text and "first" not in text
    assert "local" not in answer(invoke, *asked)[1]


def test_command_refuses_before_the_solve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(64, 4)), "b": rng.normal(size=(4, 10))}
    steps = [("MatMul", ["x", "a"], "h"), ("Clip", ["h", "zero", "six"], "g"), ("MatMul", ["g", "b"], "y")]
    constants = [onnx.numpy_helper.from_array(np.array(v), n) for n, v in (("zero", 0.0), ("six", 6.0))]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, names, [out]) for kind, names, out in steps],
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [1, 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)],
        [*(onnx.numpy_helper.from_array(v, n) for n, v in arrays.items()), *constants],
    )
    onnx.save(onnx.helper.make_model(graph), "net.onnx")
    monkeypatch.setattr("sdplip.robustness.tighten.tighten", None)
    code, out, err = invoke("tighten", "net.onnx", "--data", "digits", "--limit", 4, "--local", 4)
    assert code == 2 and not out and "Traceback" not in err
