"""`sdplip certify`: answers agree with the library; bad input is one sentence, exit code 2, nothing written."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from sdplip.nn import save_plain
from sdplip.robustness.certification import certify_accuracy
from sdplip.training.config import RunConfig, write_config
from sdplip.training.data import load
from sdplip.training.run import load_run, save_model
from tests.commands import answer, check_what_verify_loads, invoke

KEYS = [
    "file",
    "data",
    "split",
    "n",
    "clean",
    "bound",
    "margin_constant",
    "certified",
    "mean_radius",
    "empirical",
    "gaps",
    "rounding",
    "precision",
    "scope",
    "tree",
    "seconds",
    "assumed",
    "note",
    "samples",
    "certificate",
    "verify",
    "local",
    "smoothing",
    "regression",
]
CLOSE = 1 + 1e-12
"""Two routes to one product round differently."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder as training leaves it, with a network that has learned a little."""
    from sdplip.training.build import build_model

    folder = tmp_path_factory.mktemp("run")
    config = RunConfig()
    config = replace(
        config, model=replace(config.model, convolutions=1, dense=1, hidden=16, width=6, hidden_channels=4)
    )
    data = load(config.data)
    torch.manual_seed(0)
    model = build_model(config.model, image_shape=data.train.shape, classes=10, mean=(0.3,))
    images, labels = data.train.images / 255, data.train.labels
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for step in range(25):
        part = slice(step * 50, step * 50 + 50)
        loss = torch.nn.functional.cross_entropy(8 * model(images[part]), labels[part])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    write_config(config, folder / "config.toml")
    save_model(folder, model.state_dict(), data)
    return folder


@pytest.fixture
def run(made, tmp_path, monkeypatch):
    """A copy of the run in a folder of its own, which is the current one."""
    import shutil

    shutil.copytree(made, tmp_path / "RUN")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "RUN"


def test_json_agrees_with_the_library(run):
    code, out = answer(invoke, "certify", "RUN", "--attack", "pgd", "--limit", 15, "--radii", "36/255,0.1,1")
    config, model = load_run(run)
    test = load(config.data).test
    found = certify_accuracy(model, test.images[:15], test.labels[:15])
    assert code == 0 and list(out["certified"]) == ["36/255", "0.1", "1"] == list(out["empirical"]["pgd"])
    assert out["clean"] == found.clean and out["mean_radius"] == found.mean_radius and out["n"] == 15
    for eps, accuracy in out["certified"].items():
        assert accuracy == found.certified(eps) <= out["empirical"]["pgd"][eps] <= out["clean"]
    assert out["rounding"] == "proven" and out["precision"] == "float64" and out["data"] == "digits"
    assert out["bound"] == found.bound.value
    assert list(out) == KEYS and (out["assumed"], out["certificate"]) == ([], None)
    assert not (run / "certification.json").exists(), "a part of the test split is not kept"


def test_by_blocks(run):  # noqa: ARG001
    """Larger radii than those of the run as it is, which no rounding of the worst order takes away; RUN keeps no result of it."""
    asked = ("certify", "RUN", "--precision", "float32", "--limit", "40", "--json")
    plain, blocked = (json.loads(invoke(*asked, *more)[1]) for more in ((), ("--by-blocks",)))
    assert blocked["mean_radius"] > plain["mean_radius"] and blocked["clean"] == plain["clean"]
    assert any("blocks of 16" in said for said in blocked["assumed"]) and not plain["assumed"]
    for wrong in (("--precision", "float64"), ("--certificate", "c.json")):
        code, _, error = invoke(*asked[:-1], "--by-blocks", *wrong)
        assert code == 2 and "--by-blocks is for a RUN" in error


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision(run, precision):
    before = (run / "certification.json").read_bytes() if (run / "certification.json").exists() else None
    half = ("certify", "RUN", "--precision", precision)
    code, out, _ = invoke(*half, "--scope", "exact", "--limit", "40", "--radii", "36/255", "--json")
    out = json.loads(out)
    assert code == 0 and out["precision"] == precision and out["scope"] == "exact"
    assert 0 < out["certified"]["36/255"] <= out["clean"]
    code, out, _ = invoke(*half, "--scope", "exact")
    assert code == 0 and f"predictions of the pass in {precision}" in out and "Kept in the run" not in out
    after = (run / "certification.json").read_bytes() if (run / "certification.json").exists() else None
    assert before == after
    code, _, error = invoke(*half)
    assert code == 2 and "--scope exact" in error
    for more in (["--attack", "pgd"], ["--certificate", "c.json"]):
        code, _, error = invoke(*half, "--scope", "exact", *more)
        assert code == 2 and "by themselves" in error


