r"""Networks of two convolutions and two dense layers on MNIST, constant 1 and 2, certified at 36, 72, 108 / 255: ours beside the published table.

    python benchmarks/mnist_2c2f.py FOLDER train sandwich 1 --data DATA --epochs 20     # network, constant; goes on where it stopped
    python benchmarks/mnist_2c2f.py FOLDER certify --data DATA                          # every finished network, all 10,000 test images
    python benchmarks/mnist_2c2f.py FOLDER table                                        # Markdown, for docs/benchmarks.md

The published values are those of `results.xlsx` in 2D-LipCNNs (bdc58de; LipKernel, Pauli et al., arXiv 2410.22258), means of three
seeds; the recipe is that of its `train.py`: images resized to 32 x 32, no augmentation, Adam, learning rate 0.01 on a triangle, batches of 256, 20
epochs, cross-entropy with offset 1.5 sqrt 2 and temperature 1/4, nothing selected. Their constants are those of the construction; ours are
proven for the plain network that is exported and certified in double precision, rounding included. FOLDER/results.json holds what was found.
"""

import argparse
import json
import math
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.nn import (
    CompactSandwichConv2d,
    LipKernel,
    LipKernelConv2d,
    LipKernelLinear,
    Sandwich,
    SandwichConv2d,
    Scale,
    export_plain,
    lipschitz,
    orthogonal,
    rescaled,
)
from sdplip.nn.losses import CrossEntropy
from sdplip.robustness.certification import certify_accuracy
from sdplip.training.data import load_arrays
from sdplip.writing import write_text

RADII = (Fraction(36, 255), Fraction(72, 255), Fraction(108, 255))
RATE, BATCH, EVERY = 0.01, 256, 40
PUBLISHED = {
    ("AOL", 1): (88.69, 85.47, 81.69, 77.15),
    ("orthogonal (Cayley convolutions)", 1): (94.55, 92.92, 90.99, 88.34),
    ("LipKernel", 1): (96.61, 95.64, 94.29, 92.62),
    ("Sandwich", 1): (97.28, 96.33, 95.18, 93.75),
    ("AOL", 2): (93.01, 89.89, 85.90, 80.44),
    ("orthogonal (Cayley convolutions)", 2): (97.67, 96.29, 94.35, 91.80),
    ("LipKernel", 2): (98.22, 97.06, 95.56, 93.58),
    ("Sandwich", 2): (98.87, 98.16, 97.04, 95.36),
}
"""Percent right, and certified at the three radii, by layer and constant."""


def network(name: str, bound: float) -> nn.Module:
    """The shape 2C2F: 16 and 32 channels, kernels of 4 x 4 pixels with stride 2, 100 hidden units."""
    if name == "lipkernel":
        first, second = LipKernelConv2d(1, 16, 4, 2, 1), LipKernelConv2d(16, 32, 4, 2, 1)
        dense = LipKernelLinear(2048, 100), LipKernelLinear(100, 10)
        return LipKernel([first, second, nn.Flatten(), *dense], (1, 32, 32), bound=bound)
    around = math.sqrt(bound)
    if name == "aol":
        convs = [rescaled(nn.Conv2d(n, m, 4, 2, 1), "aol") for n, m in ((1, 16), (16, 32))]
        dense = rescaled(nn.Linear(2048, 100), "aol"), rescaled(nn.Linear(100, 10), "aol")
        return nn.Sequential(
            Scale(around), convs[0], nn.ReLU(), convs[1], nn.ReLU(), nn.Flatten(), dense[0], nn.ReLU(), dense[1], Scale(around)
        )  # fmt: skip
    if name == "sandwich":  # 2 x 2 taps on patches of 2 x 2 pixels are 4 x 4
        convs = [SandwichConv2d(1, 16, 2, 32, stride=2), SandwichConv2d(16, 32, 2, 16, stride=2)]
    else:  # odd kernels alone: 6 x 6 pixels
        convs = [CompactSandwichConv2d(1, 16, 3, stride=2), CompactSandwichConv2d(16, 32, 3, stride=2)]
    head = orthogonal(nn.Linear(100, 10), "cayley")
    return nn.Sequential(Scale(around), *convs, nn.Flatten(), Sandwich(2048, 100), head, Scale(around))


NAMES = {
    "sandwich": "`SandwichConv2d`",
    "compact": "`CompactSandwichConv2d`",
    "lipkernel": "`LipKernel`",
    "aol": '`rescaled(..., "aol")`',
}


