"""Sweeps: what is trained, chosen and looked at once; interruption; the command line with its table, JSON, figure and CSV."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sdplip.training.trials as module
from sdplip.errors import Diverged, InvalidConfig, InvalidRun
from sdplip.robustness.certification import certify_accuracy
from sdplip.training import load_run, sweep
from sdplip.training.trials import Trial, on_front, over_seeds
from tests.commands import answer, failure, invoke
from tests.training_runs import SMALL, few, small

torch.set_num_threads(1)
VALUES = {"loss.offset": ["0.2", "2"]}
QUICK = [part for change in SMALL for part in ("--set", change)]
TWO = ("--set", "loss.offset=0.2,2")


@pytest.fixture(scope="module")
def data():
    return few()


@pytest.fixture(autouse=True)
def little(data, monkeypatch):
    """Sweeps load the first images of the digits."""
    monkeypatch.setattr(module, "load", lambda _: data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("sweeps") / "sweep"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load", lambda _: data)
        return out, sweep(small(), VALUES, out, seeds=2, radii=("0.1", "36/255"))


def trial(clean, certified):
    return Trial({"loss.offset": "1"}, "run", clean, certified, 1.0)


def test_the_front_by_hand():
    a, b, c, d = trial(0.9, 0.1), trial(0.8, 0.3), trial(0.8, 0.2), trial(None, None)
    every = [a, b, c, d]
    assert [on_front(one, every) for one in every] == [True, True, False, False]
    assert on_front(b, [b, trial(0.8, 0.3)])  # equals stand beside each other
    assert over_seeds([1.0, 4.0, 1.0]) == (2.0, 1.0, 4.0)


def test_the_shares_are_those_of_the_runs(finished, data):
    """The trials say what the validation split proves, the finals what the whole test set does, of the saved weights."""
    out, found = finished
    assert found.finished and [t.values["loss.offset"] for t in found.trials] == ["0.2", "2"]
    for one in found.trials:
        proof = certify_accuracy(load_run(one.folder)[1], data.validation.images, data.validation.labels)
        assert (one.clean, one.certified) == (proof.clean, proof.certified(found.eps))
    best = max(found.trials, key=lambda t: (t.certified, t.clean))
    assert found.chosen is not None and found.chosen == best and found.chosen.front
    assert [one.seed for one in found.finals] == [0, 1] and found.finals[0].folder == best.folder
    for one in found.finals:
        config, model = load_run(one.folder)
        proof = certify_accuracy(model, data.test.images, data.test.labels)
        assert config.train.seed == one.seed and str(config.loss.offset) in (
            best.values["loss.offset"],
            "2.0",
        )
        assert one.clean == proof.clean and one.mean_radius == proof.mean_radius
        assert one.certified == {eps: proof.certified(eps) for eps in ("0.1", "36/255")}
    tested = [path.parent.name for path in out.glob("*/test.json")]
    assert len(tested) == 2 and all(name.startswith(Path(best.folder).name) for name in tested)


def test_nothing_is_done_twice(finished, monkeypatch):
    out, found = finished
    monkeypatch.setattr(module, "train", None)
    monkeypatch.setattr(module, "certify_accuracy", None)
    assert sweep(small(), VALUES, out, seeds=2, radii=("0.1", "36/255")) == found
    assert replace(found, finals=()) == sweep(small(), VALUES, out)


def test_other_weights_are_tested_again(finished):
    """What the test set said of weights that are no longer there does not count."""
    _, found = finished
    answer_ = Path(found.finals[1].folder) / "test.json"
    kept = answer_.read_text()
    document = json.loads(kept)
    document["sha256"], document["found"]["clean"] = "0" * 64, 1.0
    answer_.write_text(json.dumps(document))
    again = sweep(small(), VALUES, found.folder, seeds=2, radii=("0.1", "36/255"))
    assert again == found and answer_.read_text() == kept


def test_interrupted_sweeps_go_on(finished, tmp_path):
    _, found = finished
    left = iter([False] * 11 + [True])  # in the second run
    parts = sweep(small(), VALUES, tmp_path / "parts", stop=lambda: next(left, False))
    assert not parts.finished and len(parts.trials) == 1 and parts.chosen is None
    seen = []
    whole = sweep(small(), VALUES, tmp_path / "parts", watch=lambda *now: seen.append(now[:3]))
    assert [(t.clean, t.certified) for t in whole.trials] == [(t.clean, t.certified) for t in found.trials]
    assert set(seen) == {("loss.offset=2", 1, 2)}
    same = [(Path(w.folder) / "model.safetensors").read_bytes() for w in (*whole.trials, *found.trials)]
    assert same[:2] == same[2:]


def test_a_run_that_diverges_is_a_trial_without_proof(tmp_path, monkeypatch):
    real = module.train

    def sometimes(config, *arguments, **options):
        if config.loss.offset == 2:
            raise Diverged("Training stopped at step 1.")
        return real(config, *arguments, **options)

    monkeypatch.setattr(module, "train", sometimes)
    found = sweep(small("train.steps=1"), VALUES, tmp_path / "sweep")
    assert found.finished and found.chosen == found.trials[0]
    assert found.trials[1].certified is None and "step 1" in found.trials[1].why and not found.trials[1].front


def test_names_of_folders():
    assert module._folder_name("loss.offset=0.5,train.batch=8") == "loss.offset=0.5,train.batch=8"
    one, two = module._folder_name('data.augment=["flip"]'), module._folder_name("data.augment=['flip']")
    assert one != two and "/" not in module._folder_name("model.factory=a/b:c") and not set('"[]') & set(one)


@pytest.mark.parametrize(
    ("values", "changes", "words"),
    [
        ({}, (), "needs a key"),
        ({"loss.offset": []}, (), "needs a key"),
        ({"loss.offset": ["1", "1"]}, (), "same value twice"),
        ({"loss.ofset": ["1", "2"]}, (), "Did you mean `loss.offset`"),
        ({"train.seed": ["1", "2"]}, (), "Use `seeds`"),
        ({"train.eps": ["1", "2"]}, (), "one radius"),
        (VALUES, ("data.validation=0",), "Hold out a share"),
        ({"loss.tolerance": ["1", "2"]}, ("loss.name=mse",), "of numbers"),
    ],
)
def test_what_is_refused(values, changes, words, tmp_path):
    with pytest.raises(InvalidConfig, match=words):
        sweep(small(*changes), values, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_one_process_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidConfig, match="without torchrun"):
        sweep(small(), VALUES, tmp_path / "sweep")


def test_another_run_in_the_folder_is_refused(finished):
    out, _ = finished
    with pytest.raises(InvalidRun, match="another configuration"):
        sweep(small("optimiser.lr=0.5"), VALUES, out)


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = ("digits-sll", *QUICK, *TWO, "--out", "out", "--seeds", "2", "--radii", "0.1")
    code, text, err = invoke("sweep", *wanted, "-o", "front.png", "--csv", "front.csv")
    assert code == 0 and not err, err
    for words in ("loss.offset", "chosen", "whole test set", "mean", "Figure: front.png", "Table: front.csv"):
        assert words in text
    assert Path("front.png").stat().st_size > 5000
    rows = list(csv.DictReader(Path("front.csv").read_text().splitlines()))
    assert [row["loss.offset"] for row in rows] == ["0.2", "2"]
    code, document = answer(invoke, "sweep", *wanted)
    assert code == 0 and document["finished"] and document["file"] == "digits-sll"
    assert [float(row["certified"]) for row in rows] == [
        t["certified"][repr(36 / 255)] for t in document["trials"]
    ]
    assert sum(row["chosen"] == "True" for row in rows) == 1
    kept = json.loads(Path("out/sweep.json").read_text())
    assert kept["trials"] == document["trials"] and kept["over_seeds"] == document["over_seeds"]
    spread = document["over_seeds"]["certified"]["0.1"]
    assert spread["least"] <= spread["mean"] <= spread["most"] and len(document["finals"]) == 2
    assert invoke("sweep", *wanted, "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits-sll", "--set", "loss.offset=1"), "Nothing varies"),
        (("digits-sll", *TWO, *TWO), "varies twice"),
        (("digits-sll", *TWO, "--radii", "1"), "Add --seeds"),
        (("digit-sll", *TWO), "Did you mean `digits-sll`"),
        (("missing.toml", *TWO), "is no file"),
        (("digits-sll", "--set", "loss.offset=1,a"), "loss.offset"),
        (("digits-sll", "--set", "data.augment=[flip],[crop2"), "data.augment"),
    ],
)
def test_bad_input(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, sentence = failure(invoke, "sweep", *arguments, "--out", "out")
    assert code == 2 and words in sentence["error"] and not Path("out").exists()
