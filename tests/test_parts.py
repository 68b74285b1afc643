"""Networks that are proven part by part: trunks of convolutions, the parts between maxima; their certificates."""

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.bounds.numerics import band
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Proof
from sdplip.network import Network
from sdplip.network.read.torch import read_module
from tests.commands import answer, check_what_verify_loads, invoke
from tests.graphs import by_hand

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(band, "GAP", 0.1)


def module(seed: int = 0, *, pool: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    front = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()]
    middle = [nn.MaxPool2d(3, 2)] if pool else []
    width = 3 * (4 if pool else 36)
    return nn.Sequential(
        *front, *middle, nn.Flatten(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()


def network(seed: int = 0, *, pool: bool = True) -> Network:
    return read_module(module(seed, pool=pool).eval(), (1, 6, 6))


def lies(proof: Proof):
    """The proof with something of it, or of a part of it, made better than it is."""
    for key, value in proof.data.items():
        better = {"R": 0.999, "c": 1 - 1e-7, "kappa": 1 - 1e-7}.get(key)
        if better:
            yield replace(
                proof, data={**proof.data, key: np.asarray(value) * better if key == "R" else value * better}
            )
        if key == "multipliers":
            many = (
                [5 * np.asarray(v) for v in value]
                if isinstance(value, list | tuple)
                else 5 * np.asarray(value)
            )
            yield replace(proof, data={**proof.data, key: many})
    for k, one in enumerate(proof.parts):
        yield replace(proof, parts=(*proof.parts[:k], *proof.parts[k + 1 :]))
        for lie in lies(one):
            yield replace(proof, parts=(*proof.parts[:k], lie, *proof.parts[k + 1 :]))


@pytest.mark.parametrize(
    ("pool", "method"),
    [(False, "frequency"), (True, "frequency"), (False, "banded"), (True, "banded"), (True, "composite")],
)
def test_lies_are_found(pool, method):
    found = bound(network(pool=pool), method)
    goal = found.goal
    assert conclude(goal, found.proof) == found.bound
    count = 0
    for lie in lies(found.proof):
        count += 1
        try:
            assert conclude(goal, lie) >= found.bound * (1 - 1e-12)  # a part that was never needed
        except NotProvable:
            continue
    assert count >= 2
    # the proof of one network proves nothing less than the truth of another one
    other = network(1, pool=pool)
    with suppress(NotProvable):
        assert conclude(Goal(other), found.proof) >= bound(other, "product").lower


def test_the_bound_of_parts_lies_above_jacobians():
    torch_net = module().eval()
    found = bound(network(), "frequency")
    for x in np.random.default_rng(0).normal(size=(30, 1, 1, 6, 6)):
        J = torch.autograd.functional.jacobian(torch_net, torch.tensor(x)).reshape(3, 36).numpy()
        assert np.linalg.norm(J, 2) <= found.bound


# ------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = {}
    for name, pool in (("pooled", True), ("plain", False)):
        net = module(pool=pool)
        by_hand(net, (1, 6, 6), Path(f"{name}.onnx"))
        arrays = {key: value.numpy() for key, value in net.state_dict().items()}
        np.savez(f"{name}.npz", **arrays)
    arrays["0.weight"] = np.nextafter(arrays["0.weight"], 9)
    np.savez("altered.npz", **arrays)
    return invoke


def certified(run, *arguments) -> dict:
    code, document = answer(run, "bound", *arguments, "--certificate", "C.json")
    assert (code, document["certificate"]) == (0, "C.json")
    body = json.loads(Path("C.json").read_text())
    assert body["claims"][0]["claim"]["bound"] == document["bound"]
    return body


@pytest.mark.parametrize(
    "arguments",
    [
        ["plain.npz", "--image-size", "6,6", "--activation", "sigmoid"],
        ["plain.npz", "--image-size", "6", "--slopes", "0,2"],
        ["pooled.onnx"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_verify_proves_again(run, arguments):
    body = certified(run, *arguments, "--method", "frequency")
    assert "frequency" in json.dumps(body["claims"][0]["proof"])
    assert run("verify", "C.json", arguments[0])[0] == 0
    assert run("verify", "C.json", "altered.npz")[0] == 1
    body["claims"][0]["claim"]["bound"] *= 0.99
    Path("C.json").write_text(json.dumps(body))
    code, document = answer(run, "verify", "C.json", arguments[0])
    assert (code, document["proven"]) == (1, False)


def test_verify_uses_only_the_readers_and_the_kernel(run):
    certified(run, "pooled.onnx", "--method", "frequency")
    check_what_verify_loads("pooled.onnx")


def test_a_method_that_takes_no_part_gives_the_product():
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    network = read_module(module.eval(), (1, 6, 6))
    found = bound(network, "composite")
    assert found.method == "product of the parts" and found.bound == bound(network, "product").bound
