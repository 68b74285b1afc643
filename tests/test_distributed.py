"""Two processes under torchrun give the parameters of one with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sdplip.training import train
from sdplip.training.checkpoint import unpack
from sdplip.training.lock import locked
from sdplip.training.run import begin, prepare
from tests.training_runs import SMALL, small

SHARED = ("train.batch=512", "data.augment=crop2")


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("lazy", [1, 2])
def test_two_processes_are_one(lazy, tmp_path):
    changes = (*SHARED, f"model.refresh_every={lazy}", "train.epochs=2")
    one = train(small(*changes), tmp_path / "one")
    sets = [part for change in (*SMALL, *changes) for part in ("--set", change)]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    launch += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    command = [
        *launch,
        "-m",
        "sdplip",
        "train",
        "--preset",
        "digits-sll",
        *sets,
        "--out",
        str(tmp_path / "two"),
        "--json",
    ]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)  # one process speaks
    assert two["steps"] == one.steps == 4
    a, _ = unpack(tmp_path / "one" / "checkpoint.safetensors", "")
    b, _ = unpack(tmp_path / "two" / "checkpoint.safetensors", "")
    # The mean of 512 gradients is summed in another order: some 1e-7 relative in float32. Adam divides by the root of the second
    # moment, so where a gradient is nearly 0 its rounding counts in full: hence an absolute part of a few percent of one step.
    for name, tensor in a.items():
        if name.startswith("model."):
            assert torch.allclose(tensor, b[name], rtol=1e-4, atol=2e-4), name
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert two["clean"] == pytest.approx(one.clean, abs=0.02)  # 143 images: two of them may change sides


@pytest.mark.parametrize("first", [True, False])
def test_no_process_writes_before_all_have_looked(first, tmp_path):
    """A slower process would take the files of the first one for those of somebody else."""
    out = tmp_path / "run"
    assert prepare(out, small(), resume=True) is None
    assert not out.exists()
    with locked(out, first=first):
        assert (
            prepare(out, small(), resume=True) is None
        )  # the lock of the first one is no file of somebody else
        begin(out, small(), SimpleNamespace(first=first), resume=True)
        assert (out / "config.toml").exists() == first


@pytest.mark.parametrize(("world", "code"), [("1", 7), ("2", 2)])
def test_one_of_several_processes_ends_before_the_interpreter_does(world, code):
    """Nothing of the interpreter's end runs any more, where threads of torch could abort it; message and exit code stay."""
    program = "import atexit, os; atexit.register(os._exit, 7); from sdplip.cli import main; main(['check', 'no.npz'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "WORLD_SIZE": world},
    )
    assert done.returncode == code
    assert "There is no file `no.npz`" in done.stderr


DIFFERENT = """
import os
from pathlib import Path
import sys
import torch
from sdplip.errors import SdplipError
import signal
from sdplip.errors import ProcessLost
import sdplip.training.precision as precision
from sdplip.training import train
from sdplip.training.config import read_config
from sdplip.training.distributed import team
from sdplip.training.objective import Objective
from tests.training_runs import few, small

rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
said = []

def attempt(out, *changes, **options):
    try:
        train(small("train.epochs=2", *changes), out, data=few(), **options)
        said.append("done")
    except SdplipError as error:
        said.append(f"{type(error).__name__}: {error}")

if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":  # the second process is killed: the first one says so, and both start again
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of torchrun, which would end it before it has spoken
    try:
        with team("cpu") as members:
            members.wait()
            if rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            members.wait()
    except ProcessLost as error:
        Path(folder, "lost").write_text(str(error))
        sys.exit(1)

precision.fast = lambda device: rank == 0  # processors that differ
with team("cpu"):  # one group for all attempts
    left = iter([False, False, True])
    attempt(folder / "run", stop=lambda: next(left, False))
    attempt(folder / ("run" if rank == 0 else "elsewhere"))      # a checkpoint that one process sees
    attempt(folder / "run")
    attempt(folder / ("run" if rank == 0 else "elsewhere"))      # a finished run that one process sees
    forward = Objective.forward
    Objective.forward = lambda self, *inputs: forward(self, *inputs) * (float("nan") if rank else 1.0)
    attempt(folder / "diverged")
    Objective.forward = forward
    attempt(folder / "auto", "train.precision=auto")
    said.append(read_config(folder / "auto" / "config.toml").train.precision)
Path(folder, f"said{rank}").write_text("\\\\n".join(said))
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_processes_that_see_different_things_all_say_so(tmp_path):
    """None waits for ever for another one that has left: what one refuses or cannot go on with, all end with, in one sentence."""
    (tmp_path / "script.py").write_text(DIFFERENT.replace("\\\\n", "\\n"))
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "1",
        "--rdzv-backend",
        "c10d",
    ]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [*launch, "--rdzv-endpoint", "localhost:0", str(tmp_path / "script.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = [(tmp_path / f"said{rank}").read_text().split("\n") for rank in (0, 1)]
    assert (tmp_path / "lost").read_text().startswith("Another process of this run has ended")
    for stopped, unseen, finished, unseen_again, diverged, auto, precision in said:
        assert auto == "done" and precision == "float32"  # the least capable decides
        assert stopped == finished == "done"
        assert unseen.startswith("InvalidRun: 1 of 2 processes see ") and "checkpoint" in unseen
        assert unseen_again.startswith("InvalidRun: 1 of 2 processes see a finished run")
        assert (
            diverged.startswith("Diverged: ") and "the loss is not finite although all logits are" in diverged
        )
