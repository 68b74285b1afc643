"""The runs of docs/results.md: train, certify on the whole test set, attack, and print the tables.

    python examples/results.py FOLDER mnist fashion cifar10 scalings --data DATA   # all four tables, hours
    python examples/results.py FOLDER mnist --minutes 1 --data DATA                # a quick look

Runs of one table get the same time on one core each, two at a time. What is in FOLDER already is not run again, and an
interrupted run goes on where it stopped. `results_seeds.py` makes the same rows over several seeds, with nothing chosen by hand.
DATA is a folder with `mnist`, `fashion_mnist` and `cifar10` as Parquet files.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

FAMILIES = ("sll", "cpl", "aol", "orthogonal")
SCALINGS = ("sll", "multi_step2", "multi_step4", "cpl", "optimal")


@dataclass(frozen=True)
class Run:
    """One row: a preset, and what differs from it."""

    name: str
    preset: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows that had the same time, on the same test set; the first `attacked` of its images are attacked."""

    minutes: float
    radii: tuple[str, ...]
    runs: tuple[Run, ...]
    attacked: int = 1000


TABLES = {
    "mnist": Table(
        6,
        ("0.5", "1", "1.58"),
        (
            *(Run(f"mnist-{family}", f"mnist-{family}", ("loss.offset=2.4",)) for family in FAMILIES),
            Run("mnist-orthogonal-clean", "mnist-orthogonal"),
            Run("mnist-muon", "mnist-muon", ("loss.offset=2.4",)),
        ),
    ),
    "fashion": Table(
        4,
        ("0.25", "0.5", "1"),
        tuple(Run(f"fashion-{family}", f"fashion-{family}") for family in (*FAMILIES, "muon")),
    ),
    "cifar10": Table(
        20,
        ("36/255", "72/255", "108/255", "1"),
        (
            *(Run(f"cifar10-{family}", f"cifar10-small-{family}") for family in FAMILIES),
            Run("cifar10-shift", "cifar10-shift"),
            Run("cifar10-muon", "cifar10-muon"),
            Run("cifar10-cpl-large-offset", "cifar10-small-cpl", ("loss.offset=5.66", "train.eps=1")),
        ),
        300,
    ),
    "scalings": Table(
        2.5,
        ("0.5", "1", "1.58"),
        tuple(
            Run(f"T-{scaling}", "mnist-sll", ("loss.offset=2.4", f"model.family={scaling}"))
            for scaling in SCALINGS
        ),
    ),
}


def sdplip(*arguments: str) -> str:
    """What a command prints; its complaint ends this script."""
    done = subprocess.run(
        [sys.executable, "-m", "sdplip", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"sdplip {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


def execute(run: Run, table: Table, folder: Path, data: str, minutes: float) -> dict:
    """Summary and certification of a run, which is trained and certified unless that was done before."""
    out = folder / run.name
    changes = [f"--set={change}" for change in (*run.changes, "train.threads=1")]
    common = ("--data", data)
    if not (out / "summary.json").exists():
        sdplip(
            "train",
            "--preset",
            run.preset,
            *common,
            "--minutes",
            str(minutes),
            *changes,
            "--out",
            str(out),
            "--quiet",
        )
    answer = folder / f"{run.name}.json"
    if not answer.exists():
        text = sdplip("certify", str(out), *common, "--radii", ",".join(table.radii), "--json")
        attacked = sdplip(
            "certify",
            str(out),
            *common,
            "--radii",
            ",".join(table.radii),
            "--attack",
            "pgd",
            "--limit",
            str(table.attacked),
            "--json",
        )
        few = json.loads(attacked)
        both = {"empirical": few["empirical"], "certified_attacked": few["certified"]}
        answer.write_text(json.dumps(json.loads(text) | both, indent=1))
    summary = json.loads((out / "summary.json").read_text())
    images = json.loads((out / "environment.json").read_text())["data"]["train"]
    rate = summary["epochs"] * images / summary["seconds"]
    return json.loads(answer.read_text()) | {"run": summary | {"images_per_second": rate}}


def row(run: Run, table: Table, result: dict) -> str:
    """A line of the Markdown table, in percent."""
    certified = " | ".join(f"{100 * result['certified'][radius]:.1f}" for radius in table.radii)
    attacked = " / ".join(f"{100 * result['empirical']['pgd'][radius]:.1f}" for radius in table.radii)
    same = " / ".join(f"{100 * result['certified_attacked'][radius]:.1f}" for radius in table.radii)
    summary = result["run"]
    return (
        f"| {run.name} | {100 * result['clean']:.1f} | {certified} | {attacked} | {same} | {result['mean_radius']:.3f} |"
        f" {result['bound']:.7f} | {summary['epochs']:.0f} | {summary['images_per_second']:.0f} |"
    )


def show(name: str, folder: Path, data: str, minutes: float | None, at_once: int, only: str) -> None:
    """Run what is missing of a table, and print it."""
    table = TABLES[name]
    budget = minutes or table.minutes
    runs = [run for run in table.runs if only in run.name]
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(lambda run: execute(run, table, folder, data, budget), runs))
    print(f"\n{name}: {budget:g} minutes on one core a run, seed 0\n")
    attacked = f"PGD, first {table.attacked} | certified, the same"
    print(
        f"| run | clean | {' | '.join(table.radii)} | {attacked} | mean radius | bound | epochs | images/s |"
    )
    print(f"|---|{'--:|' * (7 + len(table.radii))}")
    for run, result in zip(runs, results, strict=True):
        print(row(run, table, result))


def main() -> None:
    parser = argparse.ArgumentParser(description="The tables of docs/results.md.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--data", required=True)
    parser.add_argument("--minutes", type=float, help="for each run, instead of the table's own")
    parser.add_argument("--at-once", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.tables:
        show(name, options.folder, options.data, options.minutes, options.at_once, options.only)


if __name__ == "__main__":
    main()
