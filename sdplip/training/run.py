"""The run folder: what is in it, who may go on in it, and the model back out of it."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from sdplip.display import brief, figure, html
from sdplip.errors import InvalidConfig, InvalidRun
from sdplip.training.build import build_model
from sdplip.training.checkpoint import VERSION, pack, unpack
from sdplip.training.config import RunConfig, as_toml, read_config
from sdplip.training.data import DataSet, Standard
from sdplip.training.distributed import Team
from sdplip.training.files import read_json, write_atomic, write_json
from sdplip.training.lock import LOCK
from sdplip.training.own import rebuilt

CONFIG, METRICS = "config.toml", "metrics.jsonl"
CHECKPOINT, MODEL, SUMMARY = "checkpoint.safetensors", "model.safetensors", "summary.json"

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


def precision_there(out: Path) -> str | None:
    """In which precision the run in `out` was trained so far; None if there is none that can be read."""
    try:
        return read_config(out / CONFIG).train.precision if (out / CONFIG).exists() else None
    except InvalidConfig:
        return None


def begin(out: Path, config: RunConfig, members: Team, *, resume: bool) -> None:
    """Make the folder, when everything else is ready: a start that fails leaves nothing behind."""
    if members.first:
        out.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (CHECKPOINT, SUMMARY, MODEL, METRICS, CONFIG):
                (out / name).unlink(missing_ok=True)
        write_atomic(out / CONFIG, as_toml(config).encode())


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