def test_whole_split_is_kept_for_curves(run):
    code, out, _ = invoke(
        "certify", "RUN", "--samples", "samples.tsv", "--precision", "float32", "--scope", "exact"
    )
    assert code == 0 and "36/255" in out and "float32 rounding errors" in out and "sdplip curves RUN" in out
    document = json.loads((run / "certification.json").read_text())
    with (run / "radii.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == document["n"] > 200
    assert (
        np.mean([float(r["radius"]) > 36 / 255 and r["correct"] == "1" for r in rows])
        == document["certified"]["36/255"]
    )
    assert len((run.parent / "samples.tsv").read_text().splitlines()) == len(rows) + 1
    assert invoke("curves", "RUN", "--csv", "curves.csv")[0] == 0


def test_weight_file_of_a_relu_network(run):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 12), torch.nn.ReLU(), torch.nn.Linear(12, 10))
    save_plain(model, "mlp.safetensors")
    code, out = answer(invoke, "certify", "mlp.safetensors", "--data", "digits", "--limit", 30)
    test = load(RunConfig().data).test
    product = certify_accuracy(
        torch.nn.Sequential(torch.nn.Flatten(), *model), test.images[:30], test.labels[:30]
    )
    assert code == 0 and out["clean"] == product.clean and list(out) == KEYS
    assert out["bound"] <= product.bound.value * CLOSE
    assert out["mean_radius"] * CLOSE >= product.mean_radius
    assert any("relu stands between them" in sentence for sentence in out["assumed"])
    assert not list(run.parent.glob("*.json"))


# ------------------------------------------------------------------------------------------------ certificates


