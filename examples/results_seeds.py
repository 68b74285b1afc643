"""The rows of docs/results.md over several seeds, with nothing chosen by hand.

    python examples/results_seeds.py FOLDER mnist fashion cifar10 --data DATA                                  # many hours
    python examples/results_seeds.py FOLDER fashion --minutes 0.5 --data DATA                                  # an hour
    python examples/results_seeds.py FOLDER mnist --only muon --minutes 0.2 --seeds 1 --data DATA --rows FOLDER   # a quick look
    python examples/results_seeds.py FOLDER page                               # docs/results.md from docs/results/seeds_*.json

Offset and learning rate of every row are chosen among `CHOICES` on the validation split alone, at the radius `train.eps`, in runs of a fifth of the
time. Then the chosen values are trained with every seed, and each of these runs sees the test set once: mean (least to most). Minutes are processor
time of one thread. Rows and seeds that docs/results/seeds_TABLE.json (`--rows`) holds for as many minutes are not run again, nor what is in FOLDER;
each seed is written there as it ends.
"""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import TABLES, Run
from search import spread, tested, tried

from sdplip.training import RunConfig, override, preset
from sdplip.training.trials import sweep
from sdplip.writing import write_text

DOCS = Path(__file__).parent.parent / "docs"

CHOICES = {"loss.offset": (0.7, 1.0, 1.4), "optimiser.lr": (0.5, 1.0, 2.0)}
"""What a search tries: multiples of the values of the row."""

LARGEST = {"muon": 0.6}
"""Learning rates that an optimiser refuses to exceed."""

CLOCK = ("train.threads=1", "train.clock=cpu", "train.device=cpu")
"""One thread, whose processor time counts: other work on the machine changes nothing."""

SHORTER = 5
"""How much shorter the runs of a search are."""


@dataclass(frozen=True)
class Plan:
    """How the rows of a table are made."""

    folder: Path
    data: str
    minutes: float
    seeds: int


def choices(run: Run) -> dict[str, list[str]]:
    """What a search tries for this row."""
    config = override(preset(run.preset), run.changes)
    found = {}
    for key, multiples in CHOICES.items():
        section, name = key.split(".")
        value = vars(vars(config)[section])[name]
        most = LARGEST.get(config.optimiser.name, float("inf")) if key == "optimiser.lr" else float("inf")
        found[key] = list(dict.fromkeys(f"{min(value * multiple, most):.4g}" for multiple in multiples))
    return found


def recipe(run: Run, plan: Plan, minutes: float) -> RunConfig:
    """The run file of a row, but for what its search varies."""
    changes = [*run.changes, *CLOCK, f'data.path="{plan.data}"', f"train.minutes={minutes}"]
    return override(preset(run.preset), changes)


def searched(run: Run, plan: Plan) -> dict[str, Any]:
    """A row before its final runs: what the search saw, and the values that it chose."""
    config = recipe(run, plan, plan.minutes / SHORTER)
    found = sweep(config, choices(run), plan.folder / f"{run.name}-search")
    if found.chosen is None:
        raise SystemExit(f"No run of {run.name} has a proof.")
    return {
        "name": run.name,
        "preset": run.preset,
        "changes": [*run.changes],
        "eps": config.train.eps,
        "search": tried(found.trials),
        "chosen": dict(found.chosen.values),
        "finals": [],
    }


def final(row: dict[str, Any], run: Run, plan: Plan, radii: tuple[str, ...], seed: int) -> dict[str, Any]:
    """A final run of the chosen values on the test set."""
    config = override(recipe(run, plan, plan.minutes), [f"train.seed={seed}"])
    values = {key: [value] for key, value in row["chosen"].items()}
    return tested(
        sweep(config, values, plan.folder / f"{run.name}-seed-{seed}", seeds=1, radii=radii).finals
    )[0]


def stands(row: dict[str, Any], run: Run) -> bool:
    """Whether a row is of this recipe."""
    return (row["name"], row["preset"], row["changes"]) == (run.name, run.preset, [*run.changes])


def complete(name: str, plan: Plan, answer: Path, only: str) -> None:
    """Run what is missing of a table, writing it down seed by seed."""
    table = TABLES[name]
    document: dict[str, Any] = json.loads(answer.read_text()) if answer.exists() else {}
    if document.get("minutes") != plan.minutes:
        document = {"minutes": plan.minutes, "rows": []}
    for run in table.runs:
        if only not in run.name:
            continue
        row = next((row for row in document["rows"] if stands(row, run)), None)
        if row is None:
            row = searched(run, plan)
            document["rows"] = [*(other for other in document["rows"] if other["name"] != run.name), row]
        for seed in sorted({*range(plan.seeds)} - {one["seed"] for one in row["finals"]}):
            row["finals"].append(final(row, run, plan, table.radii, seed))
            write_text(answer, json.dumps(document, indent=1) + "\n")
        print(f"{name}, {plan.minutes:g} minutes: {line(row, table.radii)}", flush=True)


