"""Families of layers at equal time: MNIST and CIFAR-10, three seeds, selected on the validation split. Rows as JSON, a table of them.

    python examples/families.py run ROWS --data DATA --seconds 15 24       # hours; goes on where it stopped
    python examples/families.py run ROWS --data DATA --seconds 1 1 --only sll,aoc --images 500     # a quick look
    python examples/families.py table                                      # docs/results.md from docs/families.jsonl

Every run gets the same CPU seconds of one thread (of training: batches, augmentation, forward, backward, step) on each data set. The
learning rate is the one of RATES that certifies the most validation images with seed 0; with it come two more seeds. The test set is
looked at once for each of the three networks. All certified numbers are proven, rounding in double precision included. ROWS is a file
with a line of JSON a run; weights stay beside it until their row is complete.
"""

import argparse
import json
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from families_networks import FAMILY, TASKS, Family, Task
from safetensors.torch import load_file, save_file
from torch import nn

from sdplip.errors import SdplipError
from sdplip.nn.losses import EMMA, AbstractLoss, CrossEntropy
from sdplip.robustness.certification import certify_accuracy
from sdplip.training.config import DataConfig, OptimiserConfig
from sdplip.training.data import Batches, DataSet, augmentation, load
from sdplip.training.objective import Objective
from sdplip.training.schedules import build_optimiser, factor

RATES = (0.005, 0.02)
SEEDS = (0, 1, 2)
ROWS = Path(__file__).parents[1] / "docs" / "families.jsonl"
PAGE = ROWS.with_name("results.md")


def loss_of(family: Family, task: Task) -> AbstractLoss:
    """Cross-entropy with an offset; EMMA, which knows the constant, where training has to keep it small."""
    if family.fixed:
        return CrossEntropy(offset=task.offset, temperature=0.25)
    number, _, over = task.select.partition("/")
    return EMMA(eps=float(number) / float(over or 1))


