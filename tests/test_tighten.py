"""Tightening never lowers a radius, and what it proves stands every attack; loaders give the network that runs."""

import functools
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds.choose import bound
from sdplip.bounds.classes import attained, margin_constants, own_bound
from sdplip.bounds.common import Common
from sdplip.errors import RefusedModule
from sdplip.kernel.accuracy import margin_constants as concluded
from sdplip.kernel.check import conclude
from sdplip.network import Activation as Between
from sdplip.network import Dense, chain
from sdplip.network.jacobian import derivative
from sdplip.network.read.torch import read_module
from sdplip.nn import LastLayerNormalised, MaxMin, Normalise, export_plain, rescaled
from sdplip.nn.models import Plan, orthogonal_network, residual_network
from sdplip.robustness.arithmetic import network_in
from sdplip.robustness.attacks import attack_at, pgd
from sdplip.robustness.local import local_radii
from sdplip.robustness.tighten import tighten, tighten_graph
from sdplip.verifier.claim import chosen
from tests.commands import answer, invoke
from tests.trained import digits

DENSE = Plan(0, 2, 1, 1, 16, 1, (1, 8, 8))
SHAPE = (1, 8, 8)
KINDS = ("sll", "orthogonal", "relu", "maxmin")


def net_of(*Ws):
    """A chain of matrices with ReLU between them."""
    ops = [op for W in Ws for op in (Dense(W), Between("relu", len(W)))]
    return chain(ops[:-1])


def network(kind):
    if kind == "sll":
        return residual_network(DENSE, "sll", mean=[0.3])
    if kind == "orthogonal":
        return orthogonal_network(DENSE)
    between = {"relu": nn.ReLU, "maxmin": MaxMin}[kind]
    layers = [layer for n in (64, 12) for layer in (rescaled(nn.Linear(n, 12), "aol"), between())]
    return nn.Sequential(Normalise([0.3]), nn.Flatten(), *layers, LastLayerNormalised(12, 10))


