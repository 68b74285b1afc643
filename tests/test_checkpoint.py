"""Interrupted runs end as undisturbed ones, bit for bit; damaged files are refused; a full disk leaves the old file."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sdplip.errors import InvalidRun, OutOfResources
from sdplip.training import files, load_run, train
from sdplip.training.checkpoint import unpack
from tests.training_runs import few, small


@pytest.fixture(scope="module")
def data():
    return few()


class After:
    """A `stop` that says yes once, after n steps."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left < 0


VARIANTS = {
    "adam": (),
    "sgd": ("optimiser.name=sgd", "optimiser.nesterov=true"),
    "nadam": ("optimiser.name=nadam", "optimiser.clip=0.5"),
    "lazy T": ("model.refresh_every=3",),
    "augmented": ("data.augment=crop2,flip",),
    "bfloat16": ("train.precision=bfloat16",),
    "annealed": ("loss.name=logit_annealing",),
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_stopping_leaves_no_trace(changes, data, tmp_path):
    config = small(*changes)
    whole = train(config, tmp_path / "whole", data=data)
    for n in (3, 2, 0):  # in an epoch, in the next one, at once
        part = train(config, tmp_path / "parts", data=data, stop=After(n))
        assert not part.finished
    parts = train(config, tmp_path / "parts", data=data)
    assert parts.finished and parts.certified == whole.certified and parts.selected == whole.selected
    for name in ("model.safetensors",):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    a, _ = unpack(tmp_path / "parts" / "checkpoint.safetensors", "")
    b, _ = unpack(tmp_path / "whole" / "checkpoint.safetensors", "")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_lines_of_repeated_steps_appear_once(data, tmp_path):
    train(small(), tmp_path / "run", data=data, stop=After(5))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4321, "of": "a step after the checkpoint"')
    train(small(), tmp_path / "run", data=data)
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert text.count("\n") == 2 and "4321" not in text


KILLED = """
import os, signal, sys
from pathlib import Path
from sdplip.training import train
from tests.training_runs import few, small

out, fatal = Path(sys.argv[1]), int(sys.argv[2])

class Killer:
    steps = 0

    def __call__(self):
        self.steps += 1
        if self.steps == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

train(small("train.checkpoint_steps=3"), out, data=few(), stop=Killer())
"""


def test_sigkill_in_mid_epoch(data, tmp_path):
    """Killed before step 7: the checkpoint is of step 6, in the second epoch of four steps."""
    out = tmp_path / "killed"
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(out), "8"], env=environment, cwd=root, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL
    _, header = unpack(out / "checkpoint.safetensors", "")
    assert header["counters"]["step"] == 6 and not (out / "summary.json").exists()
    config = small("train.checkpoint_steps=3")
    train(config, out, data=data)
    train(config, tmp_path / "whole", data=data)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_no_resume_starts_anew(data, tmp_path):
    train(small(), tmp_path / "run", data=data, stop=After(3))
    summary = train(small("train.epochs=1"), tmp_path / "run", data=data, resume=False)
    assert summary.finished and summary.steps == 4
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count("\n") == 1


def test_damaged_checkpoints(data, tmp_path):
    out = tmp_path / "run"
    train(small(), out, data=data, stop=After(3))
    path = out / "checkpoint.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:20], b""):
        path.write_bytes(damaged)
        with pytest.raises(InvalidRun, match=r"damaged or truncated.*Delete"):
            train(small(), out, data=data)
    path.write_bytes(whole.replace(b'\\"version\\": 1', b'\\"version\\": 9', 1))
    with pytest.raises(InvalidRun, match="version 9, but this release reads version 1"):
        train(small(), out, data=data)
    path.write_bytes(whole)
    (out / "model.safetensors").write_bytes(whole)
    with pytest.raises(InvalidRun):
        load_run(out)
    assert train(small(), out, data=data).finished


def test_other_data(data, tmp_path):
    train(small(), tmp_path / "run", data=data, stop=After(3))
    other = few(80)
    with pytest.raises(InvalidRun, match="data are not those"):
        train(small(), tmp_path / "run", data=other)


def test_full_disk_keeps_the_old_file(data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    train(small(), out, data=data, stop=After(3))
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(
        OutOfResources, match=r"disk is full: .*MiB for .* Free space, and run the same command"
    ):
        train(small(), out, data=data)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    monkeypatch.undo()
    assert train(small(), out, data=data).finished
