"""The run folder: what is in it, who may go on in it, and the model back out of it."""

import fcntl
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor, nn

from sdplip import __version__
from sdplip.display import brief, figure, html
from sdplip.errors import InvalidConfig, InvalidRun
from sdplip.training.build import build_model
from sdplip.training.checkpoint import VERSION, pack, unpack
from sdplip.training.config import RunConfig, as_toml, read_config
from sdplip.training.data import DataSet, Standard, fingerprint
from sdplip.training.distributed import Team
from sdplip.training.files import read_json, write_atomic, write_json
from sdplip.training.own import rebuilt

CONFIG, ENVIRONMENT, METRICS = "config.toml", "environment.json", "metrics.jsonl"
CHECKPOINT, MODEL, SUMMARY = "checkpoint.safetensors", "model.safetensors", "summary.json"
LOCK = ".lock"

FREE = frozenset(
    {
        "data.path",
        "train.device",
        "train.threads",
        "train.checkpoint_minutes",
        "train.checkpoint_steps",
        "train.tensorboard",
    }
)
"""Keys that may change when a run goes on: they do not belong to what is computed."""


@dataclass(frozen=True)
class RunSummary:
    """What a run did.

    Attributes:
        folder: of the run.
        finished: False if it was stopped on request; the same command goes on.
        steps, epochs: of the optimiser, passes over the training split (the last one perhaps in part).
        seconds: wall clock of training and validation, over all restarts.
        images_per_second: in the last epoch, without validation.
        selected: step of the weights in `model.safetensors`.
        clean, certified: of these weights on the validation split, `certified` at `eps` as monitored; None without a split.
        proven_clean, proven_certified: the same from `sdplip.robustness`, with the proven bound; None where there is no proof.
        bound: proven bound of the network; None where there is no proof.
        unproven: why there is no proof; empty where there is one.
        proof_seconds: of that proof, which is no part of a time budget.
    """

    folder: str
    finished: bool
    steps: int
    epochs: float
    seconds: float
    images_per_second: float
    selected: int
    eps: float
    clean: float | None
    certified: float | None
    proven_clean: float | None = None
    proven_certified: float | None = None
    bound: float | None = None
    unproven: str = ""
    proof_seconds: float = 0.0

    __repr__ = brief("folder", "finished", "steps", "bound", "proven_clean", "proven_certified", "eps")
    _repr_html_ = html
    plot = figure


def prepare(out: Path, config: RunConfig, *, resume: bool) -> RunSummary | None:
    """Look whether this run may go to the folder `out`; the summary if the run in it is finished already. Nothing is written.

    Args:
        resume: go on with the run in `out` if it has the same configuration; else its files are replaced.

    Raises:
        InvalidRun: `out` holds another run, or something else.
    """
    if out.exists() and not out.is_dir():
        raise InvalidRun(f"`{out}` is a file. Choose a folder for the run.")
    old = out / CONFIG
    ours = {f".{CONFIG}.new", LOCK}
    if not old.exists() and out.exists() and any(path.name not in ours for path in out.iterdir()):
        raise InvalidRun(f"`{out}` holds files, but no run. Choose a new or an empty folder.")
    if old.exists() and resume:
        _same(out, config)
        if (out / SUMMARY).exists():
            return read_summary(out)
    return None


def begin(out: Path, config: RunConfig, members: Team, *, resume: bool) -> None:
    """Make the folder, when everything else is ready: a start that fails leaves nothing behind."""
    if members.first:
        out.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (CHECKPOINT, SUMMARY, MODEL, METRICS, CONFIG):
                (out / name).unlink(missing_ok=True)
        write_atomic(out / CONFIG, as_toml(config).encode())


@contextmanager
def locked(out: Path, *, first: bool) -> Iterator[None]:
    """A block in which no other run writes to the folder `out`. The lock goes with the process, however it ends.

    Raises:
        InvalidRun: another process trains in it.
    """
    if not first:
        yield
        return
    made = [path for path in (out, *out.parents) if not path.exists()]
    out.mkdir(parents=True, exist_ok=True)
    file = _held(out)
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)  # while it is held: nobody else can hold this very file
        file.close()
        with suppress(OSError):  # only empty folders that this very call has made
            for path in made:
                path.rmdir()


def _held(out: Path) -> TextIO:
    """The lock of a folder, open; whoever got hold of one that was removed meanwhile tries again."""
    while True:
        file = (out / LOCK).open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == (out / LOCK).stat().st_ino:
                return file
        except FileNotFoundError:
            pass
        except OSError:
            file.close()
            raise InvalidRun(
                f"Another process is training in `{out}`. Wait for it, or choose another folder."
            ) from None
        file.close()


