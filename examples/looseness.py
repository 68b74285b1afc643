"""How much each scaling loses against the optimum as layers grow wider, and how much gradient it keeps.

python examples/looseness.py FIGURE.png [--quick] [FILE ...]

Prints three tables (docs/which-scaling.md) and draws them. Gaussian layers are square, n x n; every FILE adds its dense layers.
(a) trace of t relative to the proven optimum; (b) mean singular value of W T^(-1/2): what a linear layer keeps of a random
gradient; (c) mean eigenvalue of the residual Jacobian I - W T^(-1) W^T, half of the units active: 1 is a block that does nothing.
"""

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sdplip import scalings
from sdplip.condition import inverse_scaling, rescale
from sdplip.solvers import MinTrace, prove, solve
from sdplip.weights import read

SCALINGS = {
    "aol": scalings.aol,
    "perron": scalings.perron,
    "multi_step:2": scalings.multi_step,
    "multi_step:4": lambda W: scalings.multi_step(W, 4),
    "spectral": scalings.spectral,
}
COLOURS = {
    "aol": "#D55E00", "perron": "#CC79A7", "multi_step:2": "#009E73", "multi_step:4": "#56B4E9", "spectral": "#0072B2",
    "min_trace": "#000000",
}  # fmt: skip
MARKS = {
    "aol": "o",
    "perron": "v",
    "multi_step:2": "s",
    "multi_step:4": "D",
    "spectral": "^",
    "min_trace": "x",
}

Numbers = dict[str, tuple[float, float, float]]


def measure(W: np.ndarray) -> Numbers:
    """For every scaling: trace relative to the proven upper end of the optimum, mean singular value, mean residual eigenvalue."""
    W = np.asarray(W, np.float64)
    problem = MinTrace(W)
    interval = prove(problem, solve(problem))
    assert interval.t is not None
    assert interval.gap < 1e-6, interval.gap
    numbers = {}
    for name, t in ({k: f(W) for k, f in SCALINGS.items()} | {"min_trace": interval.t}).items():
        values = np.linalg.svd(rescale(W, t), compute_uv=False)
        work = float((W * W).sum(0) @ inverse_scaling(t)) / W.shape[0]
        numbers[name] = (float(t.sum()) / interval.upper, float(values.mean()), 1 - work)
    return numbers


def table(title: str, column: int, rows: dict[str, Numbers]) -> None:
    names = [*SCALINGS, "min_trace"]
    print(f"\n{title}\n\n| layer | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for layer, numbers in rows.items():
        print(f"| {layer} | {' | '.join(f'{numbers[name][column]:.3g}' for name in names)} |")


def draw(gaussian: dict[int, Numbers], path: Path) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    titles = (
        "trace of t / optimum",
        "mean singular value of W T^(-1/2)",
        "mean eigenvalue of the residual Jacobian",
    )
    for column, (axes, title) in enumerate(zip(figure.subplots(1, 3), titles, strict=True)):
        for name, colour in COLOURS.items():
            heights = [numbers[name][column] for numbers in gaussian.values()]
            axes.plot(list(gaussian), heights, color=colour, marker=MARKS[name], label=name, lw=1.6, ms=5)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(gaussian), [str(n) for n in gaussian])
        axes.set_xlabel("width n of a Gaussian n x n layer")
        axes.set_title(title, fontsize=10)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_yscale("log")
    figure.axes[0].set_yticks([1, 1.5, 2, 3, 5, 7], ["1", "1.5", "2", "3", "5", "7"], minor=False)
    figure.axes[0].minorticks_off()
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("figure", type=Path)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--quick", action="store_true", help="widths up to 128 only")
    options = parser.parse_args()
    top = 7 if options.quick else 10
    gaussian = {2**k: measure(np.random.default_rng(k).normal(size=(2**k, 2**k))) for k in range(4, top + 1)}
    rows = {f"Gaussian {n} x {n}": numbers for n, numbers in gaussian.items()}
    for path in options.files:
        for weight in read(path):
            if weight.kind == "dense" and math.prod(weight.array.shape) > 1:
                shape = " x ".join(map(str, weight.array.shape))
                rows[f"{path.stem} {weight.name} {shape}"] = measure(weight.array)
    table("(a) trace of t relative to the optimum", 0, rows)
    table("(b) mean singular value of W T^(-1/2)", 1, rows)
    table("(c) mean eigenvalue of the residual Jacobian, half of the units active", 2, rows)
    draw(gaussian, options.figure)
    print(f"\nFigure: {options.figure}")


if __name__ == "__main__":
    main()
