"""What the joint inequality buys as networks grow deeper: proven bounds of GLipSDP's MNIST chains beside what its study stores.

python examples/depth.py FOLDER FIGURE.png [--widths 16,64] [--threads 2]

FOLDER holds `glipsdp_mnist_mlp_L{3,5,9,17,33,65}_W{16,32,64}.mat` of github.com/ppauli/GLipSDP. As in its study the first and the
last layer are dropped and the others transposed: 2 to 64 square layers with ReLU between them. "stored" is the smaller one of
its values by MOSEK; below about 3e-4 they stop at the solver's absolute tolerance. Our bounds are the kernel's.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from sdplip.bounds import bound
from sdplip.network.read.weights import weights_network
from sdplip.plot.style import DASHES, INK, MARKS, PALETTE, quiet, save
from sdplip.weights import read

METHODS = ("product", "riccati", "riccati-greedy", "lipsdp-neuron")
STORED = {
    16: {2: 0.882717996, 16: 0.0331901983, 32: 2.96e-4, 64: 3.137e-4},
    32: {32: 2.809e-4, 64: 2.438e-4},
    64: {8: 0.156408886, 16: 0.0146308200, 32: 2.330e-4, 64: 3.259e-4},
}
DEPTHS = (2, 4, 8, 16, 32, 64)
Chains = dict[int, dict[str, float]]


def measure(weights: list[np.ndarray]) -> dict[str, float]:
    """The bound by every method, and the largest Jacobian norm that was found."""
    network = weights_network(weights)
    found = {method: bound(network, method) for method in METHODS}
    return {name: result.value for name, result in found.items()} | {
        "lower": max(result.lower for result in found.values())
    }


def chain(folder: Path, width: int, depth: int) -> list[np.ndarray]:
    """The square layers of one file, as the study uses them."""
    weights = list(read(folder / f"glipsdp_mnist_mlp_L{depth + 1}_W{width}.mat"))
    return [np.asarray(weight.array, np.float64).T for weight in weights[1:-1]]


def draw(found: dict[int, Chains], path: Path) -> None:
    figure = Figure(figsize=(5.2 * len(found), 4.2), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (width, chains) in zip(panels, found.items(), strict=True):
        for method, colour, dash, mark in zip(METHODS, PALETTE, DASHES, MARKS, strict=False):
            values = [numbers[method] for numbers in chains.values()]
            best = method == "lipsdp-neuron"
            axes.plot(
                list(chains),
                values,
                color="black" if best else colour,
                linestyle="-" if best else dash,
                marker=mark,
                markersize=5,
                linewidth=1.6,
                label=f"{method}, proven",
            )
        stored = {depth: value for depth, value in STORED[width].items() if depth in chains}
        axes.plot(
            list(stored), list(stored.values()), "x", color=PALETTE[4], markersize=9, markeredgewidth=2.2,
            label="stored by the study (MOSEK)", zorder=5,
        )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(list(chains), [str(depth) for depth in chains])
        axes.set_xlabel("layers", fontsize=9, color=INK)
        axes.set_title(f"width {width}", fontsize=10, color=INK, loc="left")
        axes.grid(alpha=0.2)
        quiet(axes)
    panels[0].set_ylabel("Lipschitz bound, the lower the better", fontsize=9, color=INK)
    panels[0].legend(frameon=False, fontsize=9)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("figure", type=Path)
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--depths", default=",".join(map(str, DEPTHS)))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"| width, layers | stored | {' | '.join(METHODS)} | largest Jacobian found |")
    print("|---|" + "---|" * (len(METHODS) + 2))
    found: dict[int, Chains] = {}
    for width in map(int, options.widths.split(",")):
        for depth in map(int, options.depths.split(",")):
            numbers = measure(chain(options.folder, width, depth))
            found.setdefault(width, {})[depth] = numbers
            stored = f"{value:.9g}" if (value := STORED[width].get(depth)) else ""
            cells = [f"{numbers[name]:.6g}" for name in (*METHODS, "lower")]
            print(f"| {width}, {depth} | {stored} | {' | '.join(cells)} |", flush=True)
    draw(found, options.figure)
    print(f"\nFigure: {options.figure}")


if __name__ == "__main__":
    main()
