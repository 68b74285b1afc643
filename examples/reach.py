"""How much is proven for a small budget: the best recipe of each data set, chosen on the validation split, then one look at the test set a seed.

    python examples/reach.py FOLDER mnist fashion cifar10 cifar10-far --data DATA --seeds 3                        # hours
    python examples/reach.py FOLDER mnist --data DATA --seeds 1 --minutes 0.1 --rows FOLDER/quick.json           # a quick look
    python examples/reach.py FOLDER page                                       # docs/results.md from docs/results/reach.json

Minutes are processor time of one thread. The values of a grid are tried for a fifth of the time each, and those that certify most images of the
validation split at the radius of the goal are trained in full length. Searches and seeds that docs/results/reach.json (`--rows`) holds are not
run again, nor what is in FOLDER; each seed is written there as it ends. DATA is a folder with `mnist`, `fashion_mnist` and `cifar10` as Parquet
files.
"""

import argparse
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search import spread, tested, tried

from sdplip.training import RunConfig, override, preset
from sdplip.training.trials import sweep
from sdplip.writing import write_text

DOCS = Path(__file__).parent.parent / "docs"
ROWS, PAGE = DOCS / "results" / "reach.json", DOCS / "results.md"
CLOCK = ("train.threads=1", "train.clock=cpu", "train.device=cpu")
SHORTER = 5
"""How much shorter the runs of a search are."""


@dataclass(frozen=True)
class Goal:
    """A data set, a budget, a recipe, and what was hoped for (percent clean, or certified by radius)."""

    preset: str
    minutes: float
    radii: tuple[str, ...]
    hoped: dict[str, float]
    grid: dict[str, tuple[str, ...]]
    changes: tuple[str, ...] = ()


MNIST = Goal("mnist-muon", 10, ("0.5", "1", "1.58"), {"clean": 98.2, "1.58": 70}, {})
CIFAR10 = Goal("cifar10-muon", 20, ("36/255", "72/255", "108/255", "1"), {"36/255": 60}, {})
GOALS = {
    "mnist": replace(
        MNIST,
        grid={"loss.offset": ("2.4", "2.8", "3.36"), "train.average": ("none", "0.99")},
        changes=("model.hidden=512",),
    ),
    "mnist-clean": replace(
        MNIST,
        grid={"model.hidden": ("512", "1024"), "optimiser.lr": ("0.4", "0.6")},
        changes=("loss.offset=2.4",),
    ),
    "mnist-crop": replace(MNIST, grid={"loss.offset": ("2.7",)}, changes=("data.augment=crop1",)),
    "mnist-turn": replace(
        MNIST,
        grid={"loss.offset": ("2.6",), "train.average": ("0.99",)},
        changes=("model.hidden=512", "data.augment=rotate8,translate0.5"),
    ),
    "fashion": Goal(
        "fashion-muon",
        10,
        ("0.25", "0.5", "1"),
        {"1": 46},
        {"loss.offset": ("1", "2", "2.8")},
        ("train.eps=1",),
    ),
    "cifar10": replace(CIFAR10, grid={"loss.offset": ("0.7", "1")}),
    "cifar10-mean": replace(CIFAR10, grid={"train.average": ("0.99",)}, changes=("train.batch=512",)),
    "cifar10-hour": replace(
        CIFAR10,
        minutes=120,
        hoped={"36/255": 64},
        grid={"loss.offset": ("1",)},
        changes=(
            "model.width=96",
            "model.hidden_channels=96",
            "train.batch=512",
            "data.augment=crop4,flip,jitter0.5",
        ),
    ),
    "cifar10-far": replace(
        CIFAR10, hoped={"1": 20}, grid={"loss.offset": ("5.66",)}, changes=("train.eps=1",)
    ),
}


def searched(name: str, folder: Path, data: str, minutes: float) -> dict[str, Any]:
    """The row of a goal before its final runs: what the search saw, and the values that it chose."""
    goal = GOALS[name]
    base = recipe(goal, data, minutes / SHORTER)
    alone = all(len(texts) == 1 for texts in goal.grid.values())
    found = None if alone else sweep(base, goal.grid, folder / f"{name}-search")
    if found is not None and found.chosen is None:
        raise SystemExit(f"No run of {name} has a proof.")
    only = {key: texts[0] for key, texts in goal.grid.items()}
    return {
        "preset": goal.preset,
        "changes": [*goal.changes],
        "minutes": minutes,
        "eps": base.train.eps,
        "search": [] if found is None else tried(found.trials),
        "chosen": only if found is None or found.chosen is None else dict(found.chosen.values),
        "finals": [],
    }


