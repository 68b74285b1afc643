"""`sdplip certify RUN` of a regression: intervals of predictions, and errors that stay below a tolerance."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.arithmetic.decimals import percent_below
from sdplip.cli.answers import echo, path_or_none, print_json

if TYPE_CHECKING:
    from sdplip.robustness.arithmetic import Precision
    from sdplip.robustness.regression import Regression


def is_regression(run: Path) -> bool:
    """Whether the run folder holds a network of numbers, not of classes."""
    from sdplip.nn.losses import AbstractRegression
    from sdplip.training.build import build_loss
    from sdplip.training.config import read_config
    from sdplip.training.run import CONFIG

    path = run / CONFIG
    return path.is_file() and isinstance(build_loss(read_config(path).loss), AbstractRegression)


def certify_run(
    run: Path,
    radii: tuple[str, ...],
    split: str,
    limit: int | None,
    *,
    tolerance: float | None,
    precision: "Precision",
    samples: Path | None,
    as_json: bool,
) -> None:
    """Certifies the run on its own data and prints the answer."""
    from sdplip.errors import InvalidRun
    from sdplip.robustness.regression import certify_regression
    from sdplip.robustness.samples import write_samples
    from sdplip.training.build import tolerance_of
    from sdplip.training.data import load
    from sdplip.training.run import load_run, standard_of

    config, model = load_run(run)
    data = load(config.data)
    if data.standard != standard_of(run):
        raise InvalidRun(
            f"The data are not those that `{run}` was trained with: its rows were standardised by other means and deviations."
            " Give the same data, or train again."
        )
    part = {"test": data.test, "validation": data.validation, "train": data.train}[split]
    if part is None:
        raise click.UsageError("--split validation: nothing was held out of these data. Use --split test.")
    deviations = () if data.standard is None else data.standard.target_std
    unit = deviations[0] if len(deviations) == 1 else 1.0
    found = certify_regression(
        model,
        part.images[:limit],
        part.labels[:limit],
        tolerance=tolerance_of(config.loss) if tolerance is None else tolerance / unit,
        precision=precision,
    )
    if samples:
        write_samples(samples, found)
    if as_json:
        print_json("certify", _document(run, config.data.name, split, found, radii, unit, samples))
    else:
        _say(run, config.data.name, split, found, radii, unit, samples)


def _document(
    run: Path,
    data: str,
    split: str,
    found: "Regression",
    radii: tuple[str, ...],
    unit: float,
    samples: Path | None,
) -> dict[str, Any]:
    """The keys of `certify`; what is about logits alone is null."""
    return {
        "file": str(run),
        "data": data,
        "split": split,
        "n": found.n,
        "clean": found.clean,
        "bound": found.bound.value,
        "margin_constant": None,
        "certified": {eps: found.certified(eps) for eps in radii},
        "mean_radius": float(found.radius.mean()),
        "empirical": {},
        "gaps": {},
        "rounding": found.rounding,
        "precision": found.precision,
        "scope": "computed",
        "tree": str(found.bound).splitlines(),
        "seconds": found.seconds,
        "assumed": [],
        "note": "",
        "samples": path_or_none(samples),
        "certificate": None,
        "verify": None,
        "smoothing": None,
        "regression": found.to_json(radii, unit),
    }


def _say(
    run: Path,
    data: str,
    split: str,
    found: "Regression",
    radii: tuple[str, ...],
    unit: float,
    samples: Path | None,
) -> None:
    from sdplip.cli.render import above, below, open_console, open_table

    console, said = open_console(), found.to_json(radii, unit)
    echo(f"{run} on {data}, {split} split, {found.n} rows\n")
    error = above(unit * found.tolerance, 4)
    table = open_table(
        "radius", moves="predictions move by at most", right=f"error below {error}", r2="R2 at least"
    )
    table.add_row("0", "0", percent_below(found.clean), below(said["r2"], 4))
    for eps in radii:
        table.add_row(
            eps,
            above(said["interval"][eps], 4),
            percent_below(found.certified(eps)),
            below(said["r2_at"][eps], 4),
        )
    console.print(table)
    echo(
        f"Root mean square error {above(said['rmse'], 5)}. Radii are lengths of changes of a row in standard deviations of the training rows;"
        f" one standard deviation of the target is {above(unit, 5)}."
    )
    echo(f"Lipschitz bound of the network\n{found.bound}\n")
    words = (
        f"a proven bound of all {found.precision} rounding errors is counted"
        if found.rounding == "proven"
        else "computed in float64; a module has no proven rounding error, so none is counted"
    )
    echo(f"Proven: every row of the table holds at every row within the radius; {words}.")
    if samples:
        echo(f"One line a row: {samples}")
