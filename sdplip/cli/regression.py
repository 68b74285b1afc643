"""`sdplip certify RUN` of a regression: intervals of predictions, and errors that stay below a tolerance."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdplip.arithmetic.decimals import percent_below
from sdplip.cli.answers import echo, path_or_none, print_json
from sdplip.cli.subject import part_of

if TYPE_CHECKING:
    from sdplip.cli.certify_options import Options
    from sdplip.robustness.regression import Regression


def is_regression(run: Path) -> bool:
    """Whether the run folder holds a network of numbers, not of classes."""
    from sdplip.nn.losses import AbstractRegression
    from sdplip.training.build import build_loss
    from sdplip.training.config import read_config
    from sdplip.training.run import CONFIG

    path = run / CONFIG
    return path.is_file() and isinstance(build_loss(read_config(path).loss), AbstractRegression)


def certify_run(asked: "Options") -> None:
    """Certifies the run on its own data and prints the answer."""
    from sdplip.errors import InvalidRun
    from sdplip.robustness.regression import certify_regression
    from sdplip.robustness.samples import write_samples
    from sdplip.training.build import tolerance_of
    from sdplip.training.data import load
    from sdplip.training.run import load_run, standard_of

    config, model = load_run(asked.model)
    data = load(config.data)
    if data.standard != standard_of(asked.model):
        raise InvalidRun(
            f"The data are not those that `{asked.model}` was trained with: its rows were standardised by other means and deviations."
            " Give the same data, or train again."
        )
    part = part_of(data, asked.split)
    deviations = () if data.standard is None else data.standard.target_std
    unit = deviations[0] if len(deviations) == 1 else 1.0
    found = certify_regression(
        model,
        part.images[: asked.limit],
        part.labels[: asked.limit],
        tolerance=tolerance_of(config.loss) if asked.tolerance is None else asked.tolerance / unit,
        precision=asked.precision,  # pyright: ignore[reportArgumentType]  # `check_precision` has refused half
    )
    if asked.samples:
        write_samples(asked.samples, found)
    answer = Answer(asked, config.data.name, found, unit)
    if asked.as_json:
        print_json("certify", _document(answer))
    else:
        _say(answer)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was certified, of which rows, and how it is told.

    Attributes:
        data: name of the data.
        unit: one standard deviation of the target; 1 where there are several targets.
    """

    asked: "Options"
    data: str
    found: "Regression"
    unit: float


def _document(answer: Answer) -> dict[str, Any]:
    """The keys of `certify`; what is about logits alone is null."""
    found = answer.found
    return {
        "file": str(answer.asked.model),
        "data": answer.data,
        "split": answer.asked.split,
        "n": found.n,
        "clean": found.clean,
        "bound": found.bound.value,
        "margin_constant": None,
        "certified": {eps: found.certified(eps) for eps in answer.asked.radii},
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
        "samples": path_or_none(answer.asked.samples),
        "certificate": None,
        "verify": None,
        "local": None,
        "smoothing": None,
        "regression": found.to_json(answer.asked.radii, answer.unit),
    }


def _say(answer: Answer) -> None:
    from sdplip.cli.render import above, below, open_console, open_table

    found, unit = answer.found, answer.unit
    console, said = open_console(), found.to_json(answer.asked.radii, unit)
    echo(f"{answer.asked.model} on {answer.data}, {answer.asked.split} split, {found.n} rows\n")
    error = above(unit * found.tolerance, 4)
    table = open_table(
        "radius", moves="predictions move by at most", right=f"error below {error}", r2="R2 at least"
    )
    table.add_row("0", "0", percent_below(found.clean), below(said["r2"], 4))
    for eps in answer.asked.radii:
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
    if answer.asked.samples:
        echo(f"One line a row: {answer.asked.samples}")
