"""Hyper-parameters by successive halving on the validation split; then final runs of several seeds, each of which sees the test set once.

    python examples/search.py FOLDER mnist-muon --data DATA --set loss.offset=1.8,2.4,3 --set optimiser.lr=0.2,0.4,0.6 \\
        --steps 1200 --rounds 3 --seeds 3 --radii 0.5,1,1.58
    python examples/search.py FOLDER digits-sll --set loss.offset=0.5,1,2 --steps 60 --rounds 2 --seeds 3     # seconds

All combinations are trained for few steps, each with its whole schedule; the third that certifies most is trained three times as long, and so on,
the last round in full length. FOLDER/search.json holds every round and the final runs; what is in FOLDER already is not run again.
"""

import argparse
import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdplip.training import RunConfig, override, preset, read_config
from sdplip.training.trials import Final, Trial, over_seeds, sweep
from sdplip.writing import write_text

KEPT = 3
"""One in so many survives a round, and is trained so many times as long."""


def combinations(changes: list[str]) -> dict[str, list[str]]:
    """`key=a,b` as the values of each key."""
    pairs = (change.partition("=") for change in changes)
    return {key: [text.strip() for text in texts.split(",")] for key, _, texts in pairs}


def best(trials: list[Trial], count: int) -> list[Trial]:
    """Those that certify most validation images, the cleaner ones among equals."""
    proven = [trial for trial in trials if trial.certified is not None]
    return sorted(proven, key=lambda t: (t.certified or 0.0, t.clean or 0.0), reverse=True)[:count]


def halved(
    config: RunConfig, values: dict[str, list[str]], out: Path, steps: int, rounds: int
) -> list[list[Trial]]:
    """The trials of every round, the last one in full length."""
    alive = [dict(zip(values, texts, strict=True)) for texts in itertools.product(*values.values())]
    found: list[list[Trial]] = []
    for number in range(rounds):
        length = max(1, steps // KEPT ** (rounds - 1 - number))
        plan = override(config, ["train.minutes=none", f"train.steps={length}"])
        trials = [
            one
            for names in alive
            for one in sweep(plan, {k: [v] for k, v in names.items()}, out / f"round-{number + 1}").trials
        ]
        found.append(trials)
        alive = [dict(trial.values) for trial in best(trials, max(1, len(trials) // KEPT))]
    return found


def finals(
    config: RunConfig, chosen: Trial, out: Path, steps: int, rounds: int, seeds: int, radii: list[str]
) -> tuple[Final, ...]:
    """The chosen values with every seed, in full length, on the test set."""
    plan = override(config, ["train.minutes=none", f"train.steps={steps}"])
    values = {key: [value] for key, value in chosen.values.items()}
    return sweep(plan, values, out / f"round-{rounds}", seeds=seeds, radii=radii).finals


def tried(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """What the validation split says of them, as data."""
    return [{"values": dict(t.values), "clean": t.clean, "certified": t.certified} for t in trials]


def tested(runs: Iterable[Final]) -> list[dict[str, Any]]:
    """What the test set says of the final runs, as data."""
    return [
        {
            "seed": f.seed,
            "clean": f.clean,
            "certified": dict(f.certified),
            "mean_radius": f.mean_radius,
            "bound": f.bound,
        }
        for f in runs
    ]


def searched(
    config: RunConfig,
    values: dict[str, list[str]],
    out: Path,
    steps: int,
    rounds: int,
    seeds: int,
    radii: list[str],
) -> dict[str, Any]:
    """Everything as data: rounds, chosen values, final runs, their mean and range."""
    found = halved(config, values, out, steps, rounds)
    (chosen,) = best(found[-1], 1)
    last = finals(config, chosen, out, steps, rounds, seeds, radii)
    document = {
        "steps": steps,
        "eps": config.train.eps,
        "rounds": [tried(trials) for trials in found],
        "chosen": dict(chosen.values),
        "finals": tested(last),
    }
    write_text(out / "search.json", json.dumps(document, indent=1) + "\n")
    return document


def spread(values: list[float], digits: int = 2, factor: float = 100) -> str:
    """`97.51 (97.40 to 97.62)`: mean, least and most; the number itself if there is one."""
    mean, least, most = (f"{factor * value:.{digits}f}" for value in over_seeds(values))
    return mean if len(values) == 1 else f"{mean} ({least} to {most})"


def table(document: dict[str, Any]) -> str:
    """Every combination with what each round said of it, then the final runs, as Markdown."""
    rounds = document["rounds"]
    names = list(rounds[0][0]["values"])
    heads = [f"round {k + 1}: clean, certified" for k in range(len(rounds))]
    lines = [f"| {' | '.join([*names, *heads])} |", f"|{'---|' * len(names)}{'--:|' * len(heads)}"]
    for first in rounds[0]:
        cells = []
        for trials in rounds:
            there = next((t for t in trials if t["values"] == first["values"]), None)
            shares = (
                None if there is None or there["certified"] is None else (there["clean"], there["certified"])
            )
            cells.append("" if shares is None else ", ".join(f"{100 * share:.2f}" for share in shares))
        lines.append(f"| {' | '.join([*first['values'].values(), *cells])} |")
    runs = document["finals"]
    if runs:
        radii = list(runs[0]["certified"])
        certified = [spread([run["certified"][eps] for run in runs]) for eps in radii]
        mean = spread([run["mean_radius"] for run in runs], 3, 1)
        lines += [
            "",
            f"| test set, {len(runs)} seed(s) | clean | {' | '.join(radii)} | mean radius |",
            f"|---|{'--:|' * (2 + len(radii))}",
        ]
        chosen = ", ".join(f"{key} = {value}" for key, value in document["chosen"].items())
        lines.append(
            f"| {chosen} | {spread([run['clean'] for run in runs])} | {' | '.join(certified)} | {mean} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Successive halving on the validation split, then final runs."
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("runfile", help="a run file, or the name of a preset")
    parser.add_argument(
        "--set",
        dest="changes",
        action="append",
        default=[],
        help="key=a,b,..: values to choose from, or one for all",
    )
    parser.add_argument("--data", help="folder of Parquet files")
    parser.add_argument("--steps", type=int, required=True, help="of the last round and of the final runs")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--radii", default="36/255", help="of the test set")
    options = parser.parse_args()
    values = combinations(options.changes)
    fixed = [f"{key}={texts[0]}" for key, texts in values.items() if len(texts) == 1]
    config = read_config(options.runfile) if Path(options.runfile).is_file() else preset(options.runfile)
    config = override(config, fixed)
    if options.data:
        config = replace(config, data=replace(config.data, path=options.data))
    varied = {key: texts for key, texts in values.items() if len(texts) > 1}
    document = searched(
        config, varied, options.folder, options.steps, options.rounds, options.seeds, options.radii.split(",")
    )
    print(table(document))


if __name__ == "__main__":
    main()