def images(data: str, part: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images of 32 x 32 pixels and their labels."""
    arrays = load_arrays("mnist", data)
    x, y = (
        (arrays.train_images, arrays.train_labels)
        if part == "train"
        else (arrays.test_images, arrays.test_labels)
    )
    small = torch.from_numpy(np.asarray(x[:limit], np.float32)).reshape(-1, 1, 28, 28)
    large = nn.functional.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    return large, torch.from_numpy(np.asarray(y[:limit], np.int64))


def rate(epoch: float, epochs: int) -> float:
    """The published schedule."""
    return float(np.interp(epoch, [0, 0.4 * epochs, 0.8 * epochs, epochs], [0, RATE, RATE / 20, 0]))


def train(
    name: str, bound: float, epochs: int, folder: Path, data: tuple[Tensor, Tensor], seed: int = 1
) -> None:
    """All steps, with a checkpoint after every `EVERY` of them."""
    torch.manual_seed(seed)
    model, path = network(name, bound), folder / f"{name}-{bound:g}.pt"
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    done, spent, lost = 0, 0.0, CrossEntropy()
    if path.exists():
        state = torch.load(path, weights_only=True)
        if state["epochs"] != epochs:
            raise SystemExit(f"{path} holds a run of {state['epochs']} epochs. Choose another folder.")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        done, spent = state["done"], state["seconds"]
    x, y = data
    steps, orders = math.ceil(len(x) / BATCH), {}
    begin = time.process_time()
    for step in range(done, epochs * steps):
        epoch, number = divmod(step, steps)
        if epoch not in orders:
            orders = {
                epoch: torch.randperm(len(x), generator=torch.Generator().manual_seed(1000 * seed + epoch))
            }
        some = orders[epoch][number * BATCH : (number + 1) * BATCH]
        optimiser.param_groups[0]["lr"] = rate((step + 1) / steps, epochs)
        optimiser.zero_grad()
        loss = lost(model(x[some]), y[some])
        loss.backward()
        optimiser.step()
        if (step + 1) % EVERY == 0 or step + 1 == epochs * steps:
            spent, begin = spent + time.process_time() - begin, time.process_time()
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "done": step + 1}
            torch.save({**state, "steps": epochs * steps, "epochs": epochs, "seconds": spent}, path)
            print(
                f"{name}, {bound:g}: {step + 1}/{epochs * steps} steps, loss {loss.item():.4f}, {spent:.0f} s",
                flush=True,
            )


def certify(folder: Path, data: tuple[Tensor, Tensor]) -> None:
    """What the finished networks of the folder come to, written as it is found."""
    found = results(folder)
    for path in sorted(folder.glob("*.pt")):
        state = torch.load(path, weights_only=True)
        if path.stem in found or state["done"] < state["steps"]:
            continue
        name, bound = path.stem.split("-")
        model = network(name, float(bound))
        model.load_state_dict(state["model"])
        plain = export_plain(model.eval(), input_shape=(1, 32, 32)).model
        whole = lipschitz(plain.double(), input_shape=(1, 32, 32))
        result = certify_accuracy(plain, *data, whole=whole)
        row = {
            "layer": name, "constant": float(bound), "proven": whole.value, "epochs": state["epochs"], "seconds": round(state["seconds"]),
            "clean": round(100 * result.clean, 2), "certified": [round(100 * result.certified(r), 2) for r in RADII],
        }  # fmt: skip
        found[path.stem] = row
        write_text(folder / "results.json", json.dumps(found, indent=1) + "\n")
        print(row, flush=True)


def results(folder: Path) -> dict[str, dict]:
    """What stands in the folder."""
    path = folder / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(folder: Path) -> str:
    """Markdown."""
    lines = [
        "| constant | layers | proven constant | epochs | clean | 36/255 | 72/255 | 108/255 |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    ours = results(folder)
    for bound in (1, 2):
        for (name, constant), values in PUBLISHED.items():
            if constant == bound:
                cells = " | ".join(f"{v:.2f}" for v in values)
                lines.append(f"| {bound} | {name}, published | not proven | 20 | {cells} |")
        for row in (r for key in NAMES for r in ours.values() if (r["layer"], r["constant"]) == (key, bound)):
            cells = " | ".join(f"{v:.2f}" for v in (row["clean"], *row["certified"]))
            proven = math.ceil(row["proven"] * 1e7) / 1e7
            lines.append(
                f"| {bound} | {NAMES[row['layer']]}, ours | {proven:.7f} | {row['epochs']} | {cells} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("task", choices=("train", "certify", "table"))
    parser.add_argument("name", nargs="?", choices=tuple(NAMES))
    parser.add_argument("bound", nargs="?", type=float)
    parser.add_argument("--data", help="folder of the Parquet files of MNIST")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--limit", type=int, help="that many images, for a quick look")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.task == "table":
        print(table(options.folder))
        return
    data = images(options.data, "train" if options.task == "train" else "test", options.limit)
    if options.task == "train":
        train(options.name, options.bound, options.epochs, options.folder, data)
    else:
        certify(options.folder, data)


if __name__ == "__main__":
    main()