def small(path, classes=3):
    """An ONNX graph with a strided convolution, its torch module, and 25 images in a file of test images only."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(2)
    K, W = rng.normal(size=(3, 1, 3, 3)), rng.normal(size=(classes, 27)) / 4
    K, W = K.astype(np.float32), W.astype(np.float32)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "K"], ["h"], strides=[2, 2], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["h"], ["g"]),
        onnx.helper.make_node("Flatten", ["g"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "W"], ["y"], transB=1),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "net",
        [info("x", onnx.TensorProto.FLOAT, ["n", 1, 5, 5])],
        [info("y", onnx.TensorProto.FLOAT, ["n", classes])],
        [onnx.numpy_helper.from_array(K, "K"), onnx.numpy_helper.from_array(W, "W")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(27, classes, bias=False),
    ).double()
    module.load_state_dict({"0.weight": torch.from_numpy(K), "3.weight": torch.from_numpy(W)})
    images = rng.integers(0, 256, (25, 1, 5, 5)).astype(np.uint8)
    logits = module(torch.from_numpy(images / 255))
    labels = logits.argmax(-1).numpy()
    labels[::5] = (labels[::5] + 1) % classes  # a fifth is wrong
    return module, images, labels


@pytest.mark.parametrize("more", [[], ["--precision", "float32"], ["--scope", "exact"]])
def test_a_graph_with_convolutions_has_a_certificate_of_its_accuracy(run, more):
    module, images, labels = small("cnn.onnx")
    np.savez("test.npz", test_images=images, test_labels=labels)
    code, out = answer(
        invoke,
        "certify",
        "cnn.onnx",
        "--data",
        "test.npz",
        *more,
        "--certificate",
        "c.json",
        "--samples",
        "s.csv",
    )
    assert code == 0 and out["certificate"] == "c.json" and out["n"] == 25 and out["clean"] == 0.8
    reference = certify_accuracy(module.eval(), torch.from_numpy(images), torch.from_numpy(labels))
    assert out["mean_radius"] * (1 + 1e-3) >= reference.mean_radius > 0
    assert sorted(path.name for path in run.parent.glob("c.*")) == ["c.images.npz", "c.json"]
    code, proof = answer(invoke, "verify", "c.json", "cnn.onnx", "c.images.npz")
    assert code == 0 and proof["proven"] and "of 25 images 80.00 %" in proof["claims"][0]["words"]
    claim = json.loads((run.parent / "c.json").read_text())["claims"][0]["claim"]
    expected = {"float32": "float32", "exact": "exact"}.get(more[-1] if more else "", "float64")
    assert claim["arithmetic"] == expected
    with open("s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["radius"]) for row in rows] == claim["radius"]
    code, text, err = invoke("certify", "cnn.onnx", "--data", "test.npz", *more, "--certificate", "c.json")
    assert code == 0 and not err and "sdplip verify c.json cnn.onnx c.images.npz" in text
    assert answer(invoke, "verify", "c.json", "cnn.onnx", "test.npz")[1][
        "proven"
    ]  # the same images elsewhere
    code, proof = answer(invoke, "verify", "c.json", "cnn.onnx")
    assert code == 1 and "name their file too" in proof["claims"][0]["reason"]


@pytest.mark.parametrize("change", ["image", "label", "order", "network", "radius"])
def test_a_certificate_of_accuracy_is_about_these_images_and_this_network(run, change):
    _, images, labels = small("cnn.onnx")
    np.savez("test.npz", images=images, labels=labels)
    assert invoke("certify", "cnn.onnx", "--data", "test.npz", "--certificate", "c.json")[0] == 0
    document = json.loads((run.parent / "c.json").read_text())
    claim = document["claims"][0]["claim"]
    sure = int(np.argmax(claim["radius"]))
    if change == "image":
        images[sure, 0, 2, 2] ^= 1
    elif change == "label":
        labels[sure] = (labels[sure] + 1) % 3
    elif change == "order":
        images, labels = images[::-1], labels[::-1]
    elif change == "network":
        small("cnn.onnx", classes=4)
    else:
        claim["radius"][sure] *= 1 + 1e-9
    np.savez("test.npz", images=images, labels=labels)
    (run.parent / "c.json").write_text(json.dumps(document))
    code, text, _ = invoke("verify", "c.json", "cnn.onnx", "test.npz")
    assert code == 1 and "NOT PROVEN" in text


def test_a_run_has_a_certificate_that_needs_no_torch(run):
    code, out = answer(invoke, "certify", "RUN", "--limit", 12, "--certificate", "c.json")
    _, torch_route = answer(invoke, "certify", "RUN", "--limit", 12)
    assert code == 0 and out["clean"] == torch_route["clean"]
    assert out["mean_radius"] == pytest.approx(torch_route["mean_radius"], rel=1e-6)
    assert "is not finished" in out["note"]
    names = sorted(path.name for path in run.parent.glob("c.*"))
    assert names == ["c.images.npz", "c.json", "c.network.safetensors"]
    check_what_verify_loads("c.network.safetensors", "c.images.npz", certificate="c.json")


def test_an_unfinished_run_is_said_to_be_one(run):
    code, _, err = invoke("certify", "RUN", "--limit", 2)
    assert code == 0 and "`RUN` is not finished" in err and "sdplip train --resume RUN" in err
    (run / "summary.json").write_text("{}")
    code, _, err = invoke("certify", "RUN", "--limit", 2)
    assert code == 0 and not err


def test_a_failure_leaves_no_part_of_a_certificate(run, monkeypatch):
    _, images, labels = small("cnn.onnx")
    np.savez("test.npz", images=images, labels=labels)
    before = sorted(run.parent.rglob("*"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for place in ("sdplip.robustness.graph_accuracy.write", "sdplip.writing.os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            code, out, err = invoke("certify", "cnn.onnx", "--data", "test.npz", "--certificate", "c.json")
        assert (code, out) == (2, "") and "the disk is full" in err
        assert sorted(run.parent.rglob("*")) == before


# ------------------------------------------------------------------------------------------------ images


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("test_images", "test_labels"), ("x_test", "y_test")]
)
@pytest.mark.parametrize("kind", ["bytes", "double", "no channels", "channels last"])
@pytest.mark.usefixtures("run")
def test_test_images_suffice(names, kind):
    _, images, labels = small("cnn.onnx")
    np.savez("bytes.npz", images=images, labels=labels)
    other = {
        "bytes": images,
        "double": images / 255,
        "no channels": images[:, 0],
        "channels last": images.transpose(0, 2, 3, 1),
    }[kind]
    np.savez("test.npz", **dict(zip(names, (other, labels), strict=True)))
    first, second = (
        answer(invoke, "certify", "cnn.onnx", "--data", file)[1] for file in ("bytes.npz", "test.npz")
    )
    assert second["clean"] == first["clean"]
    assert second["mean_radius"] == pytest.approx(first["mean_radius"], rel=1e-12)


@pytest.mark.usefixtures("run")
def test_images_enter_in_the_order_of_the_graph():
    """A graph of Keras takes channels last; images of data sets come channels first."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    W = rng.normal(size=(2 * 3 * 3, 4)).astype(np.float32)
    info, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "W"], ["y"])],
        "net",
        [info("x", onnx.TensorProto.FLOAT, ["n", 2, 3, 3])],
        [info("y", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.numpy_helper.from_array(W, "W")],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), "hwc.onnx")
    images = rng.integers(0, 256, (20, 3, 2, 3)).astype(np.uint8)
    labels = (images.transpose(0, 2, 3, 1).reshape(20, -1) / 255 @ W).argmax(-1)
    np.savez("chw.npz", images=images, labels=labels)
    code, out = answer(invoke, "certify", "hwc.onnx", "--data", "chw.npz", "--certificate", "c.json")
    assert code == 0 and out["clean"] == 1.0 and out["assumed"] == []
    assert answer(invoke, "verify", "c.json", "hwc.onnx", "c.images.npz")[1]["proven"]
    np.savez("flat.npz", a=W.T)
    code, out = answer(invoke, "certify", "flat.npz", "--data", "chw.npz")
    assert code == 0 and "channels first, which is assumed" in out["assumed"][-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run or file `nothing`"),
        (["."], "holds no run"),
        (["RUN", "--radii", "1,two"], "'two' is not a number or fraction"),
        (["RUN", "--radii", "1/0"], "not a number or fraction"),
        (["RUN", "--radii", "-1"], "not a number or fraction"),
        (["RUN", "--radii", "1,1"], "twice"),
        (["RUN", "--data", "nowhere"], "`nowhere` does not exist"),
        (["RUN", "--data", "wide.npz"], "cannot run on images of shape"),
        (["RUN", "--data", "labels.npz"], "labels"),
        (["RUN", "--device", "warp"], "--device warp cannot be used: the devices are cpu, cuda and cuda:N"),
        (["mlp.npz", "--data", "digits", "--device", "cuda"], "Drop --device"),
        (["mlp.npz", "--data", "digits", "--batch", "7"], "--batch is for torch"),
        (["mlp.npz", "--data", "wide.npz"], "cannot run on images of shape (1, 20, 20): it takes (64,)"),
        (["mlp.npz", "--data", "labels.npz"], "`labels` lie between 0 and 12"),
        (["mlp.npz", "--data", "far.npz"], "lie between 0 and 255"),
        (["RUN", "--data", "far.npz"], "lie between 0 and 255"),
        (["RUN", "--data", "bare.npz"], "no labels"),
        (["RUN", "--data", "none.npz"], "no file `none.npz`"),
        (["RUN", "--certificate", "c.txt"], "must end in .json"),
        (["RUN", "--samples", "x.txt"], "must end in .csv"),
        (["RUN", "--limit", "0"], "--limit"),
        (["text.npz", "--data", "digits"], "text.npz"),
        (["mlp.npz"], "--data"),
    ],
)
def test_bad_input(run, arguments, message):
    images, labels = np.zeros((4, 1, 20, 20), np.uint8), np.zeros(4, int)
    np.savez("wide.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    few, far = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 2, 12])
    np.savez("labels.npz", train_images=few, train_labels=far, test_images=few, test_labels=far)
    np.savez("mlp.npz", a=np.eye(64)[:10])
    np.savez("far.npz", images=np.full((4, 8, 8), [0.0, 255.0] * 4), labels=np.zeros(4, int))
    np.savez("bare.npz", images=few)
    (run.parent / "text.npz").write_text("no weights")
    before = sorted(run.parent.rglob("*"))
    code, out, err = invoke("certify", *arguments)
    assert code == 2 and message in err and not out and "Traceback" not in err
    assert sorted(run.parent.rglob("*")) == before


def test_truncated_weights(run):
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    code, _, err = invoke("certify", "RUN")
    assert code == 2 and "model.safetensors" in err
    weights.unlink()
    code, _, err = invoke("certify", "RUN")
    assert code == 2 and "model.safetensors" in err


def test_missing_extras_are_noticed_first(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    code, _, err = invoke("certify", "RUN", "--attack", "autoattack")
    assert code == 2 and "sdplip[attacks]" in err
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = invoke("certify", "RUN", "--samples", "x.parquet")
    assert code == 2 and "pip install pyarrow" in err and not (run.parent / "x.parquet").exists()


def test_interrupted(run, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdplip.robustness.certification.certify_accuracy", interrupted)
    code, _, err = invoke("certify", "RUN", "--samples", "x.csv")
    assert code == 130 and "Interrupted" in err
    assert not (run.parent / "x.csv").exists() and not (run / "certification.json").exists()


def test_help_loads_no_torch():
    script = "import sys, sdplip.cli\nsys.exit(bool({'torch', 'cvxpy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_balls_around_images(tmp_path, monkeypatch):
    """--local certifies no image less, says by what, and writes a certificate that `sdplip verify` proves; its budget needs it."""
    monkeypatch.chdir(tmp_path)
    _, images, labels = small("cnn.onnx")
    np.savez("test.npz", images=images, labels=labels)
    ask = ("certify", "cnn.onnx", "--data", "test.npz", "--limit", 5, "--radii", "0.02,0.1")
    _, plain = answer(invoke, *ask)
    code, out = answer(invoke, *ask, "--local", "--seconds", 0.2, "--certificate", "c.json")
    assert code == 0 and list(out) == KEYS and plain["local"] is None
    assert out["local"]["before"] == plain["certified"]
    for eps, counts in out["local"]["by"].items():
        assert sum(counts.values()) / 5 == out["certified"][eps] >= plain["certified"][eps]
    assert sum(out["certified"].values()) > sum(plain["certified"].values())
    code, checked = answer(invoke, "verify", "c.json", "cnn.onnx", "c.images.npz")
    assert code == 0 and checked["proven"]
    code, said, _ = invoke(*ask, "--local", "--seconds", 0.0)
    assert code == 0 and "by offsets" in said and "of CPU time" in said
    code, _, wrong = invoke(*ask, "--seconds", 1)
    assert code == 2 and "Add --local" in " ".join(wrong.split())
