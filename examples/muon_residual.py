"""What Muon does for the residual layers of CPL and AOL on CIFAR-10: short runs, the validation split alone.

    python examples/muon_residual.py FOLDER --data DATA     # half an hour; the table of docs/training.md, and docs/results/muon_residual.json

Minutes are processor time of one thread. What is in FOLDER already, or in that file, is not run again.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from sdplip.training import override, preset
from sdplip.training.run import read_summary
from sdplip.training.trials import sweep
from sdplip.writing import write_text

DOCS = Path(__file__).parent.parent / "docs"
ROWS, PAGE = DOCS / "results" / "muon_residual.json", DOCS / "training.md"
MINUTES = 2.5
CLOCK = ("train.threads=1", "train.clock=cpu", "train.device=cpu", f"train.minutes={MINUTES}")

VARIANTS: tuple[tuple[str, dict[str, str]], ...] = (
    ("cifar10-small-cpl", {"loss.offset": "0.5"}),
    ("cifar10-small-cpl", {"loss.offset": "1"}),
    ("cifar10-muon", {"loss.offset": "0.5", "optimiser.lr": "0.05"}),
    ("cifar10-muon", {"loss.offset": "0.5", "optimiser.lr": "0.1"}),
    ("cifar10-muon", {"loss.offset": "1", "optimiser.lr": "0.1"}),
    ("cifar10-muon", {"loss.offset": "1.4", "optimiser.lr": "0.05"}),
    ("cifar10-muon", {"loss.offset": "0.5", "optimiser.lr": "0.1", "train.batch": "512"}),
    ("cifar10-muon", {"loss.offset": "0.5", "optimiser.lr": "0.25", "train.batch": "512"}),
    ("cifar10-muon", {"loss.offset": "0.5", "optimiser.lr": "0.1", "model.family": "aol"}),
    (
        "cifar10-muon",
        {"loss.offset": "1.4", "optimiser.lr": "0.05", "model.convolutions": "3", "model.dense": "2"},
    ),
)
"""Presets, and the values in which a run differs from them or which the table is to show."""


def trained(name: str, values: dict[str, str], folder: Path, data: str) -> dict[str, Any]:
    """What the validation split says of a run, as data."""
    config = override(preset(name), [*CLOCK, f'data.path="{data}"'])
    (trial,) = sweep(config, {key: [value] for key, value in values.items()}, folder / name).trials
    summary = read_summary(Path(trial.folder))
    return {
        "preset": name,
        "values": values,
        "clean": trial.clean,
        "certified": trial.certified,
        "steps": summary.steps,
        "epochs": summary.epochs,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The runs as Markdown, those that certify most first."""
    lines = ["| run | steps | epochs | clean | certified at 36/255 |", "|---|--:|--:|--:|--:|"]
    for row in sorted(rows, key=lambda row: -row["certified"]):
        run = ", ".join([f"`{row['preset']}`", *(f"{key}={value}" for key, value in row["values"].items())])
        lines.append(
            f"| {run} | {row['steps']} | {row['epochs']:.1f} | {100 * row['clean']:.1f} | {100 * row['certified']:.1f} |"
        )
    return "\n".join(lines)


def renewed(page: str, rows: list[dict[str, Any]]) -> str:
    """The page with the table of these rows."""
    pattern = r"(<!-- muon residual -->\n).*?(<!-- end muon residual -->)"
    return re.sub(pattern, lambda m: f"{m[1]}\n{table(rows)}\n\n{m[2]}", page, flags=re.S)


def main() -> None:
    parser = argparse.ArgumentParser(description="Muon for residual layers on CIFAR-10.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=Path, default=ROWS, help="what is done, and where more is written")
    options = parser.parse_args()
    rows = json.loads(options.rows.read_text()) if options.rows.exists() else []
    for name, values in VARIANTS:
        if any((row["preset"], row["values"]) == (name, values) for row in rows):
            continue
        rows.append(trained(name, values, options.folder, options.data))
        write_text(options.rows, json.dumps(rows, indent=1) + "\n")
    write_text(PAGE, renewed(PAGE.read_text(), rows))
    print(table(rows))


if __name__ == "__main__":
    main()
