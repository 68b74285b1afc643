"""`sdplip train`: options, exit codes, what is printed."""

import json
import math
import signal
from pathlib import Path

import pytest

from sdplip.progress import text_of
from sdplip.training import loop, read_config, start
from sdplip.training.progress import Progress
from tests.commands import answer, invoke
from tests.training_runs import SMALL

QUICK = [part for change in (*SMALL, "train.batch=600", "train.epochs=1") for part in ("--set", change)]


def test_train(tmp_path):
    out = tmp_path / "run"
    code, text, err = invoke("train", *QUICK, "--out", out)
    assert code == 0 and not err
    assert f"Next: sdplip certify {out}" in text and "proven:" in text and "2 steps" in text
    code, document = answer(invoke, "train", *QUICK, "--out", out)
    assert code == 0 and document["finished"] and document["steps"] == 2
    assert invoke("train", *QUICK, "--out", out, "--quiet") == (0, "", "")


def test_presets():
    code, text, _ = invoke("train", "--list-presets")
    assert code == 0 and "digits-sll" in text.splitlines()


def test_run_file_and_options(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('base = "digits-aol"\n[train]\nseed = 7\n')
    out = tmp_path / "run"
    code, _, err = invoke("train", "--config", file, *QUICK, "--device", "cpu", "--out", out)
    assert code == 0, err
    config = read_config(out / "config.toml")
    assert (config.model.family, config.train.seed, config.train.device) == ("aol", 7, "cpu")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--out RUN"),
        (["--out", "x", "--preset", "a", "--config", "b"], "exclude each other"),
        (["--out", "x", "--preset", "digit-sll"], "Did you mean `digits-sll`"),
        (["--out", "x", "--set", "train.epoch=3"], "train.epochs"),
        (["--out", "x", "--device", "cuda:77"], "Use cpu"),
        (["--out", "x", "--minutes", "-1"], "train.minutes"),
        (["--out", "x", "--config", "missing.toml"], "missing.toml"),
        (["--out", "x", "--preset", "mnist-sll", "--data", "no/where"], "no/where"),
    ],
)
def test_bad_input(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = invoke("train", *arguments)
    assert code == 2 and words in err and not out and "Traceback" not in err


def test_diverged(tmp_path, monkeypatch):
    build = start.build_model

    def spoiled(*args, **kwargs):
        model = build(*args, **kwargs)
        model[-2].bias.data[0] = math.nan
        return model

    monkeypatch.setattr(start, "build_model", spoiled)
    code, out, err = invoke("train", *QUICK, "--out", tmp_path / "run")
    assert code == 3 and not out and "bias" in err and err.count("\n") == 1


def test_interrupt_and_resume(tmp_path, monkeypatch):
    step = loop._step

    def interrupted(*arguments):
        step(*arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(loop, "_step", interrupted)
    out = tmp_path / "run"
    code, _, err = invoke("train", *QUICK, "--out", out)
    assert code == 130 and "Stopped at step 1" in err and "goes on" in err
    assert (out / "checkpoint.safetensors").exists() and not (out / "summary.json").exists()
    monkeypatch.undo()
    code, document = answer(invoke, "train", *QUICK, "--out", out)
    assert code == 0 and document["steps"] == 2


def test_text_of_the_bar():
    now = Progress(10, 0.5, 3, 0.41234, 0.912, 0.803, 2300.4, 60, 65)
    assert text_of(now) == "50%, epoch 3, loss 0.412, clean 91.2%, certified 80.3%, 2300 images/s, 1:05 left"


def test_certify_reads_the_run(tmp_path):
    from sdplip.cli import main

    if "certify" not in main.commands:
        pytest.skip("there is no certify command")
    out = tmp_path / "run"
    invoke("train", *QUICK, "--out", out, "--quiet")
    code, _, err = invoke("certify", out)
    assert code == 0, err
    assert json.loads((Path(out) / "certification.json").read_text())["n"] > 0
