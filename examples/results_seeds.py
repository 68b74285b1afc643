"""The rows of docs/results.md over several seeds, with nothing chosen by hand.

    python examples/results_seeds.py FOLDER mnist fashion cifar10 --search --seeds 3 --data DATA    # many hours
    python examples/results_seeds.py FOLDER mnist --only muon --minutes 0.2 --seeds 1 --data DATA   # a quick look

With --search the offset and the learning rate of every row are chosen among `CHOICES` by `sdplip sweep`, on the validation split alone, in runs of a
fifth of the time. Then the chosen values are trained with every seed, and each of these runs sees the test set once: mean (least to most). What is
in FOLDER already is not run again. FOLDER/TABLE.json and FOLDER/TABLE.md are the table as data and as Markdown.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from results import TABLES, Run, Table, sdplip

from sdplip.training import override, preset

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
    search: bool


def choices(run: Run) -> list[str]:
    """What a search tries for this row: `key=a,b,c`."""
    config = override(preset(run.preset), run.changes)
    found = []
    for key, multiples in CHOICES.items():
        section, name = key.split(".")
        value = vars(vars(config)[section])[name]
        most = LARGEST.get(config.optimiser.name, float("inf")) if key == "optimiser.lr" else float("inf")
        tried = dict.fromkeys(f"{min(value * multiple, most):.4g}" for multiple in multiples)
        found.append(f"{key}={','.join(tried)}")
    return found


def settings(changes: list[str]) -> list[str]:
    """The options that make these assignments."""
    return [part for change in changes for part in ("--set", change)]


def chosen(run: Run, plan: Plan) -> list[str]:
    """The assignments of a row: its own, or those that certify most validation images."""
    if not plan.search:
        return list(run.changes)
    others = [change for change in run.changes if change.split("=")[0] not in CHOICES]
    tried = settings([*others, *choices(run), *CLOCK])
    place, short = str(plan.folder / f"{run.name}-search"), str(plan.minutes / SHORTER)
    answer = sdplip(
        "sweep", run.preset, *tried, "--data", plan.data, "--minutes", short, "--out", place, "--json"
    )
    found = json.loads(answer)["chosen"]["values"]
    return [*others, *(f"{key}={value}" for key, value in found.items())]


def seeded(run: Run, table: Table, plan: Plan) -> dict:
    """A row: its values, and what the test set says with each seed."""
    values = chosen(run, plan)
    answers = []
    for seed in range(plan.seeds):
        out, answer = plan.folder / f"{run.name}-seed-{seed}", plan.folder / f"{run.name}-seed-{seed}.json"
        if not (out / "summary.json").exists():
            options = settings([*values, f"train.seed={seed}", *CLOCK])
            length = ("--minutes", str(plan.minutes), "--out", str(out), "--quiet")
            sdplip("train", "--preset", run.preset, *options, "--data", plan.data, *length)
        if not answer.exists():
            radii = ",".join(table.radii)
            answer.write_text(sdplip("certify", str(out), "--data", plan.data, "--radii", radii, "--json"))
        answers.append(json.loads(answer.read_text()))
    return {"name": run.name, "values": values, "seeds": answers}


def spread(values: list[float], digits: int, factor: float) -> str:
    """Mean (least to most); the number itself if there is one."""
    numbers = (sum(values) / len(values), min(values), max(values))
    mean, least, most = (f"{factor * number:.{digits}f}" for number in numbers)
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"


def row(result: dict, radii: tuple[str, ...]) -> str:
    """A line of the Markdown table, in percent."""
    runs = result["seeds"]
    cells = [spread([run["clean"] for run in runs], 1, 100)]
    cells += [spread([run["certified"][eps] for run in runs], 1, 100) for eps in radii]
    cells += [spread([run["mean_radius"] for run in runs], 3, 1), f"{max(run['bound'] for run in runs):.7f}"]
    return f"| {result['name']} | {', '.join(result['values'])} | {' | '.join(cells)} |"


def show(name: str, plan: Plan, at_once: int, only: str) -> None:
    """Run what is missing of a table, print it, write it as data and as Markdown."""
    table = TABLES[name]
    runs = [run for run in table.runs if only in run.name]
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(lambda run: seeded(run, table, plan), runs))
    lines = [
        f"{plan.minutes:g} CPU minutes of one thread a run, {plan.seeds} seed(s): mean (least to most) of the whole test set, which each run saw once.",
        "",
        f"| run | values | clean | {' | '.join(table.radii)} | mean radius | largest bound |",
        f"|---|---|{'--:|' * (3 + len(table.radii))}",
        *(row(result, table.radii) for result in results),
    ]
    document = {"minutes": plan.minutes, "seeds": plan.seeds, "search": plan.search, "rows": results}
    (plan.folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (plan.folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join([f"\n{name}\n", *lines]))


def main() -> None:
    parser = argparse.ArgumentParser(description="The rows of docs/results.md over several seeds.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--search", action="store_true", help="choose offset and learning rate on the validation split"
    )
    parser.add_argument("--minutes", type=float, help="for each run, instead of the table's own")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.tables:
        minutes = options.minutes or TABLES[name].minutes
        plan = Plan(options.folder, str(Path(options.data).resolve()), minutes, options.seeds, options.search)
        show(name, plan, options.at_once, options.only)


if __name__ == "__main__":
    main()
