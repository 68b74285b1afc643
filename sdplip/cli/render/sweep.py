"""The table of a sweep, and that of its final runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from sdplip.arithmetic.decimals import percent_below
from sdplip.cli.render.frame import above, below, open_console, open_table, say

if TYPE_CHECKING:
    from sdplip.training.trials import Sweep


def sweep(found: "Sweep", figure: Path | None, table: Path | None) -> None:
    """Prints one row a combination of values, what was chosen, one row a seed, and where the files are."""
    console = open_console()
    keys = list(found.trials[0].values) if found.trials else []
    names = {f"k{i}": key for i, key in enumerate(keys)}
    grid = open_table(
        "run", **names, clean="clean %", certified=f"> {found.eps:.4g}", bound="bound", front=""
    )
    for number, trial in enumerate(found.trials, 1):
        words = " ".join(
            [*(["front"] if trial.front else []), *(["chosen"] if trial == found.chosen else [])]
        )
        shares = ["" if x is None else _percent(x) for x in (trial.clean, trial.certified)]
        bound = "" if trial.bound is None else above(trial.bound, 6)
        grid.add_row(str(number), *trial.values.values(), *shares, bound, words)
    console.print(grid)
    say(console, "Proven shares of the validation split; the test set was not looked at for them.")
    for number, trial in enumerate(found.trials, 1):
        if trial.why:
            say(console, f"Run {number} has no proof: {trial.why}")
    if found.finals:
        _finals(found)
    if figure:
        say(console, f"Figure: {figure}")
    if table:
        say(console, f"Table: {table}")
    if found.chosen is not None and not found.finals:
        say(
            console,
            "Next: the same command with `--seeds 3` trains the chosen values with three seeds and looks at the test set, once each.",
        )


def _finals(found: "Sweep") -> None:
    """The test set, a row a seed, and their mean and range."""
    from sdplip.training.trials import over_seeds

    console = open_console()
    radii = list(found.finals[0].certified)
    columns = {f"r{i}": f"> {_short(eps)}" for i, eps in enumerate(radii)}
    grid = open_table("seed", clean="clean %", **columns, mean="mean radius", bound="bound")
    for one in found.finals:
        shares = map(_percent, (one.clean, *one.certified.values()))
        grid.add_row(str(one.seed), *shares, below(one.mean_radius, 4), above(one.bound, 6))
    shares = [
        [one.clean for one in found.finals],
        *([one.certified[eps] for one in found.finals] for eps in radii),
    ]
    for place, name in enumerate(("mean", "least", "most")):
        cells = [_percent(over_seeds(values)[place]) for values in shares]
        mean = over_seeds([one.mean_radius for one in found.finals])[place]
        grid.add_row(name, *cells, below(mean, 4), style="bold" if place == 0 else "dim")
    console.print(grid)
    say(console, "The whole test set, proven; each run saw it once.")


def _percent(share: float) -> str:
    return percent_below(share).removesuffix(" %")


def _short(eps: str) -> str:
    """A radius as it was given, a double with four digits."""
    return eps if len(eps) <= 7 else f"{float(eps):.4g}"
