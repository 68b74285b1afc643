"""`sdplip bound --expansion`: a claim from below, in words, in JSON, in the certificate; refused where nothing is proven."""

import json

import numpy as np
import pytest

from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.expansion import conclude_expansion
from sdplip.kernel.proof import Goal
from sdplip.network.read.file import read_file
from sdplip.verifier.document import read
from sdplip.verifier.verify import verify
from tests.commands import answer, failure, invoke


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    W1, W2 = rng.normal(size=(3, 2)) + 2 * np.eye(3, 2), rng.normal(size=(4, 3)) / 2 + 2 * np.eye(4, 3)
    np.savez("net.npz", **{"fc1.weight": W1, "fc2.weight": W2, "fc1.bias": np.ones(3)})
    np.savez("narrow.npz", **{"fc1.weight": W1, "fc2.weight": W2[:1]})
    return "net.npz"


def test_both_sides_and_their_certificate(file):
    options = (file, "--activation", "leaky_relu:0.5", "--method", "lipsdp-neuron", "--expansion")
    code, document = answer(invoke, "bound", *options, "--certificate", "c.json")
    assert code == 0 and 0 < document["expands"] < document["bound"]
    code, out, _ = invoke("bound", *options)
    assert code == 0 and "Proven: |f(x) - f(y)| >= 0." in " ".join(out.split())
    found = verify("c.json", file)
    assert found.proven and [type(one.claim).__name__ for one in found.claims] == [
        "LipschitzClaim",
        "ExpansionClaim",
    ]
    assert "at least" in found.claims[1].words
    code, out, _ = invoke("show", "c.json")
    assert code == 0 and "at least" in out
    upper, lower = read("c.json").entries
    network = read_file(file, {"kind": "weights", "activation": "leaky_relu:0.5"}).network
    assert conclude_expansion(network, lower.proof) == document["expands"]
    for proof in (upper.proof, lower.proof):  # neither door takes the other's proof
        door = conclude_expansion if proof is upper.proof else lambda f, p: conclude(Goal(f), p)
        with pytest.raises(NotProvable, match=r"no rule|is proven by"):
            door(network, proof)


def test_a_claim_of_more_is_refuted(file):
    invoke(
        "bound",
        file,
        "--activation",
        "leaky_relu:0.5",
        "--method",
        "product",
        "--expansion",
        "--certificate",
        "c.json",
    )
    with open("c.json") as stored:
        document = json.load(stored)
    document["claims"][1]["claim"]["lower"] *= 1 + 1e-9
    with open("c.json", "w") as stored:
        json.dump(document, stored)
    assert not verify("c.json", file).proven
    for wrong in (-1.0, "1", None, True):
        document["claims"][1]["claim"]["lower"] = wrong
        with open("c.json", "w") as stored:
            json.dump(document, stored)
        assert invoke("verify", "c.json", file)[0] == 2


def test_what_is_refused(file):
    for arguments, why in (
        (("narrow.npz",), "2 inputs to 1 outputs"),
        ((file,), "Without --expansion"),  # relu may fold
        ((file, "--box", "0,1"), "all inputs"),
        ((file, "--output-pair", "0,1"), "all inputs"),
        ((file, "--output-norm", "linf"), "all inputs"),
    ):
        code, document = failure(invoke, "bound", *arguments, "--expansion")
        assert code == 2 and why in document["error"]
