"""`sdplip bound`: exact JSON keys, known values, refusals in one sentence, and certificates that `sdplip verify` proves again."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.commands import answer, check_what_verify_loads, invoke

KEYS = [
    "file",
    "method",
    "bound",
    "lower",
    "lower_proven",
    "sdp_lower",
    "gap",
    "seconds",
    "order",
    "row",
    "note",
    "rigorous",
    "output_pair",
    "output_norm",
    "words",
    "expands",
    "witness",
    "tried",
    "methods",
    "assumed",
    "left_out",
    "checked",
    "certificate",
    "verify",
    "figure",
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `sdplip ...` in a folder with networks: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    W1, W2, W3 = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=(6, 5)), rng.normal(size=(3, 6))
    np.savez("net.npz", **{"fc1.weight": W1, "fc1.bias": np.ones(5), "fc2.weight": W2, "fc3.weight": W3})
    np.savez("turned.npz", a=W1.T, b=W2.T, c=W3.T)
    np.savez("altered.npz", **{"fc1.weight": np.nextafter(W1, 9), "fc2.weight": W2, "fc3.weight": W3})
    np.savez("kernel.npz", conv=rng.normal(size=(4, 2, 3, 3)), fc=np.eye(4))
    np.savez("norm.npz", **{"fc1.weight": W1, "bn.weight": np.ones(5), "fc2.weight": W2})
    np.savez("vector.npz", w1=W1, w2=np.ones(5))
    np.savez("sqrt13.npz", w1=np.array([[-2.0, 3], [-2, 2]]), w2=np.array([[-1.0, 1]]))

    return invoke


def save_onnx(path: str, activation: str, last: str = "") -> None:
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(1)
    arrays = {"a": rng.normal(size=(4, 5)), "b": rng.normal(size=(5, 3))}
    nodes = [("MatMul", ["x", "a"], "h"), (activation, ["h"], "g"), ("MatMul", ["g", "b"], "y")]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, names, [out]) for kind, names, out in nodes]
        + ([onnx.helper.make_node(last, ["y"], ["z"])] if last else []),
        "net",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, [1, 4])],
        [onnx.helper.make_tensor_value_info("z" if last else "y", onnx.TensorProto.DOUBLE, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(onnx.helper.make_model(graph), path)


# ---------------------------------------------------------------------------------------------------- answers


def test_json_has_exactly_the_documented_keys(run):
    code, document = answer(run, "bound", "net.npz")
    assert (code, list(document)) == (0, KEYS)
    assert (document["file"], document["order"]) == ("net.npz", 11)
    assert document["method"] in ("lipsdp-neuron", "pairs")
    assert (document["rigorous"], document["certificate"], document["note"]) == (True, None, "")
    assert document["lower"] <= document["sdp_lower"] <= document["bound"]
    assert document["gap"] < 1e-6  # the interior-point method stops at 1e-8 of the square
    assert [list(one) for one in document["tried"]] == [["method", "bound", "seconds", "note"]] * len(
        document["tried"]
    )
    given = {one["method"]: one["bound"] for one in document["tried"] if one["bound"] is not None}
    assert {"product", "composite", "lipsdp-neuron"} <= set(given)
    assert min(given.values()) == document["bound"]
    assert all(one["note"] for one in document["tried"] if one["bound"] is None)
    assert answer(run, "bound", "net.npz", "--method", "product")[1]["gap"] is None


def test_the_methods_are_those_of_the_library():
    from sdplip.bounds.methods import METHODS
    from sdplip.cli import question

    assert set(question.METHODS) == {"auto", *METHODS} - {"lipsdp-network"}
    assert question.METHODS[0] == "auto" and set(question.ALONE) <= {"auto", *METHODS}


def test_text_and_json_name_outputs_region_and_norm(run):
    for more, claim, line in (
        ([], "f is Lipschitz", "for all x, y, in Euclidean norms"),
        (["--output-pair", "2,0"], "output 2 minus output 0 is", "for g = output 2 minus output 0"),
        (["--output-norm", "linf"], "largest entry of the output", "to the largest output, which is output"),
        (["--ball", "0,2"], "in the ball of radius 2.0", "x, y in the ball of radius 2.0 around 0.0"),
        (["--box", "0,1"], "in the box from 0.0", "x, y in the box from 0.0 in all 4 coordinates to 1.0"),
    ):
        assert claim in answer(run, "bound", "net.npz", *more, "--method", "product")[1]["words"]
        code, out, _ = run("bound", "net.npz", *more, "--method", "product")
        assert code == 0 and line in out


def test_compare_shows_all_methods_from_product_to_lipsdp(run):
    _, document = answer(run, "bound", "net.npz", "--compare")
    rows = document["methods"]
    names = [row["method"].split("-")[0] for row in rows]
    assert sorted(names) == [
        "composite",
        "lipsdp",
        "lipsdp",
        "pairs",
        "product",
        "reference",
        "riccati",
        "riccati",
    ]
    assert names[0] == "product" and list(document) == KEYS
    assert document["bound"] == min(row["bound"] for row in rows)
    value = {row["method"]: row["bound"] for row in rows}
    assert value["product"] >= value["composite"] and value["lipsdp-layer"] >= value["lipsdp-neuron"]
    assert len({row["lower"] for row in rows}) == 1
    code, out, _ = run("bound", "net.npz", "--compare")
    assert code == 0 and all(out.count(f"\n {row['method']} ") == 1 for row in rows)


def test_compare_on_images_has_their_own_methods(run, monkeypatch):
    rng = np.random.default_rng(0)
    np.savez("images.npz", a=rng.normal(size=(2, 1, 3, 3)), b=rng.normal(size=(2, 2, 3, 3)))
    asked = ("bound", "images.npz", "--image-size", "5,5", "--compare")
    dense = {row["method"].split("-")[0]: row["bound"] for row in answer(run, *asked)[1]["methods"]}
    assert {"product", "lipsdp", "frequency", "banded"} <= set(dense)
    assert dense["banded"] <= 1.01 * dense["lipsdp"]
    changed(monkeypatch, "lipsdp-neuron", work=lambda _: np.inf)  # too large for all neurons at once
    code, document = answer(run, *asked)
    large = {row["method"].split("-")[0]: row["bound"] for row in document["methods"]}
    assert code == 0 and {"product", "frequency", "banded"} <= set(large) and "lipsdp" not in large
    assert large["banded"] == pytest.approx(dense["banded"], rel=1e-9) and large["banded"] < large["product"]


def changed(monkeypatch, name, **fields):
    """For this test, a method of `sdplip.bounds` is another one."""
    from sdplip.bounds import choose, methods, run

    table = {**methods.METHODS, name: replace(methods.METHODS[name], **fields)}
    for module in (choose, methods, run):
        monkeypatch.setattr(module, "METHODS", table)


def test_an_interrupt_keeps_the_best_so_far(run, monkeypatch):
    """Ctrl-C in a slow method: what was proven before it is the answer, and stands in the certificate."""

    def slow(_):
        raise KeyboardInterrupt

    changed(monkeypatch, "lipsdp-neuron", propose=slow)
    code, found = answer(run, "bound", "net.npz", "--certificate", "C.json")
    assert code == 0 and "interrupted" in found["note"] and found["method"] in ("product", "composite")
    assert found["bound"] == min(one["bound"] for one in found["tried"] if one["bound"] is not None)
    assert answer(run, "verify", "C.json", "net.npz")[1]["proven"]
    assert "Interrupted; the best bound until then." in run("bound", "net.npz")[1]
    code, found = answer(run, "bound", "net.npz", "--compare")
    assert code == 0 and found["methods"][0]["method"] == "product"
    assert "interrupted in lipsdp-neuron" in found["methods"][0]["note"]
    code, _, err = run("bound", "net.npz", "--method", "lipsdp-neuron")  # nothing is proven yet
    assert (code, err) == (130, "Interrupted.\n")
    code, found = answer(run, "bound", "net.npz", "--ignore", "fc1.bias", "--box", "0,1", "--pieces", "4")
    assert code == 0 and "interrupted" in found["note"]


def test_auto_keeps_to_its_time(run):
    """Before the first second is over nothing but the product is begun that takes long; the note says what was left out."""
    code, found = answer(run, "bound", "net.npz", "--seconds", "1e-9")
    assert (code, found["method"]) == (0, "product")
    assert {one["note"] for one in found["tried"][1:]} == {"left out: the time is over"}
    assert "Not taken: " in run("bound", "net.npz", "--seconds", "1e-9")[1]
    code, found = answer(
        run, "bound", "net.npz", "--ignore", "fc1.bias", "--box", "0,1", "--pieces", "4", "--seconds", "1e-9"
    )
    assert code == 0 and found["note"] == "the time was over at 1 of 4 pieces"


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_compare_draws_every_method(run, suffix, start):
    code, out, _ = run("bound", "net.npz", "--compare", "--plot", f"bounds{suffix}")
    assert code == 0 and f"Figure: bounds{suffix}" in out
    assert Path(f"bounds{suffix}").read_bytes().startswith(start)


def test_the_figure_shows_bounds_and_lower_side(run):
    from sdplip import plot
    from sdplip.bounds.choose import bound
    from sdplip.network.read.file import read_file

    assert run("bound", "net.npz", "--method", "product")[0] == 0
    network = read_file("net.npz").network
    results = [bound(network, method) for method in ("product", "riccati", "lipsdp-neuron")]
    (axes,) = plot.draw_bounds(results, "net").axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == [r.method for r in results]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == [r.bound for r in results]
    lower = max(r.lower for r in results)
    assert any(list(line.get_xdata()) == [lower, lower] for line in axes.lines)
    shown = [float(text.get_text().split()[0]) for text in axes.texts[:3]]
    assert all(value <= text <= value * (1 + 1e-4) for value, text in zip(dots, shown, strict=True))
    unknown = [replace(r, lower=0.0) for r in results]  # no Jacobian is known: no line
    assert len(plot.draw_bounds(unknown, "net").axes[0].lines) == len(axes.lines) - 1
    zero = [replace(r, lower=0.0, bound=0.0) for r in results]
    assert plot.draw_bounds(zero, "net").axes[0].get_xscale() == "linear"


def test_orientation_and_layers_are_chosen(run):
    values = [
        answer(run, "bound", *arguments)[1]["bound"]
        for arguments in (["net.npz"], ["turned.npz", "--transpose"])
    ]
    assert values[0] == values[1]
    first_two = answer(run, "bound", "net.npz", "--layer", "fc1.weight", "--layer", "fc2.weight")[1]
    assert first_two["order"] == 5


def test_slopes_scale_the_bound(run):
    """One hidden layer with slopes in [0, 1/4] has a quarter of the constant."""
    relu, sigmoid, slopes = (
        answer(run, "bound", "sqrt13.npz", *more)[1]["bound"]
        for more in ([], ["--activation", "sigmoid"], ["--slopes", "0,0.25"])
    )
    assert 13**0.5 <= relu == pytest.approx(13**0.5, rel=1e-6)
    assert sigmoid == slopes == pytest.approx(relu / 4, rel=1e-6)  # the gap of the solver


def test_output_pair_is_below_root_two_times_all_outputs(run):
    whole, pair = (
        answer(run, "bound", "net.npz", *more)[1]["bound"] for more in ([], ["--output-pair", "0,2"])
    )
    assert pair <= 2**0.5 * whole


def test_onnx_brings_its_own_activations(run):
    save_onnx("relu.onnx", "Relu")
    save_onnx("sigmoid.onnx", "Sigmoid")
    relu, sigmoid = (
        answer(run, "bound", f"{kind}.onnx", "--method", "product")[1] for kind in ("relu", "sigmoid")
    )
    assert sigmoid["bound"] == pytest.approx(relu["bound"] / 4, rel=1e-12)  # roundings of a product


def test_biases_count_where_they_matter(run):
    """tanh is flat where a bias of 20 puts it: a Jacobian at bias zero would be no lower bound."""
    W = np.eye(2)
    np.savez("flat.npz", w1=W, b1=np.full(2, 1e9), w2=W, b2=np.zeros(2))
    np.savez("unknown.npz", w1=W, w2=W, other=np.ones(7))
    flat = answer(run, "bound", "flat.npz", "--activation", "tanh", "--method", "product")[1]
    assert flat["lower"] < 1e-290
    assert answer(run, "bound", "unknown.npz", "--activation", "tanh", "--method", "product")[1]["lower"] == 0
    assert answer(run, "bound", "unknown.npz", "--method", "product")[1]["lower"] == 1


def test_what_was_assumed_is_said_with_the_bound(run):
    asked = ("bound", "net.npz", "--method", "product")
    _, document = answer(run, *asked)
    assert any("relu stands between them, which is assumed" in sentence for sentence in document["assumed"])
    assert document["left_out"] == []
    code, out, _ = run(*asked)
    assert code == 0 and "which is assumed" in out and "as it was read above" in out
    chosen = answer(run, *asked, "--layer", "fc1.weight")[1]
    assert {entry["array"] for entry in chosen["left_out"]} == {"fc2.weight", "fc3.weight"}
    assert run("bound", "norm.npz")[0] == 2
    assert answer(run, "bound", "norm.npz", "--ignore", "bn.weight")[1]["left_out"][0]["array"] == "bn.weight"


def test_kernels_move_as_was_said_layer_by_layer(run):
    rng = np.random.default_rng(0)
    np.savez(
        "cnn.npz", **{"a.weight": rng.normal(size=(2, 1, 3, 3)), "b.weight": rng.normal(size=(2, 2, 3, 3))}
    )
    Path("g.toml").write_text("image_size = 6\n[b]\nstride = 2\n")
    asked = ("bound", "cnn.npz", "--method", "product")
    same = answer(run, *asked, "--image-size", "6")[1]
    named = answer(run, *asked, "--image-size", "6", "--stride", "b=2", "--certificate", "C.json")[1]
    table = answer(run, *asked, "--geometry", "g.toml")[1]
    assert named["bound"] == pytest.approx(table["bound"], rel=1e-8)
    assert named["bound"] < same["bound"]
    assert answer(run, "verify", "C.json", "cnn.npz")[0] == 0
    code, _, err = run(*asked, "--image-size", "6", "--stride", "c=2")
    assert code == 2 and "no kernel `c`" in err


# ---------------------------------------------------------------------------------------------------- refusals

REFUSED = {
    "convolution": (["kernel.npz"], "--image-size H,W"),
    "coupled": (["sqrt13.npz", "--method", "lipsdp-network"], "sqrt(13)"),
    "normalisation": (["norm.npz"], "`bn.weight`"),
    "layer as a vector": (["vector.npz"], "`w2`"),
    "orientation": (["turned.npz"], "transpose"),
    "activation": (["net.npz", "--activation", "swoosh"], "no activation `swoosh`"),
    "two activations": (["net.npz", "--activation", "relu", "--slopes", "0,1"], "Use one of them"),
    "slopes": (["net.npz", "--slopes", "0"], "two finite numbers"),
    "infinite slope": (["net.npz", "--slopes", "0,inf"], "two finite numbers"),
    "slopes out of order": (["net.npz", "--slopes", "1,0"], "alpha <= beta"),
    "pair": (["net.npz", "--output-pair", "0,3"], "two different outputs"),
    "pair of one": (["net.npz", "--output-pair", "1"], "two whole numbers"),
    "unknown device": (["net.npz", "--device", "gpu"], "the devices are cpu, cuda and cuda:N"),
    "no such device": (["net.npz", "--device", "cuda:99"], "torch sees"),
    "norm of a pair": (["net.npz", "--output-pair", "0,1", "--output-norm", "linf"], "one number"),
    "device of the product": (["net.npz", "--method", "product", "--device", "cuda"], "not for this one"),
    "time": (["net.npz", "--seconds", "0"], "--seconds"),
    "pieces of everything": (["net.npz", "--pieces", "2"], "Add --box, --ball or --region"),
    "input of a weight file": (["net.npz", "--input", "x"], "ONNX"),
    "missing property": (["net.npz", "--region", "none.vnnlib"], "none.vnnlib"),
    "method and compare": (["net.npz", "--method", "product", "--compare"], "Drop --method"),
    "plot of one method": (["net.npz", "--plot", "b.png"], "Add --compare"),
    "plot of a strange kind": (["net.npz", "--compare", "--plot", "b.gif"], "must end in"),
    "unknown method": (["net.npz", "--method", "best"], "lipsdp-neuron"),
    "missing file": (["none.npz"], "no file `none.npz`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(run, case):
    arguments, reason = REFUSED[case]
    code, out, err = run("bound", *arguments)
    last = err.strip().splitlines()[-1]
    assert (code, out) == (2, "")
    assert last.startswith("Error: ") and reason in last
    assert not Path("C.json").exists()


def test_options_that_contradict_a_graph_are_refused(run):
    save_onnx("net.onnx", "Relu")
    for more in (["--activation", "tanh"], ["--slopes", "0,1"], ["--transpose"], ["--layer", "a"]):
        assert run("bound", "net.onnx", *more)[0] == 2


# ---------------------------------------------------------------------------------------------------- certificates


def certified(run, file, *more):
    """The document of the certificate that a bound writes."""
    code, found = answer(run, "bound", file, *more, "--certificate", "C.json")
    assert (code, found["certificate"]) == (0, "C.json")
    document = json.loads(Path("C.json").read_text())
    (entry,) = document["claims"]
    assert entry["claim"]["bound"] == found["bound"]
    return document


def rewritten(run, document, file="net.npz"):
    """Exit code and the one claim of a certificate that says `document`."""
    Path("C.json").write_text(json.dumps(document))
    code, found = answer(run, "verify", "C.json", file)
    return code, found["claims"][0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["net.npz"],
        ["turned.npz", "--transpose"],
        ["net.npz", "--layer", "fc2.weight", "--layer", "fc3.weight"],
        ["net.npz", "--slopes", "-0.5,1"],
        ["norm.npz", "--ignore", "bn.weight"],
    ],
    ids=["plain", "transpose", "layers", "slopes", "ignore"],
)
def test_verify_proves_again(run, arguments):
    """What was said about the file stands in the certificate: nobody says it again."""
    document = certified(run, *arguments)
    _, bounded = answer(run, "bound", *arguments, "--method", "product")
    code, found = answer(run, "verify", "C.json", arguments[0])
    assert (code, found["proven"]) == (0, True)
    assert found["assumed"] == bounded["assumed"] and found["left_out"] == bounded["left_out"]
    code, out, _ = run("verify", "C.json", arguments[0])
    assert code == 0 and "PROVEN AGAIN: f is Lipschitz" in out and "assumed is:" in out
    assert document["file"]["reading"]["kind"] == "weights"


METHODS = ("product", "composite", "riccati", "riccati-greedy", "lipsdp-layer", "lipsdp-neuron", "reference")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("more", [(), ("--output-pair", "0,2")], ids=["all", "pair"])
def test_every_method_has_a_certificate(run, method, more):
    document = certified(run, "turned.npz", "--transpose", "--method", method, *more)
    claim = document["claims"][0]["claim"]
    assert (claim["output"], claim["norm"], claim["region"]) == ([0, 2] if more else [], "l2", None)
    bound = claim["bound"]
    assert run("verify", "C.json", "turned.npz")[0] == 0
    assert run("verify", "C.json", "altered.npz")[0] == 1
    for factor, code in ((1 - 1e-6, 1), (1 + 1e-6, 0)):
        claim["bound"] = bound * factor
        assert rewritten(run, document, "turned.npz")[0] == code


def test_verify_refutes_altered_weights_and_bounds(run):
    document = certified(run, "net.npz")
    claim = document["claims"][0]["claim"]
    assert answer(run, "verify", "C.json", "altered.npz")[0] == 1
    assert "SHA-256" in run("verify", "C.json", "sqrt13.npz")[1]
    for change in ({"bound": 0.99 * claim["bound"]}, {"output": [0, 2], "bound": claim["bound"] / 2}):
        other = json.loads(json.dumps(document))
        other["claims"][0]["claim"] |= change
        code, found = rewritten(run, other)
        assert (code, found["proven"]) == (1, False) and found["reason"] != "proven again"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("activation", "abs", 1),
        ("slopes", [-1.0, 1.0], 1),
        ("layers", ["fc1.weight", "fc2.weight"], 1),
        ("ignore", ["fc3.weight"], 1),
        ("transpose", True, 2),  # these matrices do not even follow each other
        ("more", True, 2),
    ],
)
def test_verify_refutes_a_bound_of_the_file_read_otherwise(run, key, value, expected):
    """The network is rebuilt as the certificate says that it was read; the proof of another one does not hold."""
    document = certified(run, "net.npz")
    document["file"]["reading"][key] = value
    Path("C.json").write_text(json.dumps(document))
    code, out, err = run("verify", "C.json", "net.npz")
    assert code == expected and ("NOT PROVEN" in out if code == 1 else err.startswith("Error: "))


def test_a_graph_says_its_activations(run):
    save_onnx("sigmoid.onnx", "Sigmoid", "Sigmoid")
    save_onnx("relu.onnx", "Relu", "Relu")
    document = certified(run, "sigmoid.onnx")
    assert run("verify", "C.json", "sigmoid.onnx")[0] == 0
    code, found = answer(run, "verify", "C.json", "relu.onnx")
    assert code == 1 and "SHA-256" in found["reason"]
    from sdplip.verifier.document import digest

    document["file"]["sha256"] = digest("relu.onnx")  # a proof for smaller slopes
    assert rewritten(run, document, "relu.onnx")[0] == 1


def test_one_matrix_has_a_certificate(run):
    np.savez("one.npz", w=np.diag([1.0, 2.0]))
    certified(run, "one.npz")
    assert run("verify", "C.json", "one.npz")[0] == 0


def test_a_network_takes_no_certificate_of_layers_and_the_other_way_round(run):
    assert run("check", "net.npz", "--certificate", "C.json")[0] in (0, 1)
    layers = json.loads(Path("C.json").read_text())
    network = certified(run, "net.npz")
    for one, other in ((layers, network), (network, layers)):
        mixed = {**one, "claims": other["claims"]}
        Path("C.json").write_text(json.dumps(mixed))
        code, out, err = run("verify", "C.json", "net.npz")
        assert (code, out) == (2, "") and "Make the certificate anew" in err


def test_verify_uses_only_the_readers_and_the_kernel(run):
    certified(run, "net.npz")
    check_what_verify_loads("net.npz")


# ---------------------------------------------------------------------------------------------------- largest output


@pytest.fixture
def outputs(run):
    rng = np.random.default_rng(5)
    arrays = {f"w{i}": rng.normal(size=shape) for i, shape in enumerate([(8, 4), (6, 8), (5, 6)])}
    arrays |= {f"b{i}": rng.normal(size=n) for i, n in enumerate([8, 6, 5])}
    np.savez("five.npz", **arrays)
    np.savez("other.npz", **{name: 1.01 * array for name, array in arrays.items()})
    return run


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--ball", "0.2,0.3"],
        ["--activation", "maxmin"],
        ["--method", "riccati"],
        ["--method", "composite"],
        ["--box", "0,1", "--pieces", "3"],
    ],
)
def test_the_largest_output(outputs, more):
    asked = ["bound", "five.npz", "--output-norm", "linf", *more]
    code, found = answer(outputs, *asked, "--certificate", "C.json")
    assert code == 0 and found["output_norm"] == "linf" and 0 <= found["row"] < 5
    claim = json.loads(Path("C.json").read_text())["claims"][0]["claim"]
    assert found["lower"] <= found["bound"] == claim["bound"] and claim["norm"] == "linf"
    assert found["bound"] < answer(outputs, "bound", "five.npz", *more)[1]["bound"]
    code, proof = answer(outputs, "verify", "C.json", "five.npz")
    assert code == 0 and "largest entry of the output" in proof["claims"][0]["words"]
    assert answer(outputs, "verify", "C.json", "other.npz")[0] == 1
    code, out, _ = outputs(*asked)
    assert code == 0 and f"output {found['row']}" in out
    assert "|f(x) - f(y)|_inf" in out and "4 → 8 → 6 → 5" in out


def test_the_largest_output_by_all_methods(outputs):
    asked = ("bound", "five.npz", "--output-norm", "linf", "--compare")
    rows = answer(outputs, *asked)[1]["methods"]
    euclid = answer(outputs, "bound", "five.npz", "--compare")[1]["methods"]
    assert [row["method"].split("-")[0] for row in rows] == [row["method"].split("-")[0] for row in euclid]
    value = {row["method"]: row["bound"] for row in rows}
    assert value["lipsdp-neuron"] <= min(value.values()) * (1 + 1e-7)
    assert value["product"] >= value["composite"]
    assert len({row["lower"] for row in rows}) == 1 and all(row["row"] in range(5) for row in rows)
    assert outputs(*asked, "--certificate", "C.json")[0] == 0
    assert outputs("verify", "C.json", "five.npz")[0] == 0


# ------------------------------------------------------------------------------------ progress, published files


def test_progress_appears_after_two_seconds(monkeypatch):
    import io

    from sdplip import progress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    for patience, shown in ((60.0, False), (0.0, True)):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(progress, "PATIENCE", patience)
        with progress.network_bar() as watch:
            watch(7, 2.0, 1.9)
            watch(8, np.inf, 0.0)
        assert ("gap" in terminal.getvalue()) == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [("lipsdp_random_weights.mat", 36.4822296), ("eclipse_genlocal_lyr5n10.mat", 4.943397)],
)
def test_published_values(run, benchmark_files, name, value):
    _, document = answer(run, "bound", benchmark_files / name)
    assert document["bound"] == pytest.approx(value, rel=1e-6)
