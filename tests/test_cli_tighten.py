"""`sdplip tighten` of files and runs: radii that do not fall, JSON keys, certificates that `sdplip verify` proves again."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdplip.errors import NotProvable
from tests.commands import answer, check_what_verify_loads, invoke
from tests.test_cli_certify import made, run, small  # noqa: F401  (fixtures)

KEYS = [
    "file",
    "data",
    "split",
    "n",
    "clean",
    "before",
    "after",
    "whole",
    "front",
    "pairs",
    "pairs_tried",
    "pairs_own",
    "pairs_hopeless",
    "gain",
    "helped",
    "rounding",
    "precision",
    "seconds",
    "assumed",
    "note",
    "local",
    "proof",
    "certificate",
    "verify",
    "figure",
]


@pytest.fixture
def cnn(tmp_path, monkeypatch):
    """A graph with a convolution and its images, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    _, images, labels = small("cnn.onnx")
    np.savez("test.npz", images=images, labels=labels)
    return ("tighten", "cnn.onnx", "--data", "test.npz", "--limit", 8)


@pytest.mark.parametrize("more", [[], ["--local", 4], ["--no-pairs"], ["--precision", "float32"]])
def test_a_graph_is_tightened_with_a_certificate(cnn, more):
    code, out = answer(invoke, *cnn, *more, "--certificate", "c.json")
    before, after = out["before"], out["after"]
    assert code == 0 and list(out) == KEYS and (out["local"] is None) == ("--local" not in more)
    assert after["mean_radius"] >= before["mean_radius"] > 0 and out["helped"]
    assert (out["rounding"], out["precision"]) == ("proven", "float32" if "float32" in more else "float64")
    kept = out["proof"]
    assert list(kept) == ["network", "images", "arithmetic", "n", "mean_radius"]
    n = 4 if "--local" in more else 8
    assert (kept["network"], kept["images"], kept["n"]) == ("cnn.onnx", "c.images.npz", n)
    if "--local" in more:
        assert out["local"]["n"] == 4 and kept["mean_radius"] == out["local"]["after"]["mean_radius"]
        assert out["local"]["after"]["mean_radius"] >= out["local"]["before"]["mean_radius"]
    else:
        assert kept["mean_radius"] == after["mean_radius"]
    assert answer(invoke, "verify", "c.json", "cnn.onnx", "c.images.npz")[1]["proven"]
    document = json.loads(Path("c.json").read_text())
    radius = document["claims"][0]["claim"]["radius"]
    radius[int(np.argmax(radius))] *= 1 + 1e-6
    Path("c.json").write_text(json.dumps(document))
    assert invoke("verify", "c.json", "cnn.onnx", "c.images.npz")[0] == 1


def test_the_text_names_the_certificate(cnn):
    code, out, err = invoke(*cnn, "--certificate", "c.json")
    assert code == 0 and not err and "sdplip verify c.json cnn.onnx c.images.npz" in out
    assert "Certified in float64, rounding subtracted, proven." in out


def test_where_rounding_is_not_known_exact_arithmetic_is_certified(cnn, monkeypatch):
    def unknown(*_):
        raise NotProvable("Nobody knows how this rounds.")

    monkeypatch.setattr("sdplip.kernel.accuracy.margin_errors", unknown)
    code, out = answer(invoke, *cnn, "--certificate", "c.json")
    assert code == 0 and out["proof"]["arithmetic"] == "exact"
    assert "the rounding of a function is not known" in invoke(*cnn)[1]
    assert answer(invoke, "verify", "c.json", "cnn.onnx", "c.images.npz")[1]["proven"]
    code, _, err = invoke("certify", *cnn[1:])
    assert code == 2 and "`--scope exact`" in err


@pytest.mark.usefixtures("run")
def test_a_run_is_tightened_with_a_certificate_that_needs_no_torch():
    asked = ("tighten", "RUN", "--limit", 4, "--no-pairs", "--method", "riccati")
    code, out = answer(invoke, *asked, "--certificate", "c.json")
    assert code == 0 and "is not finished" in out["note"]
    assert out["proof"]["network"] == "c.network.safetensors"
    assert out["after"]["mean_radius"] >= out["before"]["mean_radius"]
    check_what_verify_loads("c.network.safetensors", "c.images.npz", certificate="c.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cnn.onnx"], "Add --data"),
        (["none.npz", "--data", "test.npz"], "There is no file `none.npz`"),
        (["none", "--data", "test.npz"], "There is no run or file `none`"),
        (["cnn.onnx", "--data", "digits"], "cannot run on images of shape (1, 8, 8): it takes (1, 5, 5)"),
        (["cnn.onnx", "--data", "test.npz", "--certificate", "c.txt"], "must end in .json"),
    ],
)
@pytest.mark.usefixtures("cnn")
def test_bad_input(arguments, message):
    code, out, err = invoke("tighten", *arguments)
    assert (code, out) == (2, "") and message in err
    assert ("train" in err) is (arguments[0] == "none")  # only a folder can be trained
