"""The table of certified-accuracy curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdplip.arithmetic.decimals import percent_below
from sdplip.cli.render.frame import below, open_console, open_table, say

if TYPE_CHECKING:
    from sdplip.robustness.curve import Curve
    from sdplip.robustness.published import PublishedRow

RADII = ("36/255", "72/255", "108/255", "1")
"""The radii of the literature."""


def curves(
    found: "Sequence[Curve]", rows: "Sequence[PublishedRow]", figure: Path | None, table: Path | None
) -> None:
    """Prints one row a curve and a published row, then where the files are."""
    console = open_console()
    radii = list(dict.fromkeys([*RADII, *(r for row in rows for r, _ in row.certified)]))
    grid = open_table(
        "curve", n="", clean="clean %", **{f"r{i}": f"> {r}" for i, r in enumerate(radii)}, mean="mean radius"
    )
    for curve in found:
        cells = [percent_below(x).removesuffix(" %") for x in (curve.clean, *map(curve.at, radii))]
        grid.add_row(curve.label, str(curve.n), *cells, below(curve.mean_radius, 4))
    for row in rows:
        cell = dict(row.certified)
        certified = [f"{cell[r]:g}" if r in cell else "" for r in radii]
        grid.add_row(
            row.model, "", "" if row.clean is None else f"{row.clean:g}", *certified, "", style="dim"
        )
    console.print(grid)
    for row in rows:
        words = [f"not certified: {row.doubt}"] if row.doubt else []
        words += ["trained on generated images too"] if row.extra_data else []
        words += [row.note] if row.note else []
        say(console, f"{row.model}: {row.source}{''.join('; ' + w for w in words)}.")
    for curve in found:
        for p in curve.broken:
            say(
                console,
                f"WARNING: {p.attack} leaves {curve.name} less than is certified at {p.eps:.6g}. Unless it saw other samples"
                " or another network, a certificate is false: please report it.",
                style="red",
            )
    if figure:
        say(console, f"Figure: {figure}")
    if table:
        say(console, f"Table: {table}")
    if not (figure or table):
        say(console, "Next: `-o curves.png` draws this, `--csv curves.csv` writes every step.")
