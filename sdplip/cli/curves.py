"""`sdplip curves RUN...`: certified accuracy over radius, as a table, a figure and a CSV."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdplip.cli.answers import path_or_none, print_json
from sdplip.cli.options import Finite, Output, json_option

if TYPE_CHECKING:
    from sdplip.robustness.published import PublishedRow
    from sdplip.robustness.run import CertifiedRun


@click.command(short_help="Draw certified accuracy over radius of certified runs.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="PAPER[:DATA]",
    help="Published rows as marks: SLL, CPL, AOL, 1LLC, GloRo, ...; or a model, `AOL L`. May be repeated.",
)
@click.option("--names", metavar="A,B,..", help="Names of the curves instead of those of the folders.")
@click.option(
    "-o",
    "--output",
    type=Output(".png", ".pdf", ".svg"),
    metavar="FILE.png",
    help="The figure (png, pdf, svg).",
)
@click.option(
    "--csv", "table", type=Output(".csv"), metavar="FILE.csv", help="Every curve, radius by radius."
)
@click.option("--max-radius", type=Finite(), metavar="R", help="Where the axis of the figure ends.")
@json_option
def curves(
    runs: tuple[Path, ...],
    references: tuple[str, ...],
    names: str | None,
    output: Path | None,
    table: Path | None,
    max_radius: float | None,
    as_json: bool,
) -> None:
    """Compare the certified accuracy of RUNs over the radius.

    RUN is a folder in which `sdplip certify RUN` has been, or a per-sample table with the columns label, predict, radius.
    The curve counts samples that are correct with a radius strictly larger than r: its integral is the mean radius.
    """
    from sdplip.cli import render
    from sdplip.robustness.curve import write_curves
    from sdplip.robustness.run import read_run

    if max_radius == 0:
        raise click.UsageError("--max-radius 0 leaves nothing to draw. Give a positive radius.")
    if max_radius is not None and output is None:
        raise click.UsageError("--max-radius is about the figure. Add -o curves.png, or drop it.")
    found = [read_run(run, name) for run, name in zip(runs, _names(runs, names), strict=True)]
    rows = _rows(references, found)
    drawn = [run.curve for run in found]
    if table:
        write_curves(table, drawn, rows)
    if output:
        from sdplip.plot import draw_curves, save

        save(draw_curves(drawn, rows, max_radius=max_radius), output)
    if as_json:
        print_json(
            "curves",
            {
                "curves": [{**run.curve.to_json(render.RADII), "data": run.data} for run in found],
                "references": [_published(row) for row in rows],
                "figure": path_or_none(output),
                "csv": path_or_none(table),
            },
        )
    else:
        render.curves(drawn, rows, output, table)


def _published(row: "PublishedRow") -> dict[str, Any]:
    """A published row with shares in place of percents."""
    return {
        "paper": row.paper,
        "name": row.model,
        "data": row.data,
        "clean": None if row.clean is None else row.clean / 100,
        "certified": {eps: percent / 100 for eps, percent in row.certified},
        "source": row.source,
        "doubt": row.doubt,
        "extra_data": row.extra_data,
        "note": row.note,
    }


def _names(runs: tuple[Path, ...], names: str | None) -> list[str]:
    """One name a run: as given, else the folder's or file's, with as many parents as it takes to tell them apart."""
    if names is not None:
        given = [name.strip() for name in names.split(",")]
        if len(given) != len(runs) or not all(given):
            raise click.UsageError(f"--names has {len(given)} names for {len(runs)} runs. Give one a run.")
        if len(set(given)) != len(given):
            raise click.UsageError("--names: two curves have the same name. Give different ones.")
        return given
    if len({run.resolve() for run in runs}) != len(runs):
        raise click.UsageError("The same RUN stands there twice. Drop one.")
    parts = [
        run.resolve().with_suffix("").parts if run.suffix == ".csv" else run.resolve().parts for run in runs
    ]
    for depth in range(1, max(map(len, parts)) + 1):
        short = ["/".join(path[-depth:]) for path in parts]
        if len(set(short)) == len(short):
            return short
    return [str(run) for run in runs]


def _rows(references: tuple[str, ...], found: "list[CertifiedRun]") -> "list[PublishedRow]":
    """The published rows that are about the data of the runs, or about the data that a reference names itself."""
    from sdplip.robustness.published import published

    data = {run.data for run in found if run.data is not None}
    rows = dict["PublishedRow", None]()
    for reference in references:
        name, _, chosen = reference.partition(":")
        if not chosen and len(data) != 1:
            known = f"of {', '.join(sorted(data))}" if data else "of data that their files do not name"
            raise click.UsageError(
                f"--reference {name}: the runs are {known}. Say which rows are meant, as in --reference {name}:cifar10."
            )
        rows |= dict.fromkeys(published(name, chosen or next(iter(data))))
    return list(rows)
