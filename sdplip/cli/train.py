"""`sdplip train`: from a data set to a certified network, in a run folder."""

import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.arithmetic.decimals import percent_below
from sdplip.cli.answers import echo, print_json
from sdplip.cli.failure import INTERRUPTED, Refusal
from sdplip.cli.options import json_option

if TYPE_CHECKING:
    from sdplip.training import Progress, RunConfig, RunSummary


class NotFinite(Refusal):
    """A loss that is not finite."""

    exit_code = 3


DEFAULT = "digits-sll"


@click.command(short_help="Train a network whose robustness can be proven.")
@click.option("--preset", metavar="NAME", help=f"A run file of ours [default: {DEFAULT}].")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE.toml", help="A run file of yours.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="Folder of Parquet files, or .npz: `data.path`.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key, train.epochs=3 for example. May be repeated.",
)
@click.option("--minutes", type=float, metavar="N", help="Time to train, instead of epochs: `train.minutes`.")
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, ...: `train.device`.")
@click.option(
    "--model",
    metavar="MODULE:FACTORY",
    help="A network of your own: `package.module:callable` makes it, without arguments.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="RUN", help="Folder of the run.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Go on with the run in RUN; nothing else is needed.",
)
@click.option("--no-resume", is_flag=True, help="Replace the run in RUN instead of going on with it.")
@click.option("--list-presets", is_flag=True, help="Print the names of all presets.")
@click.option("--quiet", is_flag=True, help="Print neither progress nor result.")
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    preset: str | None,
    config: Path | None,
    data: Path | None,
    changes: tuple[str, ...],
    minutes: float | None,
    device: str | None,
    model: str | None,
    out: Path | None,
    resume: Path | None,
    no_resume: bool,
    list_presets: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a network and write everything to the folder RUN; the same command goes on with an interrupted run.

    Ctrl-C finishes the step and writes a checkpoint. With several processes: `torchrun --nproc-per-node 2 -m sdplip train ...`.

    Exit code: 0 finished, 2 bad input or full disk or memory, 3 a loss that is not finite, 130 interrupted.
    """
    if list_presets:
        _print_presets(as_json=as_json)
        return
    if resume is not None:
        if out or preset or config or no_resume or model:
            raise click.UsageError(
                "--resume RUN takes everything from the folder. Drop the other options, or use --out RUN with the same command."
            )
        out, config = resume, _run_file(resume)
    if out is None:
        raise click.UsageError("Say where the run goes: --out RUN.")
    if preset and config:
        raise click.UsageError(
            "--preset and --config exclude each other. A run file names its preset as `base`."
        )
    settings = run_settings(preset, config, data, changes, minutes, device, model)
    with _bar(quiet or as_json) as watch, stop_signals() as stop:
        summary = _train(settings, out, watch, stop, resume=not no_resume)
    if not _first():
        return
    if as_json:
        print_json("train", _to_json(summary))
    elif not quiet:
        _report(summary, settings)
    if not summary.finished:
        if not as_json:
            echo(f"Stopped at step {summary.steps}. The same command goes on: {_command()}", err=True)
        ctx.exit(INTERRUPTED)


def run_settings(
    preset: str | None,
    config: Path | None,
    data: Path | None,
    changes: tuple[str, ...],
    minutes: float | None,
    device: str | None,
    model: str | None,
) -> "RunConfig":
    """The run file, with what the command line changes in it."""
    from sdplip.training import config as files

    settings = files.read_config(config) if config else files.preset(preset or DEFAULT)
    short = {"train.minutes": minutes, "train.device": device, "model.factory": model}
    if data is not None:
        named = any(change.startswith("data.name=") for change in changes)
        short |= _data(data, settings.data.name, named=named)
    given = {key: value for key, value in short.items() if value is not None}
    for key, _, text in (change.partition("=") for change in changes):
        key = key.strip()
        if key in given and text.strip() not in (str(given[key]), _toml(given[key])):
            raise click.UsageError(f"`{key}` is set twice, by --set and by its own option. Drop one of them.")
    return files.override(settings, [*changes, *(f"{key}={_toml(value)}" for key, value in given.items())])


def _data(data: Path, name: str, *, named: bool) -> dict[str, str]:
    """What --data means: a .npz file; a folder of the data set of the preset; or, beside the digits, any folder of images."""
    from sdplip.training.data import KNOWN

    if data.suffix == ".npz":
        return {} if named else {"data.name": str(data), "data.path": "none"}
    if named or name != "digits":
        return {"data.path": str(data)}
    return {"data.path": str(data), "data.name": data.name if data.name in KNOWN else "parquet"}


def _run_file(run: Path) -> Path:
    from sdplip.errors import InvalidRun
    from sdplip.training.run import CONFIG

    if not (run / CONFIG).is_file():
        raise InvalidRun(
            f"`{run}` holds no run: there is no {CONFIG}. Train one with `sdplip train --out {run}`."
        )
    return run / CONFIG


def _toml(value: str | float) -> str:
    import json

    return json.dumps(value)


def _train(
    settings: "RunConfig",
    out: Path,
    watch: "Callable[[Progress], None] | None",
    stop: Callable[[], bool],
    *,
    resume: bool,
) -> "RunSummary":
    from sdplip.errors import Diverged
    from sdplip.training import train as run

    try:
        return run(settings, out, progress=watch, stop=stop, resume=resume)
    except Diverged as error:
        raise NotFinite(str(error), "Diverged") from None


def _report(summary: "RunSummary", settings: "RunConfig") -> None:
    """What a person wants to know at the end."""
    echo(
        f"{summary.folder}: {summary.steps} steps, {summary.epochs:.3g} epochs in {summary.seconds:.0f} s"
        f" ({summary.images_per_second:.0f} images/s)"
    )
    if summary.clean is not None and summary.certified is not None:
        monitored = f"monitored, weights of step {summary.selected}"
        echo(
            f"validation: {summary.clean:.1%} clean, {summary.certified:.1%} certified at {summary.eps:.4g} ({monitored})"
        )
    if not summary.finished:
        return
    if summary.proven_clean is not None and summary.proven_certified is not None:
        echo(
            f"proven:     {percent_below(summary.proven_clean, 1)} clean,"
            f" {percent_below(summary.proven_certified, 1)} certified at {summary.eps:.4g}"
            f" ({summary.proof_seconds:.1f} s)"
        )
    else:
        echo(f"not proven: {summary.unproven}")
    own = (settings.model.factory or "").startswith("object:")
    echo(
        "Next: `sdplip.certify_accuracy` with the network"
        if own
        else f"Next: sdplip certify {shlex.quote(summary.folder)}"
    )


def _to_json(summary: "RunSummary") -> dict[str, Any]:
    """The summary with the keys of all commands: what is proven by itself, what was monitored apart from it."""

    def at(share: float | None) -> dict[str, float] | None:
        return None if share is None else {repr(summary.eps): share}

    return {
        "file": summary.folder,
        "finished": summary.finished,
        "steps": summary.steps,
        "epochs": summary.epochs,
        "seconds": summary.seconds,
        "images_per_second": summary.images_per_second,
        "selected": summary.selected,
        "eps": summary.eps,
        "monitored": {"clean": summary.clean, "certified": at(summary.certified)},
        "clean": summary.proven_clean,
        "certified": at(summary.proven_certified),
        "bound": summary.bound,
        "unproven": summary.unproven,
        "proof_seconds": summary.proof_seconds,
    }


def _print_presets(*, as_json: bool) -> None:
    from sdplip.training.config import preset_names

    if as_json:
        print_json("presets", {"presets": list(preset_names())})
        return
    for name in preset_names():
        echo(name)


def _command() -> str:
    """What was typed, without the program."""
    return "sdplip " + shlex.join(argument for argument in sys.argv[1:] if argument != "--no-resume")


def _first() -> bool:
    """Whether this process speaks for all that torchrun started."""
    import os

    return os.environ.get("RANK", "0") == "0"


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """A block in which the first Ctrl-C (or SIGTERM of a job scheduler) is a request, and the second one is obeyed at once."""
    asked: list[int] = []

    def note(number: int, frame: Any) -> None:  # noqa: ARG001
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals go elsewhere
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(silent: bool) -> "Iterator[Callable[[Progress], None] | None]":
    """A callback that draws the progress of a run; None where nobody would see it."""
    if silent or not _first():
        yield None
        return
    from sdplip.progress import run_bar

    with run_bar() as watch:
        yield watch
