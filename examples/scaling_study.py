r"""What the choice of T buys in training: the same network, the same number of steps, T from seven sources.

    python examples/scaling_study.py FOLDER --data DATA                    # dense MNIST network, minutes a source
    python examples/scaling_study.py FOLDER --preset digits-sll --radius 0.5 --seeds 5 \
        --set model.convolutions=0 --set model.dense=4 --set model.width=1 --set model.pool=1    # seconds a run

trains a preset of residual layers for the same steps with every T, and certifies on the whole test set. On the way, after
1, 10, 100, ... steps, it asks how far each T lies from the SDP's optimum on the weights of that moment: the ratio of the traces
$\sum_i t_i / \sum_i t^*_i$ (1 is optimal), the mean eigenvalue of $T^{-1/2} W^\top W T^{-1/2}$ over its rank (1: an orthogonal
layer, 0: the layer is the identity). Both are means over the dense blocks. Prints a Markdown table and draws
FOLDER/scaling_study.png.
"""

import argparse
import json
import math
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from sdplip.nn import ResidualLinear
from sdplip.robustness.certification import certify_accuracy
from sdplip.solvers import MinTrace, MixingThenInteriorPoint, solve
from sdplip.training import RunConfig, load_run, override, preset, train
from sdplip.training.data import DataSet, load

SOURCES = {
    "Gershgorin, learned q (SLL)": ("model.family=sll",),
    "SLL, published start": ("model.family=sll", "model.start=published"),
    "diagonal sums (AOL)": ("model.family=aol",),
    "multi-step, p = 2": ("model.family=multi_step2",),
    "multi-step, p = 4": ("model.family=multi_step4",),
    "spectral (CPL)": ("model.family=cpl",),
    "SDP optimum, every 100 steps": ("model.family=optimal",),
}


@dataclass(frozen=True)
class Distance:
    """How far T is from the optimum after so many steps: means over the dense blocks of a network."""

    step: int
    trace: float
    eigenvalue: float


def distance(model: nn.Module, step: int) -> Distance:
    """Compare the T of every dense block with the least trace for its weight."""
    traces, eigenvalues = [], []
    for block in (module for module in model.modules() if isinstance(module, ResidualLinear)):
        W = block.weight.detach().double().numpy().T
        t = block.t.detach().double().numpy()
        best = solve(MinTrace(W), MixingThenInteriorPoint(gap=1e-4))
        traces.append(t.sum() / best.t.sum())
        eigenvalues.append(float((np.square(W).sum(axis=0) / t).sum()) / min(W.shape))
    return Distance(step, statistics.fmean(traces), statistics.fmean(eigenvalues))


def stops(total: int) -> list[int]:
    """1, 10, 100, ..., and the last step."""
    return [*(10**k for k in range(math.ceil(math.log10(total)))), total]


def measured(config: RunConfig, out: Path, data: DataSet, radius: float) -> dict:
    """Train and certify one run, looking at its T on the way; what was measured before is read again."""
    answer = out.with_suffix(".json")
    if answer.exists():
        return json.loads(answer.read_text())
    distances, reached = [], 0
    assert config.train.steps is not None
    for halt in stops(config.train.steps):
        left = halt - reached
        calls = iter(range(left + 1))
        train(config, out, data=data, stop=lambda calls=calls, left=left: next(calls) == left)
        _, model = load_run(out)
        distances.append(distance(model, halt))
        reached = halt
    proof = certify_accuracy(model, data.test.images, data.test.labels)
    result = {
        "clean": proof.clean,
        "certified": proof.certified(radius),
        "mean_radius": proof.mean_radius,
        "distances": [vars(d) for d in distances],
    }
    answer.write_text(json.dumps(result, indent=1))
    return result


def spread(values: list[float], digits: int = 1, factor: float = 100) -> str:
    """Mean, and the half-width from the least to the largest where there are several."""
    mean = f"{factor * statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {factor * (max(values) - min(values)) / 2:.{digits}f}"


def draw(results: dict[str, list[dict]], path: Path) -> None:
    """Both distances over the steps, seed 0."""
    from matplotlib.figure import Figure

    from sdplip.plot.style import DASHES, MARKS, PALETTE, quiet, save

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, runs) in enumerate(results.items()):
        points = runs[0]["distances"]
        look = {
            "color": PALETTE[i % len(PALETTE)] if i < len(PALETTE) else "#222222",
            "linestyle": DASHES[i % len(DASHES)],
            "marker": MARKS[i % len(MARKS)],
            "markersize": 4,
            "linewidth": 1.4,
            "label": name,
        }
        steps = [p["step"] for p in points]
        left.plot(steps, [p["trace"] for p in points], **look)
        right.plot(steps, [p["eigenvalue"] for p in points], **look)
    for axes, title in (
        (left, "trace of T over the least possible trace"),
        (right, "mean eigenvalue of $T^{-1/2} W^\\top W T^{-1/2}$"),
    ):
        axes.set_xscale("log")
        axes.set_xlabel("training steps", fontsize=9)
        axes.set_title(title, fontsize=10, loc="left")
        quiet(axes)
    left.axhline(1, color="#9A9A9A", linewidth=0.8)
    right.set_ylim(0, 1.04)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="What the choice of T buys in training.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="mnist-sll", help="a preset of residual layers")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="change a key of it")
    parser.add_argument("--data", help="folder of Parquet files")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--radius", type=float, default=1.58)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", help="sources whose name contains this")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    fixed = ("train.minutes=none", "data.validation=0", "model.start=tight")
    base = override(preset(options.preset), [*fixed, *options.changes])
    base = replace(base, data=replace(base.data, path=options.data))
    data = load(base.data)
    steps = (options.epochs or base.train.epochs) * (len(data.train) // base.train.batch)
    results: dict[str, list[dict]] = {}
    print(f"{options.preset}: {steps} steps of {base.train.batch} images, {options.seeds} seed(s), percent\n")
    print(
        f"| T | clean | certified at {options.radius:g} | mean radius | trace / least: start, end | eigenvalue: start, end |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    for name, changes in SOURCES.items():
        if options.only and options.only not in name:
            continue
        results[name] = []
        for seed in range(options.seeds):
            config = override(base, [*changes, f"train.steps={steps}", f"train.seed={seed}"])
            out = options.folder / f"{'-'.join(changes).replace('model.', '').replace('=', '-')}-{seed}"
            results[name].append(measured(config, out, data, options.radius))
        runs = results[name]
        first, last = ([r["distances"][k] for r in runs] for k in (0, -1))
        pairs = [
            ", ".join(f"{statistics.fmean(d[key] for d in group):.2f}" for group in (first, last))
            for key in ("trace", "eigenvalue")
        ]
        print(
            f"| {name} | {spread([r['clean'] for r in runs])} | {spread([r['certified'] for r in runs])} |"
            f" {spread([r['mean_radius'] for r in runs], 3, 1)} | {' | '.join(pairs)} |",
            flush=True,
        )
    draw(results, options.folder / "scaling_study.png")


if __name__ == "__main__":
    main()