def fit(
    model: nn.Sequential, family: Family, task: Task, data: DataSet, rate: float, seed: int, seconds: float
) -> float:
    """Train for that many CPU seconds; the epochs that fitted."""
    config = OptimiserConfig(lr=rate, peak=0.2, knee=0.96)
    optimiser = build_optimiser(config, model)
    objective = Objective(model, model, loss_of(family, task), "bfloat16")
    batches, augment = Batches(len(data.train), task.batch, seed), augmentation(task.augment)
    model.train()
    begin, steps = time.process_time(), 0
    while True:
        for batch in batches.epoch(steps // batches.steps):
            share = (time.process_time() - begin) / seconds
            if share >= 1:
                return steps / batches.steps
            split = data.train[batch.indices]
            images = augment(split.images, batch.generator(), rows=batch.rows, size=batch.size)
            optimiser.zero_grad(set_to_none=True)
            objective(images, split.labels, share).backward()
            for group in optimiser.param_groups:
                group["lr"] = rate * factor(config, share)
            optimiser.step()
            steps += 1


@dataclass(frozen=True)
class Study:
    """A table at work: rows are read from and appended to `path`."""

    path: Path
    task: Task
    data: DataSet
    seconds: float
    limit: int

    def rows(self) -> list[dict]:
        """What is done."""
        return read(self.path)

    def find(self, name: str, rate: float, seed: int) -> dict | None:
        """The latest row of a run."""
        key = (self.task.name, name, rate, seed, self.seconds)
        found = [r for r in self.rows() if (r["data"], r["family"], r["lr"], r["seed"], r["seconds"]) == key]
        return found[-1] if found else None

    def weights(self, name: str, rate: float, seed: int) -> Path:
        """Where a trained network waits for its test."""
        word = re.sub(r"\W+", "-", f"{self.task.name}-{name}-{rate}-{seed}")
        return self.path.with_name(f"{self.path.stem}-{word}.safetensors")

    def train(self, name: str, rate: float, seed: int) -> dict:
        """Train a network, prove its accuracy on the validation split, and keep both."""
        done = self.find(name, rate, seed)
        if done:
            return done
        family = FAMILY[name]
        torch.manual_seed(seed)
        model = family.build[self.task.name](self.task)
        epochs = fit(model, family, self.task, self.data, rate, seed, self.seconds)
        assert self.data.validation is not None
        row = {
            "data": self.task.name,
            "family": name,
            "network": family.network[self.task.name],
            "parameters": sum(p.numel() for p in model.parameters()),
            "lr": rate,
            "seed": seed,
            "seconds": self.seconds,
            "epochs": round(epochs, 2),
            "validation": self.proven(model, self.data.validation),
        }
        state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        save_file(state, self.weights(name, rate, seed))
        self.write(row)
        return row

    def test(self, name: str, rate: float, seed: int) -> None:
        """Prove the accuracy of a trained network on the test set."""
        row = self.train(name, rate, seed)
        if "test" in row:
            return
        model = FAMILY[name].build[self.task.name](self.task)
        path = self.weights(name, rate, seed)
        model.load_state_dict(load_file(path))
        self.write(row | {"test": self.proven(model, self.data.test)})
        path.unlink()

    def proven(self, model: nn.Module, split) -> dict:
        """Clean and certified accuracy, and the bound."""
        part = split[: self.limit]
        try:
            found = certify_accuracy(model.eval(), part.images, part.labels)
        except SdplipError as error:  # weights that are no numbers any more, say
            return {"clean": 0.0, "certified": dict.fromkeys(self.task.radii, 0.0), "refused": str(error)}
        certified = {radius: found.certified(radius) for radius in self.task.radii}
        return {"clean": found.clean, "certified": certified, "bound": found.bound.value}

    def write(self, row: dict) -> None:
        """Append a row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def family(self, name: str) -> None:
        """All runs of a family."""
        searched = [self.train(name, rate, SEEDS[0]) for rate in RATES]
        best = max(searched, key=lambda row: row["validation"]["certified"][self.task.select])["lr"]
        for seed in SEEDS:
            self.test(name, best, seed)
        for rate in RATES:
            self.weights(name, rate, SEEDS[0]).unlink(missing_ok=True)


def read(path: Path) -> list[dict]:
    """The rows of a file, the later ones last."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: list[dict], task: Task) -> str:
    """Markdown: mean of the seeds, plus and minus half the range, on the test set; the family that certified most first."""
    tested = [row for row in rows if row["data"] == task.name and "test" in row]
    groups = {name: [row for row in tested if row["family"] == name] for name in FAMILY}
    kept = {name: group for name, group in groups.items() if group}
    if not kept:
        return ""
    head = f"| family | network | lr | clean | {' | '.join(task.radii)} | epochs | seeds |"
    lines = [head, "|---|---|" + "--:|" * (4 + len(task.radii))]

    def cell(values: list[float]) -> str:
        spread = (max(values) - min(values)) / 2
        return f"{100 * statistics.fmean(values):.1f} ± {100 * spread:.1f}"

    def certified(name: str) -> float:
        return statistics.fmean(row["test"]["certified"][task.select] for row in kept[name])

    for name in sorted(kept, key=certified, reverse=True):
        group = kept[name]
        cells = [cell([row["test"]["clean"] for row in group])]
        cells += [cell([row["test"]["certified"][radius] for row in group]) for radius in task.radii]
        epochs = statistics.fmean(row["epochs"] for row in group)
        first = group[0]
        lines.append(
            f"| {name} | {first['network']} | {first['lr']:g} | {' | '.join(cells)} | {epochs:.1f} | {len(group)} |"
        )
    return "\n".join(lines)


def missing(rows: list[dict], task: Task) -> str:
    """The families without a row of all seeds, in words."""
    tested = {(row["family"], row["seed"]) for row in rows if row["data"] == task.name and "test" in row}
    left = [name for name in FAMILY if any((name, seed) not in tested for seed in SEEDS)]
    return f"Not run yet, or not with all seeds: {', '.join(left)}." if left else ""


def renewed(page: str, rows: list[dict]) -> str:
    """The page with both tables as the rows have them, and what is missing."""
    for name, task in TASKS.items():
        pattern = rf"(<!-- families {name} -->\n).*?(<!-- end families {name} -->)"
        text = "\n\n".join(filter(None, (table(rows, task), missing(rows, task))))
        page = re.sub(pattern, lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page, flags=re.S)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description="Families of layers at equal time.")
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("rows", type=Path, nargs="?", default=ROWS)
    parser.add_argument("--data", help="folder with `mnist` and `cifar10` as Parquet files")
    parser.add_argument(
        "--seconds", type=float, nargs=2, default=(15, 24), help="of a run on MNIST, on CIFAR-10"
    )
    parser.add_argument("--only", help="families, separated by commas")
    parser.add_argument("--tasks", default="mnist,cifar10")
    parser.add_argument("--images", type=int, default=10_000, help="certified of each split, at most")
    options = parser.parse_args()
    if options.command == "table":
        PAGE.write_text(renewed(PAGE.read_text(), read(options.rows)))
        return
    torch.set_num_threads(1)
    seconds = dict(zip(TASKS, options.seconds, strict=True))
    for name in options.tasks.split(","):
        task = TASKS[name]
        data = load(DataConfig(name, options.data, validation=0.05, augment=task.augment))
        study = Study(options.rows, task, data, seconds[name], options.images)
        for family in options.only.split(",") if options.only else FAMILY:
            study.family(family)
            print(table(study.rows(), task), flush=True)


if __name__ == "__main__":
    main()
