"""Certified radii of a plain trained network by constants layer by layer, of the whole network, of pairs, and around each image.

python examples/local_radii.py                                        # digits of scikit-learn, 64-64-64-10
python examples/local_radii.py --data mnist --path DATA/mnist --images 200 --width 256

Nothing limits the weights but a weak weight decay. The last columns are the upper side: what PGD leaves at each radius.
Times are CPU seconds.
"""

import argparse
import time

import torch
from torch import nn

from sdplip.robustness.attacks import attack_at, pgd
from sdplip.robustness.certification import Certification, certify_accuracy
from sdplip.robustness.local import BENT, local_radii
from sdplip.robustness.tighten import tighten
from sdplip.training.config import DataConfig
from sdplip.training.data import load

RADII = {"digits": ("36/255", "72/255", "0.5", "1"), "mnist": ("0.1", "0.2", "0.3", "0.5")}
Row = tuple[str, Certification, float]


def train(images: torch.Tensor, labels: torch.Tensor, width: int, epochs: int) -> nn.Module:
    """A network of two hidden layers by AdamW with weight decay 0.01."""
    torch.manual_seed(0)
    n = images[0].numel()
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(n, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1e-2)
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * (1 - epoch / epochs)
        for at in torch.randperm(len(images)).split(128):
            loss = nn.functional.cross_entropy(model(images[at].float() / 255), labels[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


def measure(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, bent: int = BENT) -> list[Row]:
    """Certifications of the same images, each with its CPU seconds."""

    def timed(call) -> tuple[Certification, float]:
        begin = time.process_time()
        return call(), time.process_time() - begin

    layerwise = timed(lambda: certify_accuracy(model, images, labels))
    whole = timed(lambda: tighten(model, images, labels, pairs=False).after)
    pairs = timed(lambda: tighten(model, images, labels).after)
    local = timed(lambda: local_radii(model, images, labels, pairs[0], bent=bent).after)
    names = ("layer by layer", "whole network", "pairs of classes", "around each image")
    return [(name, *found) for name, found in zip(names, (layerwise, whole, pairs, local), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits")
    parser.add_argument("--path", help="the folder of MNIST's Parquet files")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--bent", type=int, default=BENT, help="solve where at most so many neurons bend")
    given = parser.parse_args()
    data = load(DataConfig(name=given.data, path=given.path, validation=0.0))
    model = train(
        data.train.images, data.train.labels, given.width, epochs={"digits": 60, "mnist": 5}[given.data]
    )
    images, labels = data.test.images[: given.images], data.test.labels[: given.images]
    rows, radii = measure(model, images, labels, given.bent), RADII[given.data]
    left = attack_at(model, images, labels, rows[-1][1], radii, attack=pgd(steps=50, restarts=2))
    print(f"{given.data}, {len(images)} test images, clean {rows[0][1].clean:.1%}")
    print(f"{'certified at':20}" + "".join(f"{r:>9}" for r in radii) + f"{'mean radius':>13}{'CPU s':>8}")
    for name, found, seconds in rows:
        cells = "".join(f"{found.certified(r):9.1%}" for r in radii)
        print(f"{name:20}{cells}{found.mean_radius:13.4f}{seconds:8.1f}")
    print(f"{'PGD leaves':20}" + "".join(f"{left[r]:9.1%}" for r in radii))


if __name__ == "__main__":
    main()