def read_summary(out: Path) -> RunSummary:
    """The summary of a finished run.

    Raises:
        InvalidRun: missing or damaged.
    """
    document = read_json(out / SUMMARY)
    if "lipschitz" in document:  # as 0.1 wrote it
        document["bound"] = document.pop("lipschitz")
    try:
        return RunSummary(**{**document, "folder": str(out)})
    except TypeError:
        raise InvalidRun(
            f"`{out / SUMMARY}` was written by another release ({sorted(document)}). Train again with this one."
        ) from None


def load_run(folder: Path | str, *, model: nn.Module | None = None) -> tuple[RunConfig, nn.Module]:
    """Configuration and network of the run in `folder`, in eval mode on the CPU. Nothing is unpickled.

    Args:
        model: of a run whose network was passed as an object: one of the same class, which gets the weights.

    Raises:
        InvalidRun: no run there, or no weights yet, or damaged ones.
        InvalidConfig: the run file is of another version.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise InvalidRun(
            f"`{folder}` holds no run: there is no {CONFIG}. Train one with `sdplip train --out {folder}`."
        )
    config = read_config(folder / CONFIG)
    path = folder / MODEL
    remedy = f"Go on with its training: `sdplip train --resume {folder}`."
    tensors, header = unpack(path, remedy)
    if "image" not in header:
        raise InvalidRun(f"`{path}` holds no weights of a run but something else. {remedy}")
    image = tuple(header["image"])
    with torch.random.fork_rng(devices=[]):
        if config.model.factory is not None:
            model = rebuilt(config.model.factory, model, folder)
        else:
            model = build_model(
                config.model,
                image_shape=image,
                classes=len(header["classes"]),
                mean=(0.0,) * image[0],
            )
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidRun(f"`{path}` does not fit `{folder / CONFIG}` ({reason}). {remedy}") from None
    return config, model.eval()


def standard_of(folder: Path | str) -> Standard | None:
    """How the table that the run in `folder` was trained with was standardised; None of images.

    Raises:
        InvalidRun: no weights yet, or damaged ones.
    """
    _, header = unpack(Path(folder) / MODEL, f"Go on with its training: `sdplip train --resume {folder}`.")
    if "standard" not in header:
        return None
    return Standard(**{name: tuple(values) for name, values in header["standard"].items()})


def save_model(out: Path, weights: dict[str, Tensor], data: DataSet) -> None:
    """Write the weights of a run, with what is needed to build the model around them."""
    header = {"version": VERSION, "image": data.train.shape, "classes": data.classes}
    if data.standard is not None:
        header["standard"] = asdict(data.standard)
    write_atomic(out / MODEL, pack(weights, header))


def write_summary(out: Path, summary: RunSummary) -> None:
    """Mark a run as finished."""
    document = asdict(summary)
    del document["folder"]
    write_json(out / SUMMARY, document)


def write_environment(out: Path, config: RunConfig, data: DataSet, members: Team) -> None:
    """What the numbers of a run depend on besides its configuration."""
    names = ("torch", "numpy", "safetensors")
    held = data.validation
    document: dict[str, Any] = {
        "versions": {
            "python": platform.python_version(),
            "sdplip": __version__,
            **{name: metadata.version(name) for name in names},
        },
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": _words(members.device),
        "processes": members.world,
        "seed": config.train.seed,
        "data": {
            "name": data.name,
            "train": len(data.train),
            "validation": 0 if held is None else len(held),
            "test": len(data.test),
            "fingerprint": fingerprint(data.train),
        },
    }
    write_json(out / ENVIRONMENT, document)


def _same(out: Path, config: RunConfig) -> None:
    """Refuse a folder with another configuration."""
    remedy = "Choose another folder, or start anew with `--no-resume`, which replaces the files of that run."
    try:
        there = read_config(out / CONFIG)
    except InvalidConfig as error:
        raise InvalidRun(f"The run in `{out}` cannot go on: {error} {remedy}") from None
    differences = [
        f"`{section.name}.{key}` is {old!r} there and {new!r} here"
        for section in fields(config)
        if section.name != "version"
        for (key, old), new in zip(
            asdict(there)[section.name].items(), asdict(config)[section.name].values(), strict=True
        )
        if old != new and f"{section.name}.{key}" not in FREE
    ]
    if differences:
        shown = ", ".join(differences[:3]) + (
            f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        )
        raise InvalidRun(f"`{out}` holds a run with another configuration: {shown}. {remedy}")


def _words(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _processor() -> str:
    """The model of the processor, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
