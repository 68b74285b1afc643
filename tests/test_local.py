"""Radii from constants of balls: never below those of all inputs, never broken; what cannot be followed is refused by name."""

import functools
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn import MaxMin, Normalise
from sdplip.robustness import offsets
from sdplip.robustness.arithmetic import network_in
from sdplip.robustness.around import BALLS
from sdplip.robustness.attacks import pgd
from sdplip.robustness.certification import certify_accuracy
from sdplip.robustness.local import local_radii
from sdplip.robustness.tighten import tighten
from tests.commands import answer, invoke
from tests.trained import digits

KINDS = {"relu": nn.ReLU, "maxmin": MaxMin, "tanh": nn.Tanh}
N = 6


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
    known = certify_accuracy(trained(kind), images[:20], labels[:20], precision=precision)
    return local_radii(trained(kind), images[:N], labels[:N], known, bent=0)


@pytest.mark.parametrize(("kind", "precision"), [*((kind, "float64") for kind in KINDS), ("relu", "float32")])
def test_no_radius_falls_and_most_grow(kind, precision):
    result = found(kind, precision)
    before, after = result.before, result.after
    assert before.n == after.n == N and (after.radius >= before.radius).all()
    assert (after.prediction == before.prediction).all() and after.precision == precision
    sure = before.correct & (before.radius > 0)
    assert (after.radius[~sure] == before.radius[~sure]).all()
    assert result.gain > 1.2 and 0 < result.balls <= (BALLS + offsets.BALLS) * N
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
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3)).double().eval()
    with torch.no_grad():
        for layer, W, b in ((model[1], W1, 10.0), (model[3], W2, 0.0)):
            layer.weight.copy_(torch.from_numpy(W))
            layer.bias.fill_(b)
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
    monkeypatch.setattr("sdplip.robustness.local.own_proof", None)
    assert (
        local_radii(trained("relu"), images[:3], labels[:3], known, bent=-1).after.radius
        == plain.after.radius
    ).all()


def test_the_example_runs():
    found = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "local_radii.py"))
    (images, labels), (others, truth) = digits()
    model = found["train"](images[:300], labels[:300], 8, 6)
    rows = found["measure"](model, others[:4], truth[:4])
    means = [certified.mean_radius for _, certified, _ in rows]
    assert means == sorted(means) and [name for name, *_ in rows][-1] == "around each image"


def test_refusals():
    _, (images, labels) = digits()
    known = found("relu").after
    with pytest.raises(InvalidProblem, match="not those"):
        local_radii(trained("relu"), images[1 : N // 2], labels[1 : N // 2], known)
    with pytest.raises(InvalidProblem, match=f"only {N}"):
        local_radii(trained("relu"), images[:30], labels[:30], known)
    few = replace(
        known, **{name: vars(known)[name][:2] for name in ("label", "prediction", "margin", "radius")}
    )
    odd = nn.Sequential(nn.Flatten(), nn.Bilinear(64, 64, 4), nn.Linear(4, 10))
    with pytest.raises((RefusedModule, TypeError)):
        local_radii(odd, images[:2], labels[:2], few)


@pytest.mark.parametrize("between", [nn.GELU, nn.SELU, nn.Hardswish])
def test_other_activations_are_followed_too(between):
    _, (images, labels) = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), between(), nn.Linear(8, 10)).eval()
    labels = model(images[:4] / 255).argmax(-1)
    known = certify_accuracy(model, images[:4], labels, scope="exact")
    result = local_radii(model, images[:4], labels, known, bent=0)
    assert (result.after.radius >= result.before.radius).all() and result.gain > 1.01


def test_too_many_neurons_are_refused(monkeypatch):
    _, (images, labels) = digits()
    monkeypatch.setattr("sdplip.robustness.local.NEURONS", 10)
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
    assert answer(invoke, *asked)[1]["local"] is None


def test_command_refuses_before_the_solve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("net.npz", a=rng.normal(size=(4, 64)), b=rng.normal(size=(10, 4)))
    monkeypatch.setattr("sdplip.robustness.around.NEURONS", 3)
    code, text, _ = invoke("tighten", "net.npz", "--data", "digits", "--limit", 2, "--local", 2, "--no-pairs")
    assert code == 0 and "around each image" in text  # by offsets alone
    monkeypatch.setattr("sdplip.robustness.tighten.tighten_graph", None)
    monkeypatch.setattr("sdplip.kernel.spread.walk._unfit", lambda *_: "Nothing is known of it.")
    code, out, err = invoke("tighten", "net.npz", "--data", "digits", "--limit", 4, "--local", 4)
    assert code == 2 and not out and "4 nonlinear neurons" in err and "Traceback" not in err


def test_certificates_of_radii(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    Ws = [rng.normal(size=(m, n)).astype(np.float32) / 8 for n, m in ((64, 8), (8, 10))]
    for name, last in (("net", 0.0), ("other", 1.0)):
        shifts = {"b0": np.ones(8, np.float32), "b1": np.full(10, last, np.float32)}
        np.savez(f"{name}.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, **shifts)
    asked = ["tighten", "net.npz", "--data", "digits", "--limit", 12, "--no-pairs", "--method", "product"]
    code, text, _ = invoke(*asked, "--local", 12, "--certificate", "r.json")
    assert code == 0 and "sdplip verify r.json net.npz r.images.npz" in text and "any pass in float64" in text
    code, text, _ = invoke("verify", "r.json", "net.npz", "r.images.npz")
    assert code == 0 and "12 images" in text
    assert invoke("verify", "r.json", "other.npz", "r.images.npz")[0] == 1
    local = json.loads((tmp_path / "r.json").read_text())["claims"][0]["claim"]
    assert invoke(*asked, "--certificate", "r.json")[0] == 0  # of the constants of all inputs
    assert answer(invoke, "verify", "r.json", "net.npz", "r.images.npz")[1]["proven"]
    plain = json.loads((tmp_path / "r.json").read_text())["claims"][0]["claim"]
    assert plain["prediction"] == local["prediction"] and plain["index"] == local["index"]
    assert (np.array(plain["radius"]) <= local["radius"]).all() and plain["radius"] != local["radius"]