@functools.cache
def trained(kind):
    (images, labels), _ = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = network(kind)
        optimiser = torch.optim.Adam(model.parameters(), 2e-2)
        for _ in range(60):
            at = torch.randint(len(images), (128,))
            loss = nn.functional.cross_entropy(8 * model(images[at] / 255), labels[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@functools.cache
def own_constants(kind):
    return margin_constants(read_module(network_in(trained(kind), "float64"), SHAPE))


@functools.cache
def tightened(kind):
    _, (images, labels) = digits()
    return tighten(trained(kind), images[:60], labels[:60])


@pytest.mark.parametrize("kind", KINDS)
def test_no_constant_grows_and_no_radius_falls(kind):
    found = tightened(kind)
    before, after = found.before, found.after
    assert (after.constants <= before.constants).all() and (after.radius >= before.radius).all()
    assert after.bound.value <= before.bound.value and after.mean_radius >= before.mean_radius
    assert (after.prediction == before.prediction).all() and after.rounding == before.rounding == "proven"
    assert found.gain >= 1
    if kind in ("relu", "maxmin"):
        assert found.gain > 1.02 and after.mean_radius > before.mean_radius
    if kind == "sll":  # all units off: the layers are the identity, and the head is what is left
        assert not found.helped and found.constants.whole is None and found.constants.hopeless == 45


@pytest.mark.parametrize("kind", ["relu", "maxmin"])
def test_attacks_do_not_break_a_tightened_certificate(kind):
    _, (images, labels) = digits()
    found = tightened(kind)
    radii = ("36/255", "108/255", "0.8")
    left = attack_at(
        trained(kind), images[:60], labels[:60], found.after, radii, attack=pgd(steps=15, restarts=1)
    )
    for eps in radii:
        assert found.before.certified(eps) <= found.after.certified(eps) <= left[eps]
    model, sure = network_in(trained(kind), "float64"), found.after.correct & (found.after.radius > 0)
    x, y = images[:60][sure].double() / 255, labels[:60][sure]
    moved = pgd(steps=15, restarts=1)(model, x, y, torch.from_numpy(0.999999 * found.after.radius[sure]))
    assert bool((model(moved).argmax(-1) == y).all()), "just below each image's own radius"


@pytest.mark.parametrize("kind", ["relu", "maxmin"])
def test_constants_are_above_jacobians_and_attained_below_constants(kind):
    model = network_in(trained(kind), "float64")
    plain = read_module(model, SHAPE)
    rng = np.random.default_rng(0)
    values = tightened(kind).after.constants
    for _ in range(20):
        J = derivative(plain, rng.uniform(size=64)).matrix()
        rows = J[:, None] - J[None]
        assert (np.linalg.norm(rows, axis=2) <= values + 1e-12).all()
    whole, pairs = attained(plain)
    own = own_constants(kind).values
    assert (pairs <= own * (1 + 1e-9)).all() and whole <= bound(plain).value * (1 + 1e-9)


def test_shared_multipliers_prove_more_than_own_and_less_than_all_at_once():
    plain = read_module(network_in(trained("relu"), "float64"), SHAPE)
    own = own_constants("relu")
    shared = margin_constants(plain, pair_seconds=0.0)
    assert shared.pairs == "shared multipliers" and shared.own == 0
    at_once = margin_constants(plain, pairs=False)
    assert (own.values <= shared.values * (1 + 1e-4)).all() and (shared.values <= at_once.values).all()
    assert shared.values.sum() < 0.99 * at_once.values.sum()


@functools.cache
def some_net():
    rng = np.random.default_rng(0)
    return net_of(rng.normal(size=(6, 9)) / 2, rng.normal(size=(6, 6)) / 2, rng.normal(size=(4, 6)) / 2)


@pytest.mark.parametrize("method", ["auto", "product", "riccati", "lipsdp-neuron", "pairs"])
@pytest.mark.parametrize("budget", [0.0, 20.0])
def test_no_constant_is_above_what_any_method_proves(method, budget):
    """Of all outputs, of what is in front of the head, with the multipliers of either, known before, of the pair by itself."""
    network = some_net()
    known = np.full((4, 4), 1e9)
    known[0, 1] = known[1, 0] = 1e-3  # as if it were proven
    found = margin_constants(network, method, known=known, seconds=20.0, pair_seconds=budget)
    assert found.whole is not None and found.front is not None and found.values[0, 1] == 1e-3
    both = [b for b in (found.whole, found.front) if method != "pairs"]  # "auto" may have ended with pairs
    singles = [bound(b.goal.network, "lipsdp-neuron") if b.method == "pairs" else b for b in both]
    common = [one for b in singles if (one := Common.of(network, b)) is not None]
    assert bool(common) == (method in ("auto", "riccati", "lipsdp-neuron"))
    U = network.nodes[-1].op.W
    proven = concluded(network, found.proof(), conclude)
    for i, j in combinations(range(4), 2):
        most = min(2**0.5 * found.whole.bound, np.linalg.norm(U[i] - U[j]) * found.front.bound)
        each = [most, *(one.proven((i, j), np.inf).bound for one in common)]
        if budget and method not in ("product", "pairs"):
            each.append(own_bound(chosen(network, (i, j)), method).bound)
        assert found.values[i, j] <= min(each) * (1 + 1e-12), "rounding of the products above"
        assert (i, j) == (0, 1) or found.values[i, j] == proven[i, j]
        J = derivative(network, np.linspace(-1, 1, 9)).matrix()
        assert np.linalg.norm(J[i] - J[j]) <= proven[i, j]
    assert (found.own > 0) == (budget > 0 and method != "product")


def test_rows_of_the_head_that_are_close_have_a_small_constant():
    """f(x) = U relu(x) with rows 0.1 apart: 0.1 from the identity in front, where all outputs at once say sqrt(2) |U|."""
    U = np.array([[1.0, 0.0], [0.9, 0.0]])
    found = margin_constants(net_of(np.eye(2), U), "product", pairs=False)
    assert found.values[0, 1] == pytest.approx(0.1, rel=1e-12) and found.pairs == "front"
    assert found.front.bound == pytest.approx(1.0, rel=1e-12) and found.whole.bound > 1.3


@pytest.mark.parametrize("kind", [*KINDS, "images"])
@pytest.mark.parametrize("plain", [False, True])
def test_loaded_network_is_the_one_that_runs(kind, plain):
    torch.manual_seed(1)
    tiny = Plan(1, 1, 3, 2, 8, 2, (1, 4, 4))
    shape = (1, 4, 4) if kind == "images" else SHAPE
    model = network_in(
        residual_network(tiny, "aol", mean=[0.3]) if kind == "images" else trained(kind), "float64"
    )
    if plain:
        if kind == "images":
            pytest.skip("plain transposed convolutions are not read")
        model = export_plain(model).model
    x = torch.rand(5, *shape, dtype=torch.float64)
    read = read_module(model, shape)
    with torch.no_grad():
        y = model(x).numpy()
    for k in range(5):
        computed = read(x[k].flatten().numpy())
        np.testing.assert_allclose(computed, y[k], atol=1e-13)  # sums of at most 64 terms of order one


class Square(nn.Module):
    """No constant holds for all inputs."""

    def forward(self, x):
        return x * x


def test_what_has_no_constant_is_refused():
    _, (images, labels) = digits()
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Square()).eval()
    with pytest.raises(RefusedModule):
        tighten(model, images[:5], labels[:5])


def test_two_outputs_by_hand():
    """f(x) = (relu(x), relu(x)): slopes d and e of the margin differ by at most 1, where the product of norms says 2."""
    plain = net_of(np.ones((2, 1)), np.eye(2))
    found = margin_constants(plain)
    assert found.whole is not None and 1 <= found.values[0, 1] < 1 + 1e-4


def test_greedy_lies_between_closed_forms_and_lipsdp():
    rng = np.random.default_rng(0)
    net = net_of(*(rng.normal(size=shape) for shape in ((6, 4), (7, 6), (5, 7), (3, 5))))
    greedy = bound(net, "riccati-greedy")
    assert greedy.method == "riccati-greedy" and greedy.lower <= greedy.value
    assert bound(net, "lipsdp-neuron").value <= greedy.value * (1 + 1e-6)
    assert (
        greedy.value <= bound(net, "riccati").value * 1.02
    )  # not a law beyond two layers; two: it is LipSDP
    two = net_of(*(rng.normal(size=shape) for shape in ((6, 4), (3, 6))))
    assert bound(two, "riccati-greedy").value <= bound(two, "lipsdp-neuron").value * (1 + 1e-4)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder with an untrained dense network."""
    from sdplip.training.build import build_model
    from sdplip.training.config import RunConfig, write_config
    from sdplip.training.data import load
    from sdplip.training.run import save_model

    config = RunConfig()
    model = replace(config.model, convolutions=0, width=1, pool=1, dense=1, hidden=8)
    config = replace(config, model=model)
    data = load(config.data)
    torch.manual_seed(0)
    network = build_model(config.model, image_shape=data.train.shape, classes=10, mean=(0.3,))
    (tmp_path / "RUN").mkdir()
    write_config(config, tmp_path / "RUN" / "config.toml")
    save_model(tmp_path / "RUN", network.state_dict(), data)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "RUN"


def test_command(run):
    code, out = answer(invoke, "tighten", "RUN", "--limit", 20, "--plot", "curves.png", "--radii", "36/255")
    assert code == 0 and list(out["before"]["certified"]) == ["36/255"] and out["n"] == 20
    assert out["after"]["mean_radius"] >= out["before"]["mean_radius"] and not out["helped"]
    assert (run.parent / "curves.png").stat().st_size > 1000
    code, text, _ = invoke("tighten", "RUN", "--limit", 20, "--no-pairs")
    assert code == 0 and "Nothing to gain" in text and "mean radius" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run or file"),
        (["RUN", "--local", "0"], "--local"),
        (["RUN", "--method", "x"], "--method"),
        (["RUN", "--plot", "x.txt"], "must end"),
    ],
)
def test_bad_input(run, arguments, message):  # noqa: ARG001
    code, out, err = invoke("tighten", *arguments)
    assert code == 2 and message in err and not out and "Traceback" not in err


def test_interrupted(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdplip.robustness.tighten.tighten", interrupted)
    code, _, err = invoke("tighten", "RUN", "--plot", "x.png")
    assert code == 130 and "Interrupted" in err and not (run.parent / "x.png").exists()


def test_help_loads_no_torch():
    script = "import sys, sdplip.cli\nsys.exit(bool({'torch', 'cvxpy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_one_logit_is_tightened_as_the_two_logits_that_it_means(precision):
    torch.manual_seed(0)
    front = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU()]
    one, two = nn.Sequential(*front, nn.Linear(8, 1)), nn.Sequential(*front, nn.Linear(8, 2))
    with torch.no_grad():
        for name, tensor in two[-1].named_parameters():
            tensor[0], tensor[1] = 0.0, getattr(one[-1], name)[0]
    x = torch.rand(2, 3)
    labels = (one(x)[:, 0] > 0).long()
    found = [tighten(model, x, labels, "lipsdp-neuron", precision=precision) for model in (one, two)]
    near = [local_radii(model, x, labels, f.after) for model, f in zip((one, two), found, strict=True)]
    for a, b in ((found[0].after, found[1].after), (near[0].after, near[1].after)):
        assert (a.radius > 0).all()
        np.testing.assert_allclose(a.radius, b.radius, rtol=1e-4)
    assert found[0].gain > 1.5 and near[0].after.mean_radius > found[0].after.mean_radius
    if precision == "float64":
        graph, _ = tighten_graph(
            read_module(one.double(), (3,)), x.double().numpy(), labels.numpy(), "lipsdp-neuron"
        )
        np.testing.assert_allclose(graph.after.radius, found[0].after.radius, rtol=1e-4)