def line(row: dict[str, Any], radii: tuple[str, ...]) -> str:
    """A line of the Markdown table, in percent."""
    runs = row["finals"]
    values = ", ".join(f"{key.partition('.')[2]} {value}" for key, value in row["chosen"].items())
    cells = [spread([run["clean"] for run in runs], 1)]
    cells += [spread([run["certified"][eps] for run in runs], 1) for eps in radii]
    cells += [spread([run["mean_radius"] for run in runs], 3, 1), f"{max(run['bound'] for run in runs):.7f}"]
    return f"| {row['name']} | {values} | {len(runs)} | {' | '.join(cells)} |"


def shown(name: str, document: dict[str, Any]) -> str:
    """The table of a document, those that certify most at the radius of the choice first."""
    radii = TABLES[name].radii
    rows = sorted(document["rows"], key=lambda row: (row["eps"], -certified(row)))
    lines = [
        f"{document['minutes']:g} CPU minutes of one thread a run.",
        "",
        f"| run | chosen | seeds | clean | {' | '.join(radii)} | mean radius | largest bound |",
        f"|---|---|{'--:|' * (4 + len(radii))}",
        *(line(row, radii) for row in rows),
        "",
        "What the search saw, in a fifth of the time, one seed: clean and certified accuracy of the validation split at the radius of the choice.",
        "",
        *searches(rows),
    ]
    return "\n".join(lines)


def searches(rows: list[dict[str, Any]]) -> list[str]:
    """The tables of the searches as one: a line for each run and offset, the learning rates beside each other."""
    lines = ["| run | radius | offset | learning rate: clean, certified | | |", "|---|--:|--:|---|---|---|"]
    for row in rows:
        by_offset: dict[str, list[str]] = {}
        for trial in row["search"]:
            shares = "no proof"
            if trial["certified"] is not None:
                shares = f"{100 * trial['clean']:.1f}, {100 * trial['certified']:.1f}"
            text = f"{trial['values']['optimiser.lr']}: {shares}"
            best = f"**{text}**" if trial["values"] == row["chosen"] else text
            by_offset.setdefault(trial["values"]["loss.offset"], []).append(best)
        for offset, cells in by_offset.items():
            cells += [""] * (len(CHOICES["optimiser.lr"]) - len(cells))
            lines.append(f"| {row['name']} | {row['eps']:.3g} | {offset} | {' | '.join(cells)} |")
    return lines


def certified(row: dict[str, Any]) -> float:
    """Mean share of the test set at the radius that the search chose by; of the nearest one of the table."""
    radii = {eps: fraction(eps) for eps in row["finals"][0]["certified"]}
    nearest = min(radii, key=lambda eps: abs(radii[eps] - row["eps"]))
    return sum(run["certified"][nearest] for run in row["finals"]) / len(row["finals"])


def fraction(text: str) -> float:
    """`36/255` or `0.5` as a number."""
    numerator, _, denominator = text.partition("/")
    return float(numerator) / float(denominator or 1)


def renewed(page: str, rows: Path) -> str:
    """The page with the tables of these rows, between their marks."""
    for name in TABLES:
        answer = rows / f"seeds_{name}.json"
        if answer.exists():
            text = shown(name, json.loads(answer.read_text()))
            pattern = rf"(<!-- seeds {name} -->\n).*?(<!-- end seeds {name} -->)"
            page = re.sub(pattern, lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.S)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="The rows of docs/results.md over several seeds.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="+", choices=(*TABLES, "page"))
    parser.add_argument("--data", default="", help="folder with `mnist`, `fashion_mnist` and `cifar10`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="for each run, instead of the table's own")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    parser.add_argument(
        "--rows", type=Path, default=DOCS / "results", help="what is done, and where more is written"
    )
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.tables:
        if name == "page":
            page = DOCS / "results.md"
            write_text(page, renewed(page.read_text(), options.rows))
            continue
        minutes = options.minutes or TABLES[name].minutes
        plan = Plan(options.folder, options.data, minutes, options.seeds)
        complete(name, plan, options.rows / f"seeds_{name}.json", options.only)


if __name__ == "__main__":
    main()
