"""`sdplip bound` with sorting, regions and pairs: certificates that `verify` proves again, refusals in one sentence."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from sdplip.bounds.choose import bound
from sdplip.kernel.regions import Ball, Box
from sdplip.network import Network
from sdplip.network.read.weights import weights_network
from sdplip.verifier.document import digest
from tests.commands import answer, invoke


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ws, bs = numbers()
    np.savez("net.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, **{f"b{i}": b for i, b in enumerate(bs)})
    np.savez(
        "shifted.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, **{f"b{i}": b + 1 for i, b in enumerate(bs)}
    )
    np.savez("narrow.npz", w0=Ws[2])
    np.savez("unknown.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, other=np.ones(9))
    lines = [f"(declare-const X_{i} Real)" for i in range(3)] + [
        f"(declare-const Y_{i} Real)" for i in range(2)
    ]
    lines += [f"(assert (>= X_{i} {i / 4}))\n(assert (<= X_{i} {i / 4 + 0.5}))" for i in range(3)]
    Path("p.vnnlib").write_text("\n".join([*lines, "(assert (<= Y_0 Y_1))"]) + "\n")
    np.save("center.npy", np.array([0.5, -0.5, 0.25]))
    lines = ["// a comment", "3", "3,6,4,2", "0", *(["0"] * 4)]
    for W, b in zip(Ws, bs, strict=True):
        lines += [",".join(map(repr, map(float, row))) + "," for row in W] + [f"{float(x)!r}," for x in b]
    with open("net.nnet", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return invoke


def numbers() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    Ws = [rng.normal(size=(m, n)) for n, m in itertools.pairwise((3, 6, 4, 2))]
    return Ws, [rng.normal(size=len(W)) for W in Ws]


def network(kind: str = "relu") -> Network:
    Ws, bs = numbers()
    return weights_network(Ws, kind, bs)


ASKED = {
    "maxmin": (["--activation", "maxmin"], "for all inputs"),
    "halves": (["--activation", "maxmin-halves"], "for all inputs"),
    "groupsort": (["--activation", "groupsort:2", "--output-pair", "1,0"], "output 1 minus output 0"),
    "pair": (["--output-pair", "0,1"], "output 0 minus output 1"),
    "ball": (["--ball", "center.npy,0.2"], "in the ball of radius 0.2 around (0.5, -0.5, 0.25)"),
    "ball of tanh": (["--ball", "0.1,0.2", "--activation", "tanh"], "around 0.1 in all 3 coordinates"),
    "ball of gelu": (["--ball", "0.1,0.2", "--activation", "gelu"], "in the ball of radius 0.2"),
    "ball of a product": (["--ball", "0.1,0.2", "--method", "product"], "in the ball of radius 0.2"),
    "box": (["--box", "0,0.1", "--activation", "maxmin"], "in the box from 0.0 in all 3"),
    "box of files": (["--box", "center.npy,1"], "in the box from (0.5, -0.5, 0.25) to 1.0"),
    "ball in a box": (
        ["--ball", "center.npy,0.7", "--box", "-0.4,0.5"],
        "0.7 around (0.5, -0.5, 0.25) and the box",
    ),
    "pieces of a box": (["--box", "0,1", "--pieces", "4"], "in the box from 0.0"),
    "pieces of a ball": (
        ["--ball", "0.1,0.9", "--pieces", "5", "--output-pair", "0,1"],
        "in the ball of radius 0.9",
    ),
    "pieces of both, a box": (["--ball", "0,1", "--box", "0,1", "--pieces", "5"], "and the box from 0.0"),
    "slopes in a box": (["--box", "0,1", "--slopes", "0,1"], "in the box from 0.0"),
    "property": (["--region", "p.vnnlib"], "in the box from (0.0, 0.25, 0.5) to (0.5, 0.75, 1.0)"),
}


def of_relu(asked: str) -> bool:
    return not {"--activation", "--slopes"} & {*ASKED[asked][0]}


@pytest.mark.parametrize(
    ("file", "asked"),
    [("net.npz", asked) for asked in ASKED] + [("net.nnet", asked) for asked in ASKED if of_relu(asked)],
)
def test_bounds_and_certificates_that_verify_proves_again(run, file, asked):
    options, words = ASKED[asked]
    code, found = answer(run, "bound", file, *options, "--certificate", "c.json")
    assert code == 0 and found["rigorous"] and found["lower"] <= found["bound"] * (1 + 1e-9)
    code, proof = answer(run, "verify", "c.json", file)
    assert code == 0 and proof["proven"] and words in proof["claims"][0]["words"]
    code, text, _ = run("verify", "c.json", file)
    assert code == 0 and words in text
    document = json.loads(Path("c.json").read_text())
    assert (document["claims"][0]["proof"]["rule"] == "cut") is ("pieces" in asked)
    document["claims"][0]["claim"]["bound"] *= 1 - 1e-6
    Path("c.json").write_text(json.dumps(document))
    assert run("verify", "c.json", file)[0] == 1


@pytest.mark.parametrize("asked", [asked for asked in ASKED if not of_relu(asked)])
def test_nnet_files_are_of_relu(run, asked):
    code, _, text = run("bound", "net.nnet", *ASKED[asked][0], "--certificate", "c.json")
    assert code == 2 and "relu" in text.lower() and not Path("c.json").exists()


@pytest.mark.parametrize(
    "asked", ["pair", "maxmin", "ball", "box of files", "ball in a box", "pieces of a box"]
)
def test_biases_matter_in_regions_only(run, asked):
    """A certificate that claims to be about the same weights with other biases, SHA-256 and all."""
    options, _ = ASKED[asked]
    assert run("bound", "net.npz", *options, "--certificate", "c.json")[0] == 0
    assert answer(run, "verify", "c.json", "shifted.npz")[1]["reason"].count("SHA-256") == 1
    document = json.loads(Path("c.json").read_text())
    document["file"]["sha256"] = digest("shifted.npz")
    Path("c.json").write_text(json.dumps(document))
    code, found = answer(run, "verify", "c.json", "shifted.npz")
    assert found["proven"] is (asked in ("pair", "maxmin")) and code == 1 - found["proven"]


@pytest.mark.parametrize("change", ["larger ball", "moved ball", "moved box", "everywhere"])
def test_a_region_cannot_be_exchanged(run, change):
    options, _ = ASKED["ball in a box"]
    assert run("bound", "net.npz", *options, "--certificate", "c.json")[0] == 0
    document = json.loads(Path("c.json").read_text())
    entry = document["claims"][0]
    region = entry["claim"]["region"]
    if change == "larger ball":
        region["ball"]["radius"] *= 3
    elif change == "moved ball":
        region["ball"]["center"] = [0.0, 0.0, 5.0]
        region["box"]["upper"] = [9.0, 9.0, 9.0]
    elif change == "moved box":
        region["box"] = {"lower": [0.4, -0.6, 0.0], "upper": [1.0, 0.0, 1.0]}
    else:
        entry["claim"]["region"] = None
    Path("c.json").write_text(json.dumps(document))
    code, out, _ = run("verify", "c.json", "net.npz")
    assert code == 1 and "NOT PROVEN" in out


def test_values_are_those_of_the_library(run):
    relu = network()
    ball = Ball(np.array([0.5, -0.5, 0.25]), 0.2)
    for arguments, expected in (
        (["--ball", "0.5,-0.5,0.25,0.2"], bound(relu, region=ball)),
        (["--ball", "center.npy,0.2"], bound(relu, region=ball)),
        (["--box", "0,0.1"], bound(relu, region=Box(np.zeros(3), np.full(3, 0.1)))),
        (["--activation", "maxmin"], bound(network("maxmin"))),
    ):
        assert answer(run, "bound", "net.npz", *arguments)[1]["bound"] == expected.bound


def test_pieces_of_a_box(run):
    whole, cut = (
        answer(run, "bound", "net.npz", "--box", "0,1", "--pieces", n)[1]["bound"] for n in ("1", "4")
    )
    assert cut <= whole


def test_methods_side_by_side(run):
    for arguments in (["--activation", "maxmin"], ["--ball", "0,0.5"]):
        methods = answer(run, "bound", "net.npz", *arguments, "--compare")[1]["methods"]
        found = {row["method"]: row["bound"] for row in methods}
        assert {name.split("-")[0] for name in found} >= {"product", "riccati", "lipsdp"}
        pairs = found.pop("pairs")
        assert pairs <= found["lipsdp-neuron"] * (1 + 1e-7)
        assert found["lipsdp-neuron"] <= min(found.values()) * (1 + 1e-7)
    code, out, _ = run("bound", "net.npz", "--ball", "0,0.5", "--compare", "--certificate", "c.json")
    assert code == 0 and "in the ball of radius 0.5 around 0.0" in out
    assert "inputs in the ball" in run("verify", "c.json", "net.npz")[1]


def test_unknown_functions_lose_what_a_region_could_gain(run):
    """Of slopes alone nobody knows where they lie: the bound of the region is that of all inputs."""
    region, everywhere = (
        answer(run, "bound", "net.npz", "--slopes", "0,1", *more)[1] for more in (["--box", "0,0.1"], [])
    )
    assert region["bound"] == pytest.approx(everywhere["bound"], rel=1e-6)
    known = answer(run, "bound", "net.npz", "--box", "0,0.1")[1]
    assert known["bound"] < 0.9 * region["bound"]


REFUSED = {
    "regions apart": (["net.npz", "--ball", "0,1", "--box", "2,3"], "no point in common"),
    "no radius": (["net.npz", "--ball", "1"], "CENTER,RADIUS"),
    "three ends": (["net.npz", "--box", "0,1,2"], "LOWER,UPPER"),
    "words": (["net.npz", "--ball", "here,1"], "no finite number"),
    "center of another width": (["net.npz", "--ball", "0,0,1"], "takes 3"),
    "negative radius": (["net.npz", "--ball", "0,-1"], "not negative"),
    "turned box": (["net.npz", "--box", "1,0"], "not above"),
    "pieces of everything": (["net.npz", "--pieces", "4"], "Add --box, --ball or --region"),
    "pieces side by side": (["net.npz", "--box", "0,1", "--pieces", "4", "--compare"], "Drop --compare"),
    "unknown biases": (["unknown.npz", "--ball", "0,1"], "biases"),
    "two boxes": (["net.npz", "--box", "0,1", "--region", "p.vnnlib"], "both say which box"),
    "property of another width": (["narrow.npz", "--region", "p.vnnlib"], "is about 3 inputs"),
    "too many pieces": (["net.npz", "--box", "0,1", "--pieces", "10000000"], "pieces"),
    "groups that do not fill": (["net.npz", "--activation", "groupsort:4"], "do not fill"),
    "no such sorting": (["net.npz", "--activation", "groupsort:x"], "no activation"),
    "composite": (
        ["net.npz", "--activation", "maxmin", "--method", "composite"],
        "does not take this network",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(run, case):
    arguments, reason = REFUSED[case]
    code, out, err = run("bound", *arguments)
    last = err.strip().splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("Error: ") and reason in last
