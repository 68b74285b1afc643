"""`sdplip compare FILE`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdplip.cli.answers import path_or_none, print_json
from sdplip.cli.options import (
    Output,
    Source,
    form_option,
    json_option,
    method_named,
    solver_named,
    solver_options,
    source_options,
)
from sdplip.progress import progress_bar

if TYPE_CHECKING:
    from sdplip.kernel.condition import Form

CLOSED_FORMS = "spectral,aol,perron,multi_step"


@click.command(short_help="All scalings T and the proven optimum side by side.")
@source_options
@click.option(
    "--scalings", default=CLOSED_FORMS, show_default=True, metavar="A,B,..", help="Shown beside the optimum."
)
@form_option
@click.option(
    "--objective",
    type=click.Choice(["trace", "logdet"]),
    default="trace",
    show_default=True,
    help="What the optimum minimises: the sum of t, or the sum of log t.",
)
@solver_options
@click.option(
    "--plot",
    type=Output(".png", ".pdf", ".svg"),
    metavar="FILE.png",
    help="Draw the comparison (png, pdf, svg).",
)
@json_option
def compare(
    source: Source,
    scalings: str,
    form: "Form",
    objective: str,
    solver: str,
    device: str,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare the scalings T of each layer of FILE with the best one that exists.

    The optimum is found by a solver and proven by the kernel from both sides: its t satisfies W^T W <= T, and no t
    that does has a smaller trace than the lower bound shown.
    """
    from sdplip import reports
    from sdplip.cli import render

    goal = {"trace": reports.Objective.TRACE, "logdet": reports.Objective.LOG_DET}[objective]
    names = [name.strip() for name in scalings.split(",") if name.strip() not in ("", goal.value)]
    methods = [method_named(name) for name in dict.fromkeys(names)]
    chosen = solver_named(solver, device)
    with progress_bar() as watch:
        report = reports.compare(
            source.weights(), methods, form=form, objective=goal, solver=chosen, watch=watch
        )
    if plot:
        from sdplip.plot import comparison, save

        save(comparison(report), plot)
    if as_json:
        print_json("compare", {"file": str(source.file), **report.to_json(), "figure": path_or_none(plot)})
    else:
        render.compare(report, source.file, plot)
