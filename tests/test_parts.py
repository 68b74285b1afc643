"""Certificates of networks that are proven part by part: trunks of convolutions, and the parts between maxima over windows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sdplip.certificates.parts import ROOM, Kernel, Matrix, certify_factors, composed, part_holds
from sdplip.certificates.parts_file import load_parts, parts_record, save_parts, verify_parts
from sdplip.networks import Network
from sdplip.networks.parts import parts_of, slopes_of, with_slopes
from sdplip.networks.torch import from_module
from torch import nn

from sdplip.bounds import banded, bound, frequency
from sdplip.errors import InvalidCertificate, InvalidProblem
from sdplip.geometry import Geometry
from tests.commands import answer, check_what_verify_loads, invoke
from tests.graphs import by_hand

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def few_frequencies(monkeypatch):
    monkeypatch.setattr(frequency, "COARSE_ORDER", 60)
    monkeypatch.setattr(banded, "GAP", 0.1)


def module(seed: int = 0, *, pool: bool = True, tail: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    front = [nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()]
    middle = [nn.MaxPool2d(3, 2)] if pool else []
    width = 3 * (4 if pool else 36)
    return nn.Sequential(
        *front, *middle, nn.Flatten(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, tail)
    ).double()


def network(pool: bool = True) -> Network:
    return from_module(module(pool=pool).eval(), (1, 6, 6))


def record(net: Network, method):
    found = bound(net, method)
    assert found.parts
    whole = parts_of(net, [proof.kind for proof in found.parts])
    return found, whole, parts_record("net", whole, slopes_of(net), found.parts, found.method)


@pytest.mark.parametrize(
    ("pool", "method", "kinds"),
    [
        (False, "frequency", ["trunk"]),
        (True, "frequency", ["trunk", "multipliers"]),
        (False, "banded", ["strip"]),
        (True, "banded", ["strip", "multipliers"]),
        (True, "composite", ["composite", "composite"]),
        (True, "product", ["product", "product"]),
    ],
)
def test_a_record_goes_there_and_back_and_lies_are_found(tmp_path, pool, method, kinds):
    net = network(pool)
    found, whole, entry = record(net, method)
    assert [proof.kind for proof in entry.proofs] == kinds
    assert found.value <= entry.bound <= found.value * (1 + 10 * ROOM)
    save_parts(tmp_path / "C.json", entry)
    read = load_parts(tmp_path / "C.json")
    assert verify_parts(read, whole).proven and read.bound == entry.bound
    smaller = replace(read, bound=read.bound * (1 - 1e-7))
    assert "together" in verify_parts(smaller, whole).reason
    for k, proof in enumerate(read.proofs):
        lies = [replace(proof, bound=proof.bound * (1 - 1e-7))]
        if proof.kind in ("multipliers", "trunk", "strip"):
            lies.append(replace(proof, multipliers=tuple(5 * lam for lam in proof.multipliers)))
        if proof.kind == "multipliers":
            lies.append(replace(proof, inner=proof.inner * 0.99, bound=proof.bound * 0.99))
            narrow = tuple((a, 0.5 * b) for a, b in proof.slopes)
            lies.append(replace(proof, slopes=narrow))
        if proof.kind in ("trunk", "strip"):
            lies.append(replace(proof, front=proof.front * 0.999))
            lies.append(replace(proof, tail=None))
            lies.append(replace(proof, tail=replace(proof.tail, bound=proof.tail.bound * 0.99)))
        for lie in lies:
            assert not part_holds(whole.parts[k], lie)
            proofs = (*read.proofs[:k], lie, *read.proofs[k + 1 :])
            assert not verify_parts(replace(read, proofs=proofs), whole).proven
    other = parts_of(from_module(module(1, pool=pool).eval(), (1, 6, 6)), kinds)
    assert "SHA-256" in verify_parts(read, other).reason


def test_the_bound_of_parts_lies_above_jacobians():
    torch_net = module().eval()
    _, _, entry = record(network(), "frequency")
    rng = np.random.default_rng(0)
    for x in rng.normal(size=(30, 1, 1, 6, 6)):
        J = torch.autograd.functional.jacobian(torch_net, torch.tensor(x)).reshape(3, 36).numpy()
        assert np.linalg.norm(J, 2) <= entry.bound


def test_wider_slopes_need_another_proof():
    net = network(False)
    found, whole, _ = record(net, "frequency")
    steep = with_slopes(net, [(a, 1.5 * b) for a, b in slopes_of(net)])
    (part,) = parts_of(steep, ["trunk"]).parts
    assert part_holds(whole.parts[0], found.parts[0]) and not part_holds(part, found.parts[0])
    with pytest.raises(InvalidProblem, match="activations"):
        with_slopes(net, slopes_of(net)[:1])
    with pytest.raises(InvalidProblem, match="proofs"):
        parts_of(net, ["trunk", "trunk"])


def test_factors_multiply_their_exact_norms():
    K = np.zeros((1, 1, 3, 3))
    K[0, 0, 1, 1] = 3.0
    factors = [Kernel(K, Geometry(image_size=(4, 4))), Matrix(np.diag([1.0, 2.0]), 0.5), 0.5]
    assert 3 * 2.5 * 0.5 <= certify_factors(factors) <= 3 * 2.5 * 0.5 * (1 + 1e-9)
    assert 2 * 3 * 2 * 0.5 <= composed([2.0, 3.0], 4, [0.5]) <= 6 * (1 + 1e-12)


def test_malformed_files_are_refused(tmp_path):
    _, _, entry = record(network(False), "frequency")
    save_parts(tmp_path / "C.json", entry)
    document = json.loads((tmp_path / "C.json").read_text())
    for change in ({"kind": "trust me"}, {"front": [[1.0, 2.0]]}, {"multipliers": "many"}):
        document["parts"][0] |= change
        (tmp_path / "D.json").write_text(json.dumps(document))
        with pytest.raises(InvalidCertificate, match="malformed"):
            load_parts(tmp_path / "D.json")


# ------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
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
    claim = json.loads(Path("C.json").read_text())
    assert claim["bound"] == document["bound"]
    return claim


@pytest.mark.parametrize(
    "arguments",
    [
        ["plain.npz", "--image-size", "6,6"],
        ["plain.npz", "--image-size", "6,6", "--activation", "sigmoid"],
        ["plain.npz", "--image-size", "6", "--slopes", "0,2"],
        ["plain.onnx"],
        ["pooled.onnx"],
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_verify_proves_again(run, arguments):
    claim = certified(run, *arguments, "--method", "frequency")
    assert claim["schema"] == "sdplip-parts-certificate/1"
    assert run("verify", "C.json", arguments[0])[0] == 0
    assert "part by part" in run("verify", "C.json", arguments[0])[1]
    claim["bound"] *= 0.99
    Path("C.json").write_text(json.dumps(claim))
    code, document = answer(run, "verify", "C.json", arguments[0])
    assert (code, document["proven"]) == (1, False)


def test_verify_refutes_other_weights_and_other_activations(run):
    certified(run, "plain.npz", "--image-size", "6,6", "--method", "frequency")
    code, document = answer(run, "verify", "C.json", "altered.npz")
    assert code == 1 and "SHA-256" in document["layers"][0]["reason"]
    assert run("verify", "C.json", "pooled.onnx")[0] == 2  # a graph says itself how large its images are
    certified(run, "plain.npz", "--image-size", "6,6", "--method", "frequency", "--activation", "sigmoid")
    claim = json.loads(Path("C.json").read_text())
    del claim["reading"]
    Path("C.json").write_text(json.dumps(claim))
    code, document = answer(run, "verify", "C.json", "plain.onnx")  # the same weights with ReLU
    assert code == 1 and "slopes outside" in document["layers"][0]["reason"]
    certified(run, "pooled.onnx", "--method", "frequency")
    code, document = answer(run, "verify", "C.json", "plain.onnx")
    assert code == 1 and "parts" in document["layers"][0]["reason"]


def test_maxima_in_one_inequality_have_a_certificate_of_a_system(run):
    claim = certified(run, "pooled.onnx")
    assert claim["schema"] == "sdplip-system-certificate/1"
    assert run("verify", "C.json", "pooled.onnx")[0] == 0
    assert run("verify", "C.json", "plain.onnx")[0] == 1


def test_verify_uses_only_the_readers_and_the_kernel(run):
    certified(run, "pooled.onnx", "--method", "frequency")
    check_what_verify_loads("pooled.onnx")
