"""Radii around images of smooth networks: gradient and curvature of margins beside the slopes of secants.

Run: `python benchmarks/curvature.py [--images 50] [--only tanh] [--rows ROWS.jsonl]`; with `--rows` a row is written as soon as it is done, and
networks that have one of that many images are not done again. Networks on the digits of scikit-learn, 64-64-10 and 64-64-64-10, 60
epochs of AdamW with weight decay 0.01, the first test images. Mean radii over the images that are right: by constants of all pairs
of classes, then around each image with secants alone, with secants and multipliers of the pairs that limit the radius, with secants,
gradient and curvature, with all of them; in exact arithmetic, all proven by the kernel. The last column but one is what PGD finds: the mean
of the smallest radius of a grid at which an image is broken, so no mean radius can be above it by more than a step of the grid (2 %). Seconds
are CPU time an image of the three ways in parentheses behind their radii.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from frame import Rows
from torch import nn

from sdplip.network.read.torch import read_module
from sdplip.robustness.around import BENT, enlarge
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.training.config import DataConfig
from sdplip.training.data import load

KINDS = {
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
WAYS = {
    "secants": {"bent": 0, "curvature": False},
    "and multipliers": {"bent": BENT, "curvature": False},
    "curvature": {"bent": 0, "curvature": True},
    "all": {"bent": BENT, "curvature": True},
}
HEAD = ("network", "right", "pairs of classes", *WAYS, "PGD")
STEP = 1.02


def train(kind: str, depth: int, images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(depth):
        layers += [nn.Linear(64, 64), KINDS[kind]()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
    for epoch in range(60):
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - epoch / 60)
        for at in torch.randperm(len(images)).split(128):
            loss = nn.functional.cross_entropy(model(images[at].float() / 255), labels[at])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.double().eval()


def broken(model: nn.Module, x: torch.Tensor, labels: torch.Tensor, radius: np.ndarray) -> np.ndarray:
    """The first radius on a grid upward from a proven one at which steps down the margin on the sphere find another class."""
    far, left = torch.tensor(radius), torch.ones(len(x), dtype=torch.bool)
    found = far.clone()
    for _ in range(120):
        d = torch.zeros_like(x)
        for k in range(25):
            d.requires_grad_(True)
            s = model(x + d)
            own = s.gather(1, labels[:, None])[:, 0]
            other = s.scatter(1, labels[:, None], -torch.inf).amax(1)
            (g,) = torch.autograd.grad((own - other).sum(), d)
            with torch.no_grad():
                step = g.flatten(1) / g.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-300)
                flat = d.flatten(1) - far[:, None] * step * (1.0 if k == 0 else 0.3)
                d = (far[:, None] * flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-300)).reshape(x.shape)
        with torch.no_grad():
            found = torch.where(left, far, found)
            left &= model(x + d).argmax(1) == labels
        far = far * STEP
        if not left.any():
            break
    return found.numpy()


def row(kind: str, depth: int, count: int) -> list[str]:
    data = load(DataConfig(name="digits", validation=0.0))
    model = train(kind, depth, data.train.images, data.train.labels)
    images, labels = data.test.images[:count], data.test.labels[:count]
    network = read_module(model, tuple(images.shape[1:]))
    before = certify_graph(
        network, images.numpy(), labels.numpy(), arithmetic="exact", method="lipsdp-neuron"
    )
    sure = before.certification.correct & (before.certification.radius > 0)
    cells, best = [f"{before.certification.radius[sure].mean():.4f}"], np.zeros(int(sure.sum()))
    for options in WAYS.values():
        begin = time.process_time()
        radius = enlarge(network, images.numpy(), before, **options).certification.radius[sure]
        spent = (time.process_time() - begin) / sure.sum()
        cells.append(f"{radius.mean():.4f} ({spent:.2f})")
        best = np.maximum(best, radius)
    x = images.double()[torch.tensor(sure)] / 255
    left = broken(model, x, labels[torch.tensor(sure)].long(), best)
    assert (left >= best).all()
    return [_name(kind, depth), f"{sure.sum()} of {len(images)}", *cells, f"{left.mean():.4f}"]


def _name(kind: str, depth: int) -> str:
    return "-".join(["64"] * (depth + 1)) + f"-10, {kind}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--only", default="")
    parser.add_argument("--rows", type=Path, help="where rows are kept")
    options = parser.parse_args()
    rows = Rows(options.rows)
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for depth in (1, 2):
        for kind in KINDS:
            if options.only in _name(kind, depth):
                cells = rows.of(
                    f"{_name(kind, depth)}, {options.images} images",
                    lambda kind=kind, depth=depth: row(kind, depth, options.images),
                )
                print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
