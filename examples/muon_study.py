"""Muon on the manifold against the Cayley transform with Adam: MNIST, the same network, the same CPU time.

    python examples/muon_study.py FOLDER rates --seconds 45 --data DATA          # learning rates, by validation alone
    python examples/muon_study.py FOLDER options --seconds 45 --data DATA        # lookahead, averages, schedule-free: validation alone
    python examples/muon_study.py FOLDER final --seconds 300 --data DATA         # both optimisers, the whole test set, once

A run gets as many steps as fit into the CPU seconds of one thread (`time.process_time`; of steps alone, measured before it begins on twelve of
them), so that a busy machine changes nothing. Everything stands in FOLDER/study.json; what is there is not run again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from sdplip.robustness.certification import certify_accuracy
from sdplip.training import RunConfig, load_run, override, preset, train
from sdplip.training.data import DataSet, load
from sdplip.writing import write_text

RADII = (0.5, 1.0, 1.58)
COMMON = ("loss.offset=2.4", "train.threads=1", "train.device=cpu", "train.minutes=none")
CAYLEY = ("mnist-orthogonal", ())
RATES = {
    "cayley 0.01": ("mnist-orthogonal", ("optimiser.lr=0.01",)),
    "cayley 0.02": CAYLEY,
    "muon 0.2": ("mnist-muon", ("optimiser.lr=0.2",)),
    "muon 0.4": ("mnist-muon", ("optimiser.lr=0.4",)),
    "muon 0.6": ("mnist-muon", ("optimiser.lr=0.6",)),
}
OPTIONS = {
    "muon": (),
    "muon, average 0.99": ("train.average=0.99",),
    "muon, lookahead 6": ("optimiser.lookahead=6",),
    "muon, schedule-free": ("optimiser.schedule=free",),
}
WARM, TIMED = 3, 12
"""Steps that measure what a step costs."""


def network(name: str, changes: tuple[str, ...], data: str, seed: int) -> RunConfig:
    """The configuration of a run."""
    config = override(preset(name), [*COMMON, *changes, f"train.seed={seed}"])
    return replace(config, data=replace(config.data, path=data))


def cost(config: RunConfig, folder: Path, data: DataSet) -> float:
    """CPU seconds of a step: of short runs without validation, the difference."""
    bare = replace(data, validation=None)
    spent = []
    for steps in (WARM, WARM, WARM + TIMED):  # the first one loads libraries
        begin = time.process_time()
        train(
            override(config, [f"train.steps={steps}", "data.validation=0"]),
            folder / "timing",
            data=bare,
            resume=False,
        )
        spent.append(time.process_time() - begin)
    return (spent[2] - spent[1]) / TIMED


def measured(config: RunConfig, out: Path, data: DataSet, seconds: float, *, test: bool) -> dict:
    """Train for that much CPU time; what validation, and if asked the test set, says with proof."""
    each = cost(config, out.parent, data)
    steps = max(1, round(seconds / each))
    begin = time.process_time()
    summary = train(override(config, [f"train.steps={steps}"]), out, data=data, resume=False)
    found = {
        "lr": config.optimiser.lr,
        "steps": steps,
        "epochs": summary.epochs,
        "cpu_seconds": time.process_time() - begin,
        "cpu_seconds_a_step": each,
        "validation": {
            "clean": summary.proven_clean,
            "certified": summary.proven_certified,
            "eps": summary.eps,
        },
        "bound": summary.bound,
    }
    if test:
        proof = certify_accuracy(load_run(out)[1], data.test.images, data.test.labels)
        certified = {f"{r:g}": proof.certified(r) for r in RADII}
        found["test"] = {"clean": proof.clean, "certified": certified, "mean_radius": proof.mean_radius}
    return found


def chosen(study: dict, kind: str) -> float:
    """The learning rate that certified most validation images; that of the preset where none were compared."""
    found = {name: run for name, run in study.get("rates", {}).items() if name.startswith(kind)}
    if not found:
        return preset("mnist-orthogonal" if kind == "cayley" else "mnist-muon").optimiser.lr
    best = max(
        found, key=lambda name: (found[name]["validation"]["certified"], found[name]["validation"]["clean"])
    )
    return float(best.split()[1])


def runs(part: str, study: dict, seeds: int) -> dict[str, tuple[str, tuple[str, ...], int]]:
    """Name, preset, changes and seed of the runs of a part."""
    if part == "rates":
        return {name: (*run, 0) for name, run in RATES.items()}
    rate = f"optimiser.lr={chosen(study, 'muon')}"
    if part == "options":
        return {name: ("mnist-muon", (rate, *changes), 0) for name, changes in OPTIONS.items()}
    both = {
        "cayley": ("mnist-orthogonal", (f"optimiser.lr={chosen(study, 'cayley')}",)),
        "muon": ("mnist-muon", (rate,)),
    }
    return {f"{name}, seed {seed}": (*run, seed) for seed in range(seeds) for name, run in both.items()}


def table(part: str, study: dict) -> str:
    """The Markdown table of a part, in percent."""
    test = part == "final"
    heads = ["clean", *(f"{r:g}" for r in RADII), "mean radius"] if test else ["clean", "certified at 1.58"]
    lines = [f"| run | CPU s | steps | epochs | {' | '.join(heads)} |", f"|---|{'--:|' * (3 + len(heads))}"]
    for name, run in study.get(part, {}).items():
        where = run["test"] if test else run["validation"]
        shares = [where["clean"], *(where["certified"].values() if test else [where["certified"]])]
        cells = [f"{100 * share:.2f}" for share in shares] + ([f"{where['mean_radius']:.3f}"] if test else [])
        lines.append(
            f"| {name} | {run['cpu_seconds']:.0f} | {run['steps']} | {run['epochs']:.1f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Muon on the manifold against Cayley and Adam.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("part", choices=("rates", "options", "final"))
    parser.add_argument("--seconds", type=float, required=True, help="CPU seconds of training a run")
    parser.add_argument("--data", required=True, help="folder of MNIST as Parquet files")
    parser.add_argument("--seeds", type=int, default=1, help="of the final runs")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    answer = options.folder / "study.json"
    study = json.loads(answer.read_text()) if answer.exists() else {}
    data = load(network(*CAYLEY, options.data, 0).data)
    for name, (base, changes, seed) in runs(options.part, study, options.seeds).items():
        if name in study.setdefault(options.part, {}):
            continue
        out = options.folder / f"{options.part}-{name.replace(' ', '-').replace(',', '')}"
        config = network(base, changes, options.data, seed)
        study[options.part][name] = measured(config, out, data, options.seconds, test=options.part == "final")
        write_text(answer, json.dumps(study, indent=1) + "\n")
    print(table(options.part, study))


if __name__ == "__main__":
    main()
