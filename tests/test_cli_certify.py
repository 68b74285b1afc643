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
from tests.commands import answer, invoke


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
    assert out["lipschitz"] == found.bound.value
    assert not (run / "certification.json").exists(), "a part of the test split is not kept"


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
    assert code == 0 and out["clean"] == product.clean
    assert out["lipschitz"] <= product.bound.value and out["mean_radius"] >= product.mean_radius
    assert not list(run.parent.glob("*.json"))


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
        (["RUN", "--device", "warp"], "--device warp cannot be used"),
        (["RUN", "--samples", "x.txt"], "must end in .csv"),
        (["RUN", "--limit", "0"], "--limit"),
        (["text.npz", "--data", "digits"], "text.npz"),
        (["mlp.npz"], "--data"),
    ],
)
def test_bad_input(run, arguments, message):
    images, labels = np.zeros((4, 1, 20, 20), np.uint8), np.zeros(4, int)
    np.savez("wide.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    small, far = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 2, 12])
    np.savez("labels.npz", train_images=small, train_labels=far, test_images=small, test_labels=far)
    np.savez("mlp.npz", a=np.eye(64)[:10])
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
