"""`sdplip sweep`: several values of some keys, a run each, chosen on the validation split, shown as a front."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.answers import echo, path_or_none, print_json
from sdplip.cli.failure import INTERRUPTED
from sdplip.cli.options import Output, json_option
from sdplip.cli.subject import Radii
from sdplip.cli.train import run_settings, stop_signals

if TYPE_CHECKING:
    from sdplip.training import RunConfig
    from sdplip.training.trials import Final, Sweep, Trial

ANSWER = "sweep.json"
"""In the folder of a sweep: what the command said last, as `--json` prints it."""


@click.command(short_help="Train with several values, choose on the validation split.")
@click.argument("runfile", metavar="RUNFILE")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=V,V,..",
    help="Values to try, loss.offset=0.1,0.2 for example; one value is for all runs. May be repeated: every combination. Arrays in brackets.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", required=True, help="Folder of all runs."
)
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR|FILE", help="As of `sdplip train`.")
@click.option("--minutes", type=float, metavar="N", help="Time of each run, instead of epochs.")
@click.option("--device", metavar="DEVICE", help="As of `sdplip train`.")
@click.option(
    "--seeds",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Then N final runs of the chosen values, one a seed; each sees the test set, once.",
)
@click.option("--radii", type=Radii(), help="Of the test set [default: train.eps].")
@click.option(
    "-o", "--output", type=Output(".png", ".pdf", ".svg"), metavar="FILE.png", help="The front as a figure."
)
@click.option("--csv", "table", type=Output(".csv"), metavar="FILE.csv", help="Every run, value by value.")
@click.option("--quiet", is_flag=True, help="Print neither progress nor result.")
@json_option
@click.pass_context
def sweep(
    ctx: click.Context,
    runfile: str,
    changes: tuple[str, ...],
    out: Path,
    data: Path | None,
    minutes: float | None,
    device: str | None,
    seeds: int,
    radii: tuple[str, ...] | None,
    output: Path | None,
    table: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train RUNFILE with every combination of the values, and show clean against certified accuracy.

    RUNFILE is a run file or the name of a preset. All that is compared is proven, on the validation split: the values that certify most
    images at `train.eps` are chosen. The test set is for the final runs alone (--seeds). Finished runs are not trained again, and the
    same command goes on with an interrupted sweep.

    Exit code: 0 finished, 2 bad input or full disk or memory, 130 interrupted.
    """
    if radii and not seeds:
        raise click.UsageError(
            "--radii is about the test set, which only --seeds looks at. Add --seeds 3, or drop it."
        )
    fixed, values = _split(changes)
    config = _config(runfile, data, fixed, minutes, device)
    from sdplip.progress import sweep_bar
    from sdplip.training.trials import sweep as run

    with sweep_bar() as watch, stop_signals() as stop:
        watch = None if quiet or as_json else watch
        found = run(config, values, out, seeds=seeds, radii=radii or (), watch=watch, stop=stop)
    if output and found.trials:
        from sdplip.plot import save

        save(found.plot(), output)
    if table:
        _write_table(found, table)
    document = _document(runfile, found, output, table)
    _keep(out, document)
    if as_json:
        print_json("sweep", document)
    elif not quiet:
        from sdplip.cli.render.sweep import sweep as show

        show(found, output, table)
    if not found.finished:
        if not as_json:
            echo(f"Stopped after {len(found.trials)} runs. The same command goes on.", err=True)
        ctx.exit(INTERRUPTED)


def _split(changes: tuple[str, ...]) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Assignments for all runs, and the values of the keys that vary."""
    fixed: list[str] = []
    values: dict[str, list[str]] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        parts = [part.strip() for part in re.split(r",(?![^\[]*\])", text)]
        if not equals or len(parts) == 1:
            fixed.append(change)
            continue
        if key.strip() in values:
            raise click.UsageError(f"`{key.strip()}` varies twice. Put all of its values into one --set.")
        values[key.strip()] = parts
    if not values:
        raise click.UsageError(
            "Nothing varies. Give a key several values, such as --set loss.offset=0.1,0.2,0.4."
        )
    return tuple(fixed), values


def _config(
    runfile: str, data: Path | None, fixed: tuple[str, ...], minutes: float | None, device: str | None
) -> "RunConfig":
    """The run file that all runs share."""
    path = Path(runfile)
    if path.is_file():
        return run_settings(None, path, data, fixed, minutes, device, None)
    if path.suffix or len(path.parts) > 1:
        from sdplip.errors import InvalidConfig

        raise InvalidConfig(
            f"`{runfile}` is no file. Give a run file, or the name of a preset (`sdplip train --list-presets`)."
        )
    return run_settings(runfile, None, data, fixed, minutes, device, None)


def _document(runfile: str, found: "Sweep", output: Path | None, table: Path | None) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "file": runfile,
        "output": found.folder,
        "finished": found.finished,
        "eps": found.eps,
        "trials": [_trial(trial, found.eps) for trial in found.trials],
        "chosen": None
        if found.chosen is None
        else {"values": dict(found.chosen.values), "run": found.chosen.folder},
        "finals": [
            {
                "seed": one.seed,
                "run": one.folder,
                "clean": one.clean,
                "certified": dict(one.certified),
                "mean_radius": one.mean_radius,
                "bound": one.bound,
            }
            for one in found.finals
        ],
        "over_seeds": _over_seeds(found.finals),
        "figure": path_or_none(output),
        "csv": path_or_none(table),
    }


def _trial(trial: "Trial", eps: float) -> dict[str, Any]:
    return {
        "values": dict(trial.values),
        "run": trial.folder,
        "clean": trial.clean,
        "certified": None if trial.certified is None else {repr(eps): trial.certified},
        "bound": trial.bound,
        "unproven": trial.why,
        "front": trial.front,
    }


def _over_seeds(finals: "tuple[Final, ...]") -> dict[str, Any] | None:
    from sdplip.training.trials import over_seeds

    if not finals:
        return None

    def spread(values: list[float]) -> dict[str, float]:
        return dict(zip(("mean", "least", "most"), over_seeds(values), strict=True))

    return {
        "clean": spread([one.clean for one in finals]),
        "certified": {eps: spread([one.certified[eps] for one in finals]) for eps in finals[0].certified},
        "mean_radius": spread([one.mean_radius for one in finals]),
    }


def _write_table(found: "Sweep", path: Path) -> None:
    """One row a run: the values, then what is proven."""
    import csv
    import io

    from sdplip.writing import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(found.trials[0].values) if found.trials else []
    writer.writerow([*keys, "clean", "certified", "bound", "front", "chosen", "run"])
    for trial in found.trials:
        shares = (
            "" if value is None else repr(value) for value in (trial.clean, trial.certified, trial.bound)
        )
        writer.writerow([*trial.values.values(), *shares, trial.front, trial == found.chosen, trial.folder])
    write_text(path, text.getvalue())


def _keep(out: Path, document: dict[str, Any]) -> None:
    """Leave the answer beside the runs."""
    from sdplip.cli.answers import json_text
    from sdplip.training.files import write_atomic

    if out.is_dir():
        write_atomic(out / ANSWER, (json_text("sweep", document) + "\n").encode())
