"""`sdplip bound` with sorting, regions and pairs: certificates that `verify` proves again, refusals in one sentence."""

import itertools

import numpy as np
import pytest

from sdplip.bounds import bound
from sdplip.certificates.region import Ball, Box
from sdplip.networks import Network, from_weights
from tests.commands import answer, invoke


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Ws, bs = numbers()
    np.savez("net.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, **{f"b{i}": b for i, b in enumerate(bs)})
    np.savez(
        "shifted.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, **{f"b{i}": b + 1 for i, b in enumerate(bs)}
    )
    np.savez("unknown.npz", **{f"w{i}": W for i, W in enumerate(Ws)}, other=np.ones(9))
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
    return from_weights(Ws, kind, bs)


ASKED = {
    "maxmin": ["--activation", "maxmin"],
    "halves": ["--activation", "maxmin-halves"],
    "groupsort": ["--activation", "groupsort:2", "--output-pair", "1,0"],
    "pair": ["--output-pair", "0,1"],
    "ball": ["--ball", "center.npy,0.2"],
    "ball of tanh": ["--ball", "0.1,0.2", "--activation", "tanh"],
    "box": ["--box", "0,0.1", "--activation", "maxmin"],
    "box of files": ["--box", "center.npy,1"],
    "ball in a box": ["--ball", "center.npy,0.7", "--box", "-0.4,0.5"],
    "pieces of a box": ["--box", "0,1", "--pieces", "4"],
    "pieces of a ball": ["--ball", "0.1,0.9", "--pieces", "5", "--output-pair", "0,1"],
    "pieces of both, a box": ["--ball", "0,1", "--box", "0,1", "--pieces", "5"],
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("file", ["net.npz", "net.nnet"])
def test_bounds_and_certificates_that_verify_proves_again(run, file, asked):
    code, found = answer(run, "bound", file, *ASKED[asked], "--certificate", "c.json")
    assert code == 0 and found["rigorous"] and found["lower"] <= found["bound"] * (1 + 1e-9)
    code, proof = answer(run, "verify", "c.json", file)
    assert code == 0 and proof["proven"]
    code, proof = answer(run, "verify", "c.json", "shifted.npz")
    assert proof["proven"] is not ("ball" in asked or "box" in asked)  # biases matter in regions only
    code, text, _ = run("verify", "c.json", file)
    assert code == 0 and ("in a box" not in asked or "ball within the box" in text)
    assert ("pieces" in asked) is ("pieces that cover" in " ".join(text.split()))


def test_values_are_those_of_the_library(run):
    relu = network()
    ball = Ball(np.array([0.5, -0.5, 0.25]), 0.2)
    for arguments, expected in (
        (["--ball", "0.5,-0.5,0.25,0.2"], bound(relu, region=ball)),
        (["--ball", "center.npy,0.2"], bound(relu, region=ball)),
        (["--box", "0,0.1"], bound(relu, region=Box(np.zeros(3), np.full(3, 0.1)))),
        (["--activation", "maxmin"], bound(network("maxmin"))),
    ):
        assert answer(run, "bound", "net.npz", *arguments)[1]["bound"] == expected.value


def test_pieces_of_a_box(run):
    whole, cut = (
        answer(run, "bound", "net.npz", "--box", "0,1", "--pieces", n)[1]["bound"] for n in ("1", "4")
    )
    assert cut <= whole


def test_methods_side_by_side(run):
    for arguments in (["--activation", "maxmin"], ["--ball", "0,0.5"]):
        methods = answer(run, "bound", "net.npz", *arguments, "--compare")[1]["methods"]
        assert [row["method"].split("-")[0] for row in methods] == ["product", "riccati", "lipsdp"]
    code, out, _ = run("bound", "net.npz", "--ball", "0,0.5", "--certificate", "c.json")
    assert code == 0 and "in the ball" in out
    assert "inputs in the ball" in run("verify", "c.json", "net.npz")[1]


REFUSED = {
    "regions apart": (["net.npz", "--ball", "0,1", "--box", "2,3"], "no point in common"),
    "no radius": (["net.npz", "--ball", "1"], "CENTER,RADIUS"),
    "three ends": (["net.npz", "--box", "0,1,2"], "LOWER,UPPER"),
    "words": (["net.npz", "--ball", "here,1"], "no finite number"),
    "center of another width": (["net.npz", "--ball", "0,0,1"], "takes 3"),
    "negative radius": (["net.npz", "--ball", "0,-1"], "not negative"),
    "turned box": (["net.npz", "--box", "1,0"], "not above"),
    "pieces of everything": (["net.npz", "--pieces", "4"], "Add --box or --ball"),
    "pieces side by side": (["net.npz", "--box", "0,1", "--pieces", "4", "--compare"], "Drop --compare"),
    "certificate of outputs of pieces": (
        ["net.npz", "--box", "0,1", "--pieces", "4", "--output-norm", "linf", "--certificate", "c.json"],
        "Drop --output-norm",
    ),
    "unknown biases": (["unknown.npz", "--ball", "0,1"], "biases"),
    "unknown function": (["net.npz", "--ball", "0,1", "--slopes", "0,1"], "not known"),
    "groups that do not fill": (["net.npz", "--activation", "groupsort:4"], "do not fill"),
    "no such sorting": (["net.npz", "--activation", "groupsort:x"], "no activation"),
    "composite": (["net.npz", "--activation", "maxmin", "--method", "composite"], "use one of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(run, case):
    arguments, reason = REFUSED[case]
    code, out, err = run("bound", *arguments)
    last = err.strip().splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("Error: ") and reason in last
