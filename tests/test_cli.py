"""The command line: exact JSON keys, exit codes, one sentence for every bad input, and what must not be imported."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sdplip.cli import main
from tests.commands import answer, invoke

CHECK_KEYS = [
    "name",
    "shape",
    "kind",
    "form",
    "scaling",
    "verdict",
    "c",
    "c_lower",
    "bound",
    "trace",
    "seconds",
]
ROW_KEYS = [
    "scaling",
    "trace",
    "trace_lower",
    "log_det",
    "c",
    "c_lower",
    "bound",
    "mean_singular_value",
    "orthogonality_defect",
    "seconds",
    "solver",
    "gap",
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `sdplip ...` in a folder with a network, a kernel and vectors: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    W1, W2 = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(3, 5)) / 10
    np.savez("net.npz", **{"fc1.weight": W1, "fc1.bias": np.ones(5), "fc2.weight": W2})
    np.save("one.npy", np.eye(3))
    np.save("kernel.npy", rng.normal(size=(4, 2, 3, 3)))
    np.save("ones.npy", np.ones(3))
    np.savez("t.npz", **{"fc1.weight": np.full(4, 60.0), "fc2.weight": np.full(5, 60.0)})

    return invoke


# ---------------------------------------------------------------------------------------------------- check


def test_check_json_has_exactly_the_documented_keys(run):
    code, document = answer(run, "check", "net.npz")
    assert list(document) == ["file", "verdict", "layers", "certificate", "verify"]
    assert document["file"] == "net.npz"
    assert [list(layer) for layer in document["layers"]] == [CHECK_KEYS] * 2
    first = document["layers"][0]
    assert (first["name"], first["shape"], first["kind"]) == ("fc1.weight", [5, 4], "dense")
    assert (first["form"], first["scaling"], first["verdict"]) == ("linear", "identity", "violated")
    assert first["bound"] == first["c"]
    assert (code, document["verdict"]) == (1, "violated")


def test_check_exit_codes(run):
    assert run("check", "one.npy")[0] == 0
    assert run("check", "net.npz", "--scaling", "aol")[0] == 0
    assert run("check", "net.npz")[0] == 1  # one satisfied, one violated
    # The identity has c = 1 exactly: with tol 0, the upper end 1 + rounding cannot decide.
    assert run("check", "one.npy", "--tol", "0")[0] == 3
    assert run("check", "none.npy")[0] == 2
    np.savez("both.npz", a=np.eye(3), b=2 * np.eye(3))
    assert run("check", "both.npz", "--tol", "0")[0] == 1  # violated wins over undecided


@pytest.mark.parametrize(
    "scaling", ["spectral", "aol", "AOL", "perron", "multi_step", "multi-step:3", "min_trace"]
)
def test_every_scaling_by_name(run, scaling):
    code, document = answer(run, "check", "net.npz", "--scaling", scaling)
    assert code == 0
    expected = {"AOL": "aol", "multi-step:3": "multi_step:3"}.get(scaling, scaling)
    assert {layer["scaling"] for layer in document["layers"]} == {expected}


def test_check_with_given_vectors(run):
    assert answer(run, "check", "net.npz", "--t", "t.npz")[0] == 0
    code, document = answer(run, "check", "one.npy", "--t", "ones.npy")
    assert (code, document["layers"][0]["scaling"]) == (0, "given")
    code, document = answer(run, "check", "one.npy", "--q", "ones.npy")
    assert (code, document["layers"][0]["scaling"]) == (0, "gershgorin")


def test_form_layer_and_transpose(run):
    _, linear = answer(run, "check", "net.npz", "--layer", "fc2.weight")
    _, turned = answer(run, "check", "net.npz", "--layer", "fc2.weight", "--transpose")
    _, hidden = answer(run, "check", "net.npz", "--layer", "fc2.weight", "--form", "residual")
    assert [layer["name"] for layer in linear["layers"]] == ["fc2.weight"]
    assert [document["layers"][0]["trace"] for document in (linear, turned, hidden)] == [5, 3, 3]
    assert hidden["layers"][0]["bound"] == 1  # below 1 / sqrt(2) nothing is gained: x passes by


def test_geometry_options_reach_the_kernel(run):
    _, every = answer(run, "check", "kernel.npy")
    _, known = answer(run, "check", "kernel.npy", "--image-size", "5,6", "--padding-mode", "circular")
    _, single = answer(run, "check", "kernel.npy", "--image-size", "3", "--padding", "0")
    assert known["layers"][0]["kind"] == "conv2d"
    assert single["layers"][0]["c"] <= known["layers"][0]["c"] <= every["layers"][0]["c"]
    assert answer(run, "check", "kernel.npy", "--groups", "2", "--stride", "2,1", "--dilation", "2")[0] == 1


def test_check_speaks_to_people(run):
    code, out, _ = run("check", "net.npz")
    assert code == 1
    assert "1 of 2 layers satisfy the condition; 1 violates it" in out
    assert "fc1.weight" in out
    assert "sdplip compare net.npz" in out
    _, out, _ = run("check", "one.npy", "--tol", "0")
    assert "1 undecided" in out
    assert "0 of 1 layer satisfies" in out


def test_printed_intervals_are_rounded_outward():
    from sdplip.cli.render import above, below

    assert (below(np.pi), above(np.pi)) == ("3.141592", "3.141593")
    assert (below(2.0), above(2.0)) == ("2", "2")
    assert (below(1 + 2.6e-13), above(1 + 2.6e-13)) == ("1 + 2e-13", "1 + 3e-13")
    assert (below(1 - 2.6e-13), above(1 - 2.6e-13)) == ("1 - 3e-13", "1 - 2e-13")
    assert above(1.0) == below(1.0) == "1"


@pytest.mark.parametrize("width", [30, 60, 80, 100, 160])
def test_no_cell_of_a_table_is_broken(width):
    from rich.console import Console

    from sdplip.cli.render import open_table

    rng = np.random.default_rng(width)
    rows = [[f"layer{i}.weight", *(f"{x:.6g}" for x in 10 ** rng.uniform(-9, 9, 9))] for i in range(3)]
    table = open_table("layer", "shape", **{f"c{k}": f"title number {k}" for k in range(8)})
    for row in rows:
        table.add_row(*row, style="bold")
    console = Console(width=width)
    with console.capture() as found:
        console.print(table)
    lines = found.get().splitlines()
    assert max(map(len, lines)) <= width
    words = [line.split() for line in lines]
    for name, *numbers in rows:
        mine = [line for line in words if name in line]
        assert [number for line in mine for number in line if number != name] == numbers


def test_eighty_columns_break_neither_names_nor_numbers(run, monkeypatch):
    from sdplip.cli.render import above, below

    layers = answer(run, "check", "net.npz")[1]["layers"]
    compared = answer(run, "compare", "net.npz")[1]["layers"]
    monkeypatch.setenv("COLUMNS", "80")
    out = run("check", "net.npz")[1]
    for layer in layers:
        interval = f"[{below(layer['c_lower'])}, {above(layer['c'])}]"
        assert layer["name"] in out.split() and interval in out
    out = run("compare", "net.npz")[1].split()
    for row in (row for layer in compared for row in layer["scalings"]):
        assert row["scaling"] in out and f"{row['trace']:.6g}" in out
        assert f"{row['mean_singular_value']:.4f}" in out


def test_the_epsilon_defect_of_sll_v1(run):
    """G = I, q = eps = 1e-6: the published T is 1/2 and the residual layer stretches by 2 / T - 1 = 3."""
    for q, factor in ((1e-6, 3.0), (1e-7, 21.0)):
        np.save("t.npy", np.full(3, q / (q + 1e-6)))
        code, document = answer(run, "check", "one.npy", "--t", "t.npy", "--form", "residual")
        assert (code, document["verdict"]) == (1, "violated")
        assert document["layers"][0]["bound"] == pytest.approx(factor, rel=1e-9)  # q + eps is rounded


# -------------------------------------------------------------------------------------------------- compare


def test_compare_json_has_exactly_the_documented_keys(run):
    code, document = answer(run, "compare", "net.npz")
    assert code == 0
    assert list(document) == ["file", "objective", "layers", "figure"]
    for layer in document["layers"]:
        assert list(layer) == ["name", "shape", "kind", "form", "scalings"]
        *closed, best = layer["scalings"]
        assert [row["scaling"] for row in closed] == ["spectral", "aol", "perron", "multi_step"]
        assert all(list(row) == ROW_KEYS for row in closed)
        assert list(best) == ROW_KEYS and best["bound"] <= 1 + 1e-6
        assert best["scaling"] == "min_trace"
        assert best["gap"] < 1e-6
        for row in closed:
            assert row["trace_lower"] is row["solver"] is row["gap"] is None
            assert row["trace"] >= best["trace_lower"]
            assert row["trace"] >= best["trace"] * (1 - best["gap"])


@pytest.mark.parametrize("solver", ["scs", "clarabel", "interior_point"])
def test_compare_with_other_solvers_and_objectives(run, solver):
    _, document = answer(
        run,
        "compare",
        "net.npz",
        "--solver",
        solver,
        "--objective",
        "logdet",
        "--scalings",
        "aol,multi_step:4",
    )
    names = [row["scaling"] for row in document["layers"][0]["scalings"]]
    assert names == ["aol", "multi_step:4", "max_volume"]
    best = document["layers"][0]["scalings"][-1]
    assert best["trace_lower"] is None
    assert best["gap"] < 1e-3  # SCS at its tolerance of 1e-6


def test_compare_of_a_convolution(run):
    _, document = answer(run, "compare", "kernel.npy", "--image-size", "6")
    *closed, best = document["layers"][0]["scalings"]
    assert all(row["trace"] * max(1, row["c"] ** 2) >= best["trace_lower"] for row in closed)
    assert best["gap"] < 1e-6


def test_small_matrices_need_no_torch_and_both_solvers_reach_one_gap(run):
    code = (
        "import sys; from sdplip.cli import main\n"
        "main(['compare', 'net.npz', *sys.argv[1:]], standalone_mode=False)\n"
        "print([name for name in ('torch', 'cvxpy', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for solver in ("auto", "mixing"):
        for layer in answer(run, "compare", "net.npz", "--solver", solver)[1]["layers"]:
            assert layer["scalings"][-1]["gap"] < 1.1e-8


def test_seconds_are_work_and_no_imports(run, monkeypatch):
    """A solver whose import takes a while is timed without it."""
    import time

    from sdplip.solvers import MinTrace, auto

    suitable = auto.suitable

    def slow(problem):
        time.sleep(0.2)
        return suitable(problem)

    monkeypatch.setattr(auto, "suitable", slow)
    assert suitable(MinTrace(np.eye(2))) is not None
    rows = answer(run, "compare", "one.npy")[1]["layers"][0]["scalings"]
    assert rows[-1]["seconds"] < 0.2


def test_compare_draws_and_speaks(run):
    code, out, _ = run("compare", "net.npz", "--plot", "figure.png")
    assert code == 0
    assert Path("figure.png").read_bytes().startswith(b"\x89PNG")
    assert "Proven: no T beats the trace of min_trace" in out
    assert "Figure: figure.png" in out


# -------------------------------------------------------------------------------------------- scale, verify


def test_scale_then_verify_then_check(run):
    code, out, _ = run("scale", "net.npz", "-o", "scaled.npz")
    assert code == 0
    assert "sdplip verify scaled.certificate.json scaled.npz" in out
    assert run("verify", "scaled.certificate.json", "scaled.npz")[0] == 0
    code, document = answer(run, "check", "scaled.npz")
    assert (code, document["verdict"]) == (0, "satisfied")
    assert [layer["name"] for layer in document["layers"]] == ["fc1.weight", "fc2.weight"]
    with np.load("scaled.npz") as stored:
        assert stored["fc1.weight"].dtype == np.float32


def test_scale_json(run):
    code, document = answer(run, "scale", "net.npz", "--scaling", "aol", "-o", "scaled.npz")
    assert (code, list(document)) == (0, ["file", "output", "layers", "certificate", "verify"])
    assert document["certificate"] == "scaled.certificate.json"
    keys = ["name", "shape", "form", "scaling", "trace", "c", "c_lower", "bound", "seconds"]
    assert [list(layer) for layer in document["layers"]] == [keys] * 2
    assert [(layer["name"], layer["scaling"]) for layer in document["layers"]] == [
        ("fc1.weight", "aol"),
        ("fc2.weight", "aol"),
    ]
    proven = answer(run, "verify", document["certificate"], "scaled.npz")[1]
    assert [e["claim"]["c"] for e in proven["claims"]] == [layer["c"] for layer in document["layers"]]


def test_scale_does_not_overwrite(run):
    assert run("scale", "net.npz", "--scaling", "aol", "-o", "scaled.npz")[0] == 0
    before = Path("scaled.npz").read_bytes()
    code, _, err = run("scale", "net.npz", "--scaling", "spectral", "-o", "scaled.npz")
    assert (code, Path("scaled.npz").read_bytes()) == (2, before)
    assert "--force" in err
    assert run("scale", "net.npz", "--scaling", "spectral", "-o", "scaled.npz", "--force")[0] == 0
    assert Path("scaled.npz").read_bytes() != before
    code, _, err = run("scale", "net.npz", "--scaling", "aol", "-o", "net.npz", "--force")
    assert code == 2
    assert "is the input" in err


def test_scale_residual_keeps_the_weight(run):
    assert run("scale", "net.npz", "--scaling", "aol", "--form", "residual", "-o", "scaled.npz")[0] == 0
    with np.load("net.npz") as before, np.load("scaled.npz") as after:
        assert (before["fc1.weight"] == after["fc1.weight"]).all()
        assert after["fc1.weight.t"].shape == (5,)


@pytest.fixture
def certified(run):
    """A folder with `net.npz` and its certificate `C.json`."""
    assert run("check", "net.npz", "--scaling", "aol", "--certificate", "C.json")[0] == 0
    return run


def test_verify_json(certified):
    code, document = answer(certified, "verify", "C.json", "net.npz")
    assert code == 0
    assert list(document) == ["certificate", "file", "proven", "reason", "assumed", "left_out", "claims"]
    assert (document["proven"], document["assumed"]) == (True, [])
    assert document["left_out"] == [{"array": "fc1.bias", "why": "no claim names it"}]
    assert [list(entry) for entry in document["claims"]] == [["claim", "words", "proven", "reason"]] * 2
    claim = document["claims"][0]["claim"]
    assert list(claim) == ["kind", "layer", "form", "c", "c_lower", "t", "geometry"]
    assert (claim["kind"], claim["layer"], claim["form"], claim["geometry"]) == (
        "condition",
        "fc1.weight",
        "linear",
        None,
    )
    _, checked = answer(certified, "check", "net.npz", "--scaling", "aol")
    assert [(e["claim"]["c"], e["claim"]["c_lower"]) for e in document["claims"]] == [
        (layer["c"], layer["c_lower"]) for layer in checked["layers"]
    ]


def test_show_says_the_claims_and_proves_nothing(certified):
    code, out, _ = certified("show", "C.json")
    assert code == 0 and "`fc1.weight`" in out and "Nothing above is checked" in out
    code, document = answer(certified, "show", "C.json")
    assert (code, list(document)) == (0, ["certificate", "sha256", "made", "reading", "claims"])
    assert document["reading"] == {"kind": "layers"}
    assert [entry["claim"]["layer"] for entry in document["claims"]] == ["fc1.weight", "fc2.weight"]
    refusal(certified, "show", "net.npz")


def test_verify_catches_a_flipped_bit_of_the_weight(certified):
    with np.load("net.npz") as stored:
        arrays = {name: stored[name].copy() for name in stored.files}
    arrays["fc1.weight"].view(np.uint32)[2, 1] ^= 1
    np.savez("net.npz", **arrays)
    code, document = answer(certified, "verify", "C.json", "net.npz")
    assert (code, document["proven"]) == (1, False)
    assert [entry["proven"] for entry in document["claims"]] == [False, False]
    assert "SHA-256" in document["reason"]


@pytest.mark.parametrize("change", ["t", "length of t", "c", "c_lower", "layer", "form", "witness"])
def test_verify_catches_an_altered_claim(certified, change):
    document = json.loads(Path("C.json").read_text())
    claim = document["claims"][0]["claim"]
    claim |= {
        "t": {"t": [0.9 * t for t in claim["t"]]},
        "length of t": {"t": claim["t"][:-1]},
        "witness": {},
        "c": {"c": claim["c_lower"] * (1 - 1e-9), "c_lower": claim["c_lower"] * (1 - 1e-9)},
        "c_lower": {"c_lower": claim["c"] * (1 + 1e-9)},
        "layer": {"layer": "fc2.weight"},
        "form": {"form": "residual"},
    }[change]
    if change == "witness":
        document["claims"][0]["proof"]["data"]["witness"][:2] = [1.0, 0.0]
    Path("C.json").write_text(json.dumps(document))
    code, out, _ = certified("verify", "C.json", "net.npz")
    assert code == 1
    assert "NOT PROVEN" in out
    assert "1 of 2 claims" in out


def test_verify_says_which_layers_no_claim_is_about(run):
    arguments = ("--layer", "fc2.weight", "--certificate", "C.json")
    assert run("check", "net.npz", *arguments)[0] == 0
    code, document = answer(run, "verify", "C.json", "net.npz")
    assert (code, [entry["array"] for entry in document["left_out"]]) == (0, ["fc1.weight", "fc1.bias"])
    assert "No claim is about:" in run("verify", "C.json", "net.npz")[1]


@pytest.mark.parametrize("option", ["--transpose", "--no-transpose"])
def test_a_certificate_says_which_way_the_weights_act(run, option):
    """`verify` needs to be told nothing: the reading is part of the certificate, and is said in words."""
    code, checked = answer(run, "check", "net.npz", option, "--certificate", "C.json")
    assert code == 1
    code, document = answer(run, "verify", "C.json", "net.npz")
    assert (code, len(document["claims"])) == (0, 2)
    assert len(document["claims"][0]["claim"]["t"]) == (5 if option == "--transpose" else 4)
    assert ("(in, out)" in document["assumed"][0]) is (option == "--transpose")
    assert document["claims"][0]["claim"]["c"] == checked["layers"][0]["c"]
    made = json.loads(Path("C.json").read_text())
    made["file"]["reading"]["transpose"] = option != "--transpose"
    Path("C.json").write_text(json.dumps(made))
    assert run("verify", "C.json", "net.npz")[0] == 1


def test_a_certificate_of_a_convolution_says_how_it_moves(run):
    moves = (
        "--image-size",
        "5,6",
        "--padding",
        "0",
        "--padding-mode",
        "zeros",
        "--groups",
        "2",
        "--stride",
        "2",
    )
    assert run("check", "kernel.npy", *moves, "--certificate", "C.json")[0] == 1
    code, document = answer(run, "verify", "C.json", "kernel.npy")
    geometry = document["claims"][0]["claim"]["geometry"]
    assert code == 0
    assert {key: geometry[key] for key in ("image_size", "stride", "padding", "groups")} == {
        "image_size": [5, 6],
        "stride": [2, 2],
        "padding": [0, 0],
        "groups": 2,
    }
    assert "images of (5, 6) pixels" in document["claims"][0]["words"]
    made = json.loads(Path("C.json").read_text())
    for key, value in (("stride", [1, 1]), ("groups", 1), ("image_size", None)):
        other = json.loads(json.dumps(made))
        other["claims"][0]["claim"]["geometry"][key] = value
        Path("C.json").write_text(json.dumps(other))
        assert run("verify", "C.json", "kernel.npy")[0] == 1, key


def test_the_geometry_of_a_graph_is_not_overridden_in_a_certificate(run):
    onnx = pytest.importorskip("onnx")
    K = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "K"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])],
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2, 7, 7])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(K, "K")],
    )
    onnx.save(onnx.helper.make_model(graph), "net.onnx")
    code, document = answer(run, "check", "net.onnx", "--certificate", "C.json")
    assert code == 1 and answer(run, "verify", "C.json", "net.onnx")[1]["proven"]
    claim = json.loads(Path("C.json").read_text())["claims"][0]["claim"]
    assert (claim["geometry"]["stride"], claim["c"]) == ([2, 2], document["layers"][0]["c"])
    Path("C.json").unlink()
    code, other = answer(run, "check", "net.onnx", "--stride", "1")
    assert code == 1 and other["layers"][0]["c"] != document["layers"][0]["c"]
    message = refusal(run, "check", "net.onnx", "--stride", "1", "--certificate", "C.json")
    assert "--stride: the file says (2, 2)" in message and not Path("C.json").exists()


def test_verify_refuses_what_is_no_certificate(certified):
    code, out, _ = certified("verify", "C.json", "one.npy")
    assert code == 1 and "`one.npy` is not the file that was certified" in out
    text = Path("C.json").read_text()
    Path("C.json").write_text(text[:-40])
    refusal(certified, "verify", "C.json", "net.npz")
    for schema in ("sdplip-certificate/1", "sdplip-network-certificate/1"):
        Path("C.json").write_text(text.replace("sdplip-certificate/2", schema))
        assert "older version" in refusal(certified, "verify", "C.json", "net.npz")
    refusal(certified, "verify", "none.json", "net.npz")
    Path("C.json").write_text(text)
    refusal(certified, "verify", "C.json", "none.npz")


# ------------------------------------------------------------------------------------------------ bad input


def refusal(run, *arguments):
    """The one sentence that a refused command says."""
    code, out, err = run(*arguments)
    assert code == 2
    assert not out
    assert "Traceback" not in err
    lines = [line for line in err.strip().splitlines() if line]
    assert lines[-1].startswith("Error: ")
    assert all(line.startswith(("Usage: ", "Try ")) for line in lines[:-1]), err
    return lines[-1]


def _pickled_npy():
    np.save("bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _pickled_pt():
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.nn.Linear(2, 2)}, "bad.pt")


def _matlab_object():
    from scipy.io import savemat
    from scipy.io.matlab import MatlabObject

    fields = np.zeros((1, 1), dtype=[("W", object)])
    fields[0, 0]["W"] = np.eye(2)
    savemat("bad.mat", {"net": MatlabObject(fields, "network")})


def _truncated():
    np.savez("bad.npz", W=np.random.default_rng(0).normal(size=(50, 50)))
    whole = Path("bad.npz").read_bytes()
    Path("bad.npz").write_bytes(whole[: len(whole) // 2])


def _mislabelled():
    np.save("bad.npy", np.eye(2))
    Path("bad.npy").rename("bad.mat")


def _other_zip():
    with zipfile.ZipFile("bad.npz", "w") as archive:
        archive.writestr("readme.txt", "no weights")


BAD_FILES = {
    "NaN": (lambda: np.save("bad.npy", np.array([[1.0, np.nan]])), "not finite"),
    "infinity": (lambda: np.save("bad.npy", np.array([[1.0, np.inf]])), "not finite"),
    "empty array": (lambda: np.save("bad.npy", np.zeros((0, 3))), "empty"),
    "1-D": (lambda: np.save("bad.npy", np.ones(3)), "no layer"),
    "complex": (lambda: np.save("bad.npy", np.array([[1j]])), "complex"),
    "zero": (lambda: np.save("bad.npy", np.zeros((2, 2))), "zero everywhere"),
    "empty file": (lambda: Path("bad.npy").write_bytes(b""), "empty"),
    "truncated": (_truncated, "truncated"),
    "mislabelled": (_mislabelled, "named .mat"),
    "pickle in .npy": (_pickled_npy, "pickle"),
    "pickle in .pt": (_pickled_pt, "bad.pt"),
    "MATLAB object": (_matlab_object, "MATLAB class object"),
    "another zip": (_other_zip, "neither NumPy arrays nor a torch state dict"),
    "directory": (lambda: Path("bad.npy").mkdir(), "directory"),
    "unknown format": (lambda: Path("bad.txt").write_text("W = 3"), "no format"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_refused_in_one_sentence(run, case):
    make, reason = BAD_FILES[case]
    make()
    (path,) = Path().glob("bad.*")
    assert reason in refusal(run, "check", path.name)


BAD_VECTORS = {
    "wrong length": (np.ones(2), "3 columns"),
    "zero": (np.array([1.0, 0.0, 1.0]), "column 1 has t = 0.0"),
    "negative": (np.array([1.0, 1.0, -2.0]), "column 2 has t = -2.0"),
    "NaN": (np.array([np.nan, 1.0, 1.0]), "column 0 has t = nan"),
    "matrix": (np.eye(3), "must be a vector"),
    "complex": (np.ones(3) * 1j, "bad.npy"),
}


@pytest.mark.parametrize("case", BAD_VECTORS)
def test_bad_vectors_are_refused_in_one_sentence(run, case):
    vector, reason = BAD_VECTORS[case]
    np.save("bad.npy", vector)
    assert reason in refusal(run, "check", "one.npy", "--t", "bad.npy")
    refusal(run, "check", "one.npy", "--q", "bad.npy")


BAD_OPTIONS = {
    "missing file": (["check", "none.npz"], "no file `none.npz`"),
    "missing layer": (["check", "net.npz", "--layer", "fc1.wieght"], "`fc1.weight`"),
    "unknown scaling": (["check", "net.npz", "--scaling", "best"], "no scaling `best`"),
    "order of multi_step": (["check", "net.npz", "--scaling", "multi_step:0"], "from 1 to 64"),
    "two scalings": (["check", "one.npy", "--scaling", "aol", "--t", "ones.npy"], "Use one of them"),
    "tolerance": (["check", "net.npz", "--tol", "nan"], "finite number"),
    "reflect": (["check", "kernel.npy", "--padding-mode", "reflect"], "stretch distances"),
    "replicate": (["compare", "kernel.npy", "--padding-mode", "replicate"], "stretch distances"),
    "image size": (["check", "kernel.npy", "--image-size", "8,8,8"], "`image_size`"),
    "not a number": (["check", "kernel.npy", "--image-size", "big"], "whole number"),
    "groups": (["check", "kernel.npy", "--groups", "3"], "`groups` must divide"),
    "geometry of a matrix": (["check", "one.npy", "--stride", "2"], "no chosen layer is a convolution"),
    "certificate name": (["check", "net.npz", "--certificate", "net.npz"], "must end in .json"),
    "no such folder": (["check", "net.npz", "--certificate", "none/C.json"], "does not exist"),
    "plot name": (["compare", "net.npz", "--plot", "figure.jpg"], "must end in .png or .pdf or .svg"),
    "unknown solver": (["compare", "net.npz", "--solver", "nosuchsolver"], "NOSUCHSOLVER"),
    "device of a solver": (["compare", "net.npz", "--solver", "scs", "--device", "cuda"], "Drop one"),
    "volume of a kernel": (["compare", "kernel.npy", "--objective", "logdet"], "matrices only"),
    "vector of no layer": (["check", "net.npz", "--t", "two.npz"], "no `t` is given"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_refused_in_one_sentence(run, case):
    np.savez("two.npz", a=np.ones(4), b=np.ones(5))
    arguments, reason = BAD_OPTIONS[case]
    assert reason in refusal(run, *arguments)


def test_a_refused_command_leaves_the_weights_alone(run):
    before = Path("net.npz").read_bytes()
    refusal(run, "check", "net.npz", "--certificate", "net.npz")
    refusal(run, "scale", "net.npz", "-o", "net.npz", "--force")
    assert Path("net.npz").read_bytes() == before


def test_other_errors_of_the_system_are_one_sentence_too(run, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied", "C.json")

    monkeypatch.setattr("sdplip.writing.tempfile.mkstemp", denied)
    assert "`C.json`: Permission denied" in refusal(run, "check", "net.npz", "--certificate", "C.json")


def test_interruption_is_exit_130(run, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdplip.reports.check", interrupt)
    code, _, err = run("check", "net.npz")
    assert (code, err.strip()) == (130, "Interrupted.")


# --------------------------------------------------------------------------------- progress and import time


def test_no_progress_bar_without_a_terminal(capsys):
    from sdplip.progress import progress_bar

    with progress_bar() as watch:
        assert watch is None
    assert not capsys.readouterr().err


def test_progress_bar_appears_after_two_seconds(monkeypatch):
    import io

    from sdplip.progress import progress_bar
    from sdplip.reports import Layer
    from sdplip.solvers import Progress
    from sdplip.weights import Weight

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for seconds, shown in ((1.0, False), (3.0, True)):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("TERM", "xterm")
        with progress_bar() as watch:
            assert watch is not None
            watch(Layer(Weight("fc1", np.eye(2))), Progress(7, 2.0, 1.9, 0.05, seconds))
            watch(Layer(Weight("fc2", np.eye(2))), Progress(8, 2.0, -np.inf, np.inf, seconds))
        assert ("gap" in terminal.getvalue()) == shown


def python(code, *arguments, cwd=None):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("torch", "cvxpy", "scs", "matplotlib", "scipy", "numpy", "rich")


def test_help_imports_nothing_heavy():
    code = "import sys, sdplip.cli; print(*sys.modules)"
    assert not {name.split(".")[0] for name in python(code).split()} & set(HEAVY)
    assert not {name.split(".")[0] for name in python(code.replace(".cli", "")).split()} & set(HEAVY)


@pytest.mark.usefixtures("certified")
def test_verify_uses_only_the_readers_and_the_kernel():
    code = (
        "import sys; from sdplip.cli import main\n"
        "main(['verify', 'C.json', 'net.npz'], standalone_mode=False)\n"
        "print('MODULES', *sys.modules)"
    )
    out, modules = python(code, cwd=Path.cwd()).split("MODULES")
    assert "2 of 2 claims" in out
    forbidden = ("torch", "cvxpy", "scipy.optimize", "sdplip.scalings", "sdplip.solvers", "sdplip.reports")
    assert not [name for name in modules.split() if name.startswith(forbidden)]


def test_a_kernel_is_not_reshaped():
    import sdplip

    with pytest.raises(sdplip.errors.InvalidWeight, match=r"`certify_convolution`: the norm of the reshaped"):
        sdplip.certify(np.ones((2, 3, 3, 3)), np.ones(3))
    with pytest.raises(sdplip.errors.InvalidWeight, match=r"Certify a matrix with `certify`"):
        sdplip.certify_convolution(np.ones((2, 3)), np.ones(3))


def test_names_of_the_package():
    import sdplip

    for name in sdplip.__all__:
        assert getattr(sdplip, name) is not None
        assert name in dir(sdplip)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sdplip.nothing


# ------------------------------------------------------------------------------------------ published files


def test_published_matrices(run, benchmark_files):
    for file in ("lipsdp_mnist_weights.mat", "eclipse_genlocal_lyr5n10.mat", "acasxu_1_1.nnet"):
        code, document = answer(run, "check", benchmark_files / file)
        assert code == 1
        assert all(0 < layer["c_lower"] <= layer["c"] for layer in document["layers"])
        assert all(layer["c"] / layer["c_lower"] - 1 < 1e-9 for layer in document["layers"])
        assert answer(run, "check", benchmark_files / file, "--scaling", "aol")[0] == 0


def test_published_convolutions(run, benchmark_files):
    file = benchmark_files / "glipsdp_digits_cnn2_seed0.mat"
    arguments = ("--transpose", "--layer", "conv1_weight", "--scaling", "aol")
    code, document = answer(run, "check", file, *arguments, "--certificate", "C.json")
    assert (code, document["layers"][0]["kind"], document["layers"][0]["shape"]) == (
        0,
        "conv2d",
        [8, 1, 3, 3],
    )
    assert answer(run, "verify", "C.json", file)[0] == 0


def test_published_comparison(run, benchmark_files):
    _, document = answer(
        run, "compare", benchmark_files / "lipsdp_mnist_weights.mat", "--layer", "weights[1]"
    )
    *closed, best = document["layers"][0]["scalings"]
    assert best["gap"] < 1e-6
    assert all(row["trace"] > 1.05 * best["trace"] for row in closed)


def test_the_file_that_scale_writes_serves_as_scaling_of_the_original(tmp_path):
    """`--t` reads `NAME.t` of a file that also holds the rescaled weights."""
    W = np.random.default_rng(0).normal(size=(6, 9))
    np.savez(tmp_path / "net.npz", fc=W)
    runner = CliRunner()
    scaled = tmp_path / "scaled.npz"
    done = runner.invoke(main, ["scale", str(tmp_path / "net.npz"), "--scaling", "aol", "-o", str(scaled)])
    assert done.exit_code == 0, done.output
    done = runner.invoke(main, ["check", str(tmp_path / "net.npz"), "--t", str(scaled)])
    assert done.exit_code == 0, done.output


def test_a_data_set_is_no_network(run):
    images = np.zeros((5, 8, 8), np.uint8)
    np.savez("data.npz", train_images=images, train_labels=np.zeros(5, int), test_images=images)
    for command in ("check", "compare", "bound"):
        code, _, err = run(command, "data.npz")
        assert code == 2 and "data set, not a network" in err and "Traceback" not in err
    np.savez("test.npz", images=images, labels=np.zeros(5, int))
    code, _, err = run("train", "--data", "test.npz", "--out", "RUN")
    assert code == 2 and "sdplip certify MODEL" in err and not Path("RUN").exists()