def final(row: dict[str, Any], name: str, folder: Path, data: str, seed: int) -> dict[str, Any]:
    """A final run of the chosen values in full length, on the test set."""
    goal = GOALS[name]
    full = override(recipe(goal, data, row["minutes"]), [f"train.seed={seed}"])
    values = {key: [value] for key, value in row["chosen"].items()}
    found = sweep(full, values, folder / f"{name}-final-seed-{seed}", seeds=1, radii=goal.radii)
    return tested(found.finals)[0]


def recipe(goal: Goal, data: str, minutes: float) -> RunConfig:
    """The run file of a goal, but for what its search varies."""
    changes = [*CLOCK, *goal.changes, f'data.path="{data}"', f"train.minutes={minutes}"]
    return override(preset(goal.preset), changes)


def stands(row: dict[str, Any] | None, goal: Goal, minutes: float) -> bool:
    """Whether a row is of this recipe, so that its search and its final runs count."""
    wanted = (goal.preset, [*goal.changes], minutes, set(goal.grid))
    return row is not None and wanted == (row["preset"], row["changes"], row["minutes"], set(row["chosen"]))


def table(rows: dict[str, Any]) -> str:
    """Final runs beside what was hoped for, then what the searches saw."""
    lines = [
        "| goal | recipe | CPU minutes | seeds | hoped for | clean | certified | mean radius |",
        "|---|---|--:|--:|---|--:|---|--:|",
    ]
    for name, row in rows.items():
        runs = row["finals"]
        recipe = ", ".join(
            [
                f"`{row['preset']}`",
                *row["changes"],
                *(f"{key}={value}" for key, value in row["chosen"].items()),
            ]
        )
        hoped = ", ".join(
            f"{value:g} {key if key == 'clean' else f'at {key}'}" for key, value in GOALS[name].hoped.items()
        )
        certified = ", ".join(
            f"{spread([run['certified'][eps] for run in runs], 1)} at {eps}" for eps in GOALS[name].radii
        )
        lines.append(
            f"| {name} | {recipe} | {row['minutes']:g} | {len(runs)} | {hoped} | {spread([run['clean'] for run in runs], 1)} | {certified} |"
            f" {spread([run['mean_radius'] for run in runs], 3, 1)} |"
        )
    lines += ["", "| goal | tried on the validation split | clean | certified |", "|---|---|--:|--:|"]
    for name, row in rows.items():
        for trial in row["search"]:
            values = ", ".join(f"{key}={value}" for key, value in trial["values"].items())
            shares = [trial["clean"], trial["certified"]]
            cells = " | ".join("not proven" if share is None else f"{100 * share:.1f}" for share in shares)
            lines.append(f"| {name} | {values} | {cells} |")
    return "\n".join(lines)


def renewed(page: str, rows: dict[str, Any]) -> str:
    """The page with the table of these rows."""
    pattern = r"(<!-- reach -->\n).*?(<!-- end reach -->)"
    return re.sub(pattern, lambda m: f"{m[1]}\n{table(rows)}\n\n{m[2]}", page, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description="The best proven numbers for a small budget.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("goals", nargs="+", choices=(*GOALS, "page"))
    parser.add_argument("--data", help="folder with `mnist`, `fashion_mnist` and `cifar10`")
    parser.add_argument("--minutes", type=float, help="of the final runs, instead of those of the goals")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=Path, default=ROWS, help="what is done, and where more is written")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = json.loads(options.rows.read_text()) if options.rows.exists() else {}
    for name in options.goals:
        if name == "page":
            write_text(PAGE, renewed(PAGE.read_text(), rows))
            continue
        minutes = options.minutes or GOALS[name].minutes
        if not stands(rows.get(name), GOALS[name], minutes):
            rows[name] = searched(name, options.folder, options.data, minutes)
        row = rows[name]
        for seed in sorted({*range(options.seeds)} - {run["seed"] for run in row["finals"]}):
            row["finals"].append(final(row, name, options.folder, options.data, seed))
            write_text(options.rows, json.dumps(rows, indent=1) + "\n")
        print(table({name: row}), flush=True)


if __name__ == "__main__":
    main()
