r"""How much of the input is left after 50 layers? The variance of activations over depth, from default and from tight weights.

    python examples/activation_variance.py [FOLDER]

prints the table and, with a folder, draws `activation_variance.png` there. The variance is taken over inputs, feature by feature,
and averaged: what a later layer can still tell about the input. Juston et al. (2025, arXiv 2503.00240) explain the decay.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from sdplip.nn import ResidualConv2d, ResidualLinear, initialise, rescaled
from sdplip.plot import MARKS, PALETTE, save

WIDTH, INPUTS, DEPTH = 128, 256, 50


class MaxMin(nn.Module):
    """Sorts pairs of features: a permutation at every point, so no signal is lost."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], -1)


def normal(layer: nn.Sequential) -> nn.Sequential:
    """The published remedy: weights and biases from N(0, 1)."""
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def plain(layer: nn.Sequential) -> nn.Sequential:
    return layer


def dense(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(rescaled(nn.Linear(WIDTH, WIDTH), "aol"), activation)


CASES: dict[
    str, tuple[Callable[[], nn.Sequential], Callable[[nn.Sequential], nn.Module], tuple[int, ...]]
] = {
    "aol, relu, default": (lambda: dense(nn.ReLU()), plain, (WIDTH,)),
    "aol, relu, normal weights and biases": (lambda: dense(nn.ReLU()), normal, (WIDTH,)),
    "aol, relu, ours": (lambda: dense(nn.ReLU()), initialise, (WIDTH,)),
    "aol, maxmin, default": (lambda: dense(MaxMin()), plain, (WIDTH,)),
    "aol, maxmin, ours": (lambda: dense(MaxMin()), initialise, (WIDTH,)),
    "sll block, 512 hidden, default": (lambda: nn.Sequential(ResidualLinear(WIDTH, 512)), plain, (WIDTH,)),
    "sll block, 512 hidden, ours": (lambda: nn.Sequential(ResidualLinear(WIDTH, 512)), initialise, (WIDTH,)),
    "sll conv block, default": (lambda: nn.Sequential(ResidualConv2d(16, 5)), plain, (16, 8, 8)),
    "sll conv block, ours": (lambda: nn.Sequential(ResidualConv2d(16, 5)), initialise, (16, 8, 8)),
}


@torch.no_grad()
def activation_variance(depth: int = DEPTH) -> dict[str, list[float]]:
    """Variance over inputs after each of `depth` layers, for every case."""
    curves = {}
    for name, (make, start, shape) in CASES.items():
        torch.manual_seed(0)
        x, curve = torch.randn(INPUTS, *shape), []
        for _ in range(depth):
            layer = make()
            start(layer)
            x = layer.eval()(x)
            curve.append(x.var(0).mean().item())
        curves[name] = curve
    return curves


def draw(curves: dict[str, list[float]], folder: Path) -> Path:
    """The curves as a PNG file: one colour and mark a layer, one line style a start."""
    figure = Figure(figsize=(9.5, 4.8), layout="constrained")
    axes = figure.subplots()
    families = list(dict.fromkeys(_family(name) for name in curves))
    for name, curve in curves.items():
        i = families.index(_family(name))
        style = "-" if name.endswith("ours") else (0, (6, 2)) if name.endswith("default") else (0, (1, 1.5))
        axes.semilogy(
            range(1, len(curve) + 1),
            curve,
            linestyle=style,
            color=PALETTE[i],
            marker=MARKS[i],
            markersize=5,
            markevery=(2 * i, 10),
            label=name,
        )
    axes.set(xlabel="layers", ylabel="variance over inputs", ylim=(1e-20, 10), xlim=(0, len(curve) + 1))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, handlelength=3.6)
    folder.mkdir(parents=True, exist_ok=True)
    save(figure, folder / "activation_variance.png")
    return folder / "activation_variance.png"


def _family(name: str) -> str:
    return name.rpartition(", ")[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = activation_variance()
    print(f"{'variance over inputs after layer':40}" + "".join(f"{k:>10}" for k in (1, 5, 10, 20, 50)))
    for name, curve in found.items():
        print(f"{name:40}" + "".join(f"{curve[k - 1]:10.1e}" for k in (1, 5, 10, 20, 50)))
    if len(sys.argv) > 1:
        print(draw(found, Path(sys.argv[1])))
