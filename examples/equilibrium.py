"""A trained SLL network as one equilibrium layer, fine-tuned: does certified accuracy rise at equal constant (Havens et al. 2023)?

    python examples/equilibrium.py RESULTS.jsonl [--seeds 3] [--epochs 60] [--tune 10]

Handwritten digits of scikit-learn (8 x 8 pixels in [0, 1]; 1,297 images to train, 500 to test). Networks of a seed: SLL blocks
with an orthogonal head; the same trained on for as many epochs as the equilibrium; and the SLL network written as an equilibrium,
fine-tuned. Images are not negative, so the first block of the state, relu(x), is x; W is block lower triangular at first, and
every entry of it is free afterwards. Constants are those that `lipschitz` proves. Each seed is written as it comes, and not run
again; the table, means and standard deviations over the seeds, is printed at the end.
"""

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from sdplip.nn import EquilibriumLinear, ResidualLinear, lipschitz, orthogonal

RADII = (0.0, 0.25, 0.5, 1.0)
DEPTH, HIDDEN, BATCH = 3, 64, 64
OFFSET, TEMPERATURE = 0.7, 0.25
RATES = (3e-3, 1e-3)
"""Of Adam: at first, and of what is trained on or fine-tuned."""


def data(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images and labels to train and to test."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    x, y = torch.tensor(images[order] / 16, dtype=torch.float32), torch.tensor(labels[order])
    return x[:-500], y[:-500], x[-500:], y[-500:]


def sll(seed: int) -> nn.Sequential:
    """Blocks of 64 features, and a head with orthonormal rows."""
    torch.manual_seed(seed)
    return nn.Sequential(*(ResidualLinear(64, HIDDEN) for _ in range(DEPTH)), orthogonal(nn.Linear(64, 10)))


@torch.no_grad()
def as_equilibrium(model: nn.Sequential) -> EquilibriumLinear:
    """The same function of images that are not negative, but for `room` in W: z_0 = relu(x), z_i = relu(W_i (z_0 + sum of G_j z_j) + b_i)."""
    *blocks, head = (part for part in model.eval())
    n = 64 + DEPTH * HIDDEN
    layer = EquilibriumLinear(64, n, 10, room=1e-5, tolerance=1e-4)
    ways = [torch.eye(64, dtype=torch.float64)]
    W, bias, lam = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n), torch.ones(n, dtype=torch.float64)
    for k, block in enumerate(blocks):
        up, step = block.weight.double(), block.step().double()
        rows = slice(64 + k * HIDDEN, 64 + (k + 1) * HIDDEN)
        for j, way in enumerate(ways):
            at = slice(0, 64) if j == 0 else slice(64 + (j - 1) * HIDDEN, 64 + j * HIDDEN)
            W[rows, at] = up @ way
        ways.append(-up.mT * step)
        bias[rows], lam[rows] = block.bias, step
    U = torch.cat([torch.eye(64, dtype=torch.float64), torch.zeros(n - 64, 64, dtype=torch.float64)])
    layer.assign(W, U, head.weight.double() @ torch.cat(ways, 1), lam)
    layer.bias.copy_(bias)
    layer.shift.copy_(head.bias)
    return layer


def train(model: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float, seed: int) -> None:
    """Cross-entropy of logits less an offset on the right class, Adam with a linear schedule."""
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    steps, done = epochs * (len(x) // BATCH), 0
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator)[: len(x) // BATCH * BATCH].split(BATCH):
            logits = model(x[rows]) - OFFSET * nn.functional.one_hot(y[rows], 10)
            optimiser.param_groups[0]["lr"] = rate * (1 - done / steps)
            optimiser.zero_grad()
            nn.functional.cross_entropy(logits / TEMPERATURE, y[rows]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            done += 1


@torch.no_grad()
def measured(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy in percent at the radii, with the proven constant; what the solver's tolerance costs is taken off the margins."""
    model = copy.deepcopy(model).double().eval()
    bound, logits = lipschitz(model).value, model(x.double())
    lost = model.tolerance if isinstance(model, EquilibriumLinear) else 0.0
    right = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    radius = (right - others - 2 * 2**0.5 * lost) / (2**0.5 * bound)
    found = {str(r): 100 * float((radius > r).double().mean()) for r in RADII}
    return {"bound": bound, **found}


def run(seed: int, epochs: int, tune: int) -> dict:
    """All networks of one seed, with the CPU seconds of each."""
    x, y, x_test, y_test = data(seed)
    found, model, begin = {}, sll(seed), time.process_time()

    def note(name: str, network: nn.Module) -> None:
        nonlocal begin
        found[name] = {**measured(network, x_test, y_test), "cpu_seconds": time.process_time() - begin}
        begin = time.process_time()

    train(model, x, y, epochs, RATES[0], seed)
    note("SLL", model)
    implicit = as_equilibrium(copy.deepcopy(model))
    note("the same as an equilibrium", implicit)
    train(model, x, y, tune, RATES[1], seed + 1)
    note("SLL, trained on", model)
    begin = time.process_time()
    train(implicit, x, y, tune, RATES[1], seed + 1)
    note("equilibrium, fine-tuned", implicit)
    return {"seed": seed, "epochs": epochs, "tune": tune, "networks": found}


def table(results: list[dict]) -> list[str]:
    """Means and standard deviations over the seeds."""
    lines = ["| network | clean | " + " | ".join(f"{r:g}" for r in RADII[1:]) + " | largest bound | CPU s |", "|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name in results[0]["networks"]:
        rows = [result["networks"][name] for result in results]
        mean = [np.mean([row[str(r)] for row in rows]) for r in RADII]
        spread = [np.std([row[str(r)] for row in rows]) for r in RADII]
        shown = " | ".join(f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, spread, strict=True))
        cpu = np.mean([row["cpu_seconds"] for row in rows])
        lines.append(f"| {name} | {shown} | {max(row['bound'] for row in rows):.7f} | {cpu:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--tune", type=int, default=10)
    given = parser.parse_args()
    done = (
        [json.loads(line) for line in given.results.read_text().splitlines()]
        if given.results.exists()
        else []
    )
    for seed in range(given.seeds):
        if all(result["seed"] != seed for result in done):
            done.append(run(seed, given.epochs, given.tune))
            with given.results.open("a") as stream:
                stream.write(json.dumps(done[-1]) + "\n")
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
