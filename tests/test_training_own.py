"""Training networks of one's own, as objects or by name, on data as people hold them; nothing is ignored, nothing is left."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sdplip.errors import InvalidConfig, InvalidData, InvalidRun, RefusedModule
from sdplip.nn import lipschitz
from sdplip.training import load_run, override, preset, train
from sdplip.training.config import DataConfig, ModelConfig
from sdplip.training.data import as_data_set, load
from sdplip.training.loop import train as run
from tests.training_runs import few, same_weights, small


def own(seed=0, classes=10):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))


def quick(*changes):
    config = small("train.epochs=2", *changes)
    return replace(config, model=ModelConfig(factory="object:torch.nn.modules.container.Sequential"))


def test_an_object_is_trained_selected_and_given_back(tmp_path):
    model = own()
    lines = []
    summary = train(quick(), tmp_path / "run", model=model, data=few(), on_epoch=lines.append)
    assert summary.finished and summary.bound is not None and [line.epoch for line in lines] == [1, 2]
    config, again = load_run(tmp_path / "run", model=own(1))
    assert config.model.factory == "object:torch.nn.modules.container.Sequential"
    assert same_weights(model.state_dict(), again.state_dict())
    assert summary.bound == pytest.approx(lipschitz(again.double(), input_shape=(1, 8, 8)).value, rel=1e-6)
    with pytest.raises(InvalidRun, match="passed as an object"):
        load_run(tmp_path / "run")
    with pytest.raises(InvalidRun, match="Pass the right one"):
        load_run(tmp_path / "run", model=nn.Linear(1, 1))


def test_resuming_leaves_no_trace(tmp_path):
    asked = iter([False, False, True])
    train(quick(), tmp_path / "a", model=own(), data=few(), stop=lambda: next(asked))
    resumed = own()
    assert train(quick(), tmp_path / "a", model=resumed, data=few()).finished
    straight = own()
    train(quick(), tmp_path / "b", model=straight, data=few())
    assert same_weights(resumed.state_dict(), straight.state_dict())
    finished = own(3)
    assert train(
        quick(), tmp_path / "a", model=finished, data=few()
    ).finished  # nothing left to do: the weights all the same
    assert same_weights(finished.state_dict(), straight.state_dict())


class Strange(nn.Module):
    def forward(self, x):
        return torch.exp(x.flatten(1)[:, :10])


@pytest.mark.parametrize(
    ("model", "changes", "error", "words"),
    [
        (Strange(), (), RefusedModule, "exp|Strange"),
        (nn.Linear(3, 10), (), InvalidConfig, "cannot run on images"),
        (own(classes=7), (), InvalidConfig, r"\(2, 7\)"),
        (nn.Sequential(own(), nn.ReLU()), ("loss.name=cr",), InvalidConfig, "rows of a linear head"),
        (own().half(), (), InvalidConfig, "float16"),
    ],
)
def test_what_cannot_be_certified_is_refused_at_the_start(tmp_path, model, changes, error, words):
    with pytest.raises(error, match=words):
        train(quick(*changes), tmp_path / "run", model=model, data=few())
    assert not (tmp_path / "run").exists()  # a failed start leaves no folder


def test_a_failed_start_leaves_an_existing_folder_empty(tmp_path):
    with pytest.raises(InvalidData):
        run(small("data.name=parquet", f"data.path={tmp_path / 'nothing'}"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_runs_do_not_share_a_folder(tmp_path):
    def nested(_progress):
        with pytest.raises(InvalidRun, match="Another process"):
            run(small("train.epochs=2"), tmp_path / "run", data=few())
        seen.append(True)

    seen: list[bool] = []
    run(small("train.epochs=2"), tmp_path / "run", data=few(), on_epoch=nested)
    assert seen and not (tmp_path / "run" / ".lock").exists()


def test_lengths_do_not_beat_one_another():
    assert override(preset("mnist-sll"), ["train.steps=3"]).train.minutes is None
    assert override(preset("mnist-sll"), ["train.epochs=3"]).train.minutes is None
    assert (
        override(override(preset("digits-sll"), ["train.steps=3"]), ["train.minutes=1"]).train.steps is None
    )
    with pytest.raises(InvalidConfig, match="both say how long"):
        override(preset("digits-sll"), ["train.steps=3", "train.minutes=1"])


def test_own_networks_have_no_other_keys():
    with pytest.raises(InvalidConfig, match="no effect on a network of your own"):
        override(preset("digits-sll"), ["model.factory=nets:make", "model.width=3"])
    assert (
        override(preset("digits-sll"), ["model.factory=nets:make"]).model.family == "sll"
    )  # the default, unused


def pairs(n=40, floats=False):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 1, 8, 8), np.uint8)
    return (x / np.float32(255) if floats else x), np.arange(n) % 4


class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = torch.as_tensor(x), torch.as_tensor(y)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(self.y[i])


@pytest.mark.parametrize(
    "given",
    [
        pairs(),
        tuple(map(torch.from_numpy, pairs())),
        pairs(floats=True),
        Rows(*pairs(floats=True)),
        torch.utils.data.DataLoader(Rows(*pairs(floats=True)), batch_size=7),
    ],
)
def test_data_as_people_hold_them(given):
    found = as_data_set(given, DataConfig(validation=0.25))
    wanted = as_data_set(pairs(), DataConfig(validation=0.25))
    assert found.train.shape == (1, 8, 8) and len(found.classes) == 4
    assert torch.equal(found.train.images, wanted.train.images) and torch.equal(
        found.test.labels, wanted.test.labels
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((pairs(floats=True)[0] * 2 - 1, pairs()[1]), r"outside of \[0, 1\]"),
        ((pairs()[0].astype(int), pairs()[1]), "int64"),
        (3, "is a int"),
        ([1, 2, 3], "pairs"),
        ((pairs(floats=True)[0] + np.float32(1e-3), pairs()[1]), "outside|no bytes"),
    ],
)
def test_data_that_are_no_images(given, words):
    with pytest.raises(InvalidData, match=words):
        as_data_set(given, DataConfig())


def test_a_folder_of_class_folders(tmp_path):
    x, y = pairs(60)
    for i, (image, label) in enumerate(zip(x[:, 0], y, strict=True)):
        place = tmp_path / "all" / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:03}.png")
    data = load(DataConfig(name="parquet", path=str(tmp_path / "all"), validation=0.2))
    assert data.classes == ("class0", "class1", "class2", "class3") and data.train.shape == (1, 8, 8)
    assert len(data.train) + len(data.validation) + len(data.test) == 60  # type: ignore[arg-type]
    (tmp_path / "one" / "a").mkdir(parents=True)
    Image.fromarray(x[0, 0]).save(tmp_path / "one" / "a" / "0.png")
    with pytest.raises(InvalidData, match="at least two classes"):
        load(DataConfig(name="parquet", path=str(tmp_path / "one")))


NETS = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))

number = 3
def broken():
    raise KeyError("x")
def nothing():
    return None
"""


def sdplip(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "sdplip", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def test_the_command_line_trains_certifies_and_resumes_a_factory(tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    short = ("--set", "train.epochs=1", "--set", "train.threads=1")
    done = sdplip("train", "--model", "nets:make", "--out", "run", *short, "--quiet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = sdplip("train", "--resume", "run", cwd=tmp_path)
    assert done.returncode == 0 and "proven:" in done.stdout, done.stderr
    done = sdplip("certify", "run", "--limit", "20", cwd=tmp_path)
    assert done.returncode == 0 and "0 (clean)" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "factory", ["nets", "nets:number", "nets:broken", "nets:nothing", "os:abort", "nowhere:x", "nets:missing"]
)
def test_factories_that_make_no_network(tmp_path, monkeypatch, factory):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("nets", None)
    with pytest.raises(InvalidConfig):
        run(override(small(), [f"model.factory={factory}"]), tmp_path / "run", data=few())
    sys.modules.pop("nets", None)


def test_data_beside_the_digits_are_used_or_refused(tmp_path):
    done = sdplip("train", "--data", "anything", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2 and "anything" in done.stderr
    with pytest.raises(InvalidConfig, match="come with scikit-learn"):
        override(preset("digits-sll"), ["data.path=x"])
