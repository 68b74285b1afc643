r"""Verified accuracy in l2 on a ball: networks of SDP-CROWN's kinds, certified image by image.

    python benchmarks/local_l2.py FOLDER train mlp convsmall --data DATA       # DATA holds mnist/ and cifar10/ as Parquet files
    python benchmarks/local_l2.py FOLDER certify mlp convsmall --data DATA     # goes on where it stopped; --limit images, --seconds an image
    python benchmarks/local_l2.py FOLDER table                                 # Markdown, for docs/benchmarks.md

The shapes and radii are those of Chiu, Chen et al. (ICML 2025, arXiv 2506.06665), whose weights and training code are not public; the
published values stand beside ours for the order of magnitude, of other weights. Ours are trained in a few CPU minutes: cross-entropy at images moved
by three steps of gradient descent within the radius, plus a penalty times the sum of the logarithms of the layers' norms (power method).

Certified are the first images of the test set that are right: by the product of norms; by the lines of alpha-CROWN (the scalars of all layers 0,
the same boxes and steps); by offsets; by everything that `sdplip certify --local` tries. All but the second are proven by the kernel, in exact
arithmetic of the weights. Seconds are CPU time of one process, an image that the product does not decide. FOLDER/NAME.jsonl holds a line an image.
"""

import argparse
import json
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sdplip.kernel.accuracy import known_margins, remembering, value_constants, with_classes
from sdplip.kernel.around import Surroundings
from sdplip.network.read.torch import read_module
from sdplip.robustness.attacks import pgd_l2
from sdplip.robustness.descent import descend
from sdplip.robustness.graph_accuracy import certify_graph
from sdplip.robustness.local_balls import Ladder
from sdplip.robustness.offsets import Offsets
from sdplip.training.data import load_arrays

BATCH, RATE, STEPS = 256, 1e-3, 3


@dataclass(frozen=True)
class Kind:
    """One network: data, radius, epochs, penalty, what was published (LipNaive, SDP-CROWN, PGD; in percent), and how it is built."""

    data: str
    eps: str
    epochs: float
    penalty: float
    published: tuple[float, float, float]
    hidden: tuple[int, ...]
    kernels: tuple[tuple[int, int, int, int], ...] = ()

    def build(self) -> nn.Sequential:
        channels, size = (1, 28) if self.data == "mnist" else (3, 32)
        layers = []
        for out, taps, stride, pad in self.kernels:
            layers += [nn.Conv2d(channels, out, taps, stride, pad), nn.ReLU()]
            channels, size = out, (size + 2 * pad - taps) // stride + 1
        layers.append(nn.Flatten())
        for n, m in zip((channels * size * size, *self.hidden), (*self.hidden, 10), strict=True):
            layers += [nn.Linear(n, m), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


KINDS = {
    "mlp": Kind("mnist", "1", 3, 0.3, (29, 32.5, 54), (100, 100, 100)),
    "convsmall": Kind("mnist", "3/10", 1, 0.3, (77.5, 81.5, 84.5), (100,), ((16, 4, 2, 1), (32, 4, 2, 1))),
    "convlarge": Kind(
        "mnist",
        "3/10",
        0.5,
        0.3,
        (77, 79.5, 84),
        (512, 512),
        ((32, 3, 1, 1), (32, 4, 2, 1), (64, 3, 1, 1), (64, 4, 2, 1)),
    ),
    "cnn-a": Kind("cifar10", "24/255", 2, 0.15, (39, 49, 55.5), (100,), ((16, 4, 2, 1), (32, 4, 2, 1))),
    "cnn-b": Kind("cifar10", "24/255", 1, 0.15, (33, 49.5, 59.5), (250,), ((32, 5, 2, 0), (128, 4, 2, 1))),
}
"""Kernels are (channels, taps, stride, padding)."""


class Norms:
    """The norms of all layers, one step of the power method each time they are asked for."""

    def __init__(self, model: nn.Sequential, x: Tensor):
        self.layers, self.vectors = [], []
        with torch.no_grad():
            for layer in model:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    self.layers.append(layer)
                    self.vectors.append(torch.randn_like(x[:1]))
                x = layer(x)

    def log(self) -> Tensor:
        total = torch.zeros(())
        for k, layer in enumerate(self.layers):
            with torch.no_grad():
                v = self.vectors[k]
                v = self._back(layer, self._through(layer, v), v)
                self.vectors[k] = v = v / v.norm()
            total = total + self._through(layer, v).norm().log()
        return total

    @staticmethod
    def _through(layer: nn.Module, v: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return v @ layer.weight.mT
        return F.conv2d(v, layer.weight, None, layer.stride, layer.padding)

    @staticmethod
    def _back(layer: nn.Module, y: Tensor, v: Tensor) -> Tensor:
        if isinstance(layer, nn.Linear):
            return y @ layer.weight
        return torch.nn.grad.conv2d_input(v.shape, layer.weight, y, layer.stride, layer.padding)


def train(name: str, folder: Path, data: Path, epochs: float | None) -> None:
    """Trains one network and writes its weights."""
    kind, begin = KINDS[name], time.process_time()
    torch.manual_seed(0)
    model, arrays = kind.build(), load_arrays(kind.data, data / kind.data)
    images, labels = torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels)
    norms, eps = Norms(model, images[:1]), float(Fraction(kind.eps))
    steps = int((epochs or kind.epochs) * len(images) / BATCH)
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3 * RATE, total_steps=steps)
    order = torch.randperm(len(images))
    for step in range(steps):
        at = order[torch.arange(step * BATCH, (step + 1) * BATCH) % len(images)]
        x, y = images[at], labels[at]
        if kind.data == "cifar10":
            x = torch.where((torch.rand(len(x)) < 0.5)[:, None, None, None], x, x.flip(-1))
        reach = torch.full((len(x),), min(1.0, 2 * step / steps) * eps)

        def margin(z: Tensor, y: Tensor = y) -> Tensor:
            return -F.cross_entropy(model(z), y, reduction="none")

        moved, _ = descend(margin, x, x, reach, STEPS, (0.0, 1.0))
        loss = F.cross_entropy(model(moved.detach()), y) + kind.penalty * norms.log()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(
                f"{name} step {step} of {steps}, loss {loss.item():.3f}, {time.process_time() - begin:.0f} s",
                flush=True,
            )
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "seconds": time.process_time() - begin}, folder / f"{name}.pt")


def certify(name: str, folder: Path, data: Path, limit: int, seconds: float) -> None:
    """Certifies the first images one by one, and writes a line for each."""
    kind, path = KINDS[name], folder / f"{name}.jsonl"
    model, arrays = kind.build(), load_arrays(kind.data, data / kind.data)
    model.load_state_dict(torch.load(folder / f"{name}.pt")["model"])
    images, labels = arrays.test_images[:limit].astype(np.float64), arrays.test_labels[:limit]
    done = {json.loads(line)["image"] for line in path.read_text().splitlines()} if path.exists() else set()
    network = read_module(model.double(), images.shape[1:])
    certified = certify_graph(network, images, labels, arithmetic="exact", method="product")
    base = certified.proof
    prove = remembering(base)
    of = Surroundings(with_classes(network), value_constants(network, base, prove))
    coupled, plain, eps = Offsets(of), Offsets(of, scalars=False), float(Fraction(kind.eps))
    eps = float(np.nextafter(eps, 2))
    for k in range(limit):
        if k in done:
            continue
        one = certified.certification
        line = {
            "image": k,
            "right": bool(one.correct[k]),
            "product": bool(one.correct[k] and one.radius[k] > eps),
        }
        line |= dict.fromkeys(("alpha", "offsets", "all", "pgd"), line["product"]) | {
            "by": "constants",
            "seconds": 0.0,
        }
        if line["right"] and not line["product"]:
            line |= _open(
                images[k], int(labels[k]), model, network, base, prove, coupled, plain, eps, seconds
            )
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(name, json.dumps(line), flush=True)


def _open(x, label, model, network, base, prove, coupled, plain, eps, seconds) -> dict:
    """What is found of an image that the product leaves open; it need not have a positive radius."""
    known = known_margins(network, x.reshape(1, -1), base, "exact", prove)[0]
    begin = time.process_time()
    alpha = plain.prove([Ladder(plain, x.reshape(-1), known, eps).asked])[0]
    first = time.process_time()
    ladder = Ladder(coupled, x.reshape(-1), known, eps)
    ladder.tried = coupled.prove([ladder.asked])[0]
    second = time.process_time()
    offsets = not ladder.tried.open
    ball, by = ladder.climbed(second + seconds - (second - first))
    third = time.process_time()
    z, y = torch.from_numpy(x)[None], torch.tensor([label])
    moved = pgd_l2(model, z, y, eps, steps=50, restarts=3)
    with torch.no_grad():
        left = bool((model(moved).argmax(1) == y).all())
    return {
        "alpha": not alpha.open, "offsets": offsets, "all": ball is not None, "pgd": left, "by": by,
        "seconds": third - first, "alpha_seconds": first - begin, "offset_seconds": second - first,
    }  # fmt: skip


def table(folder: Path) -> None:
    """What was found, in percent of the images."""
    print(
        "| network | eps | images | clean | product | without scalars | offsets | all | PGD | gap closed | s, offsets | s, all | published |"
    )
    print("|---" * 13 + "|")
    for name, kind in KINDS.items():
        path = folder / f"{name}.jsonl"
        if not path.exists():
            continue
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        share = {
            key: 100 * float(np.mean([line[key] for line in lines]))
            for key in ("right", "product", "alpha", "offsets", "all", "pgd")
        }
        gap = share["pgd"] - share["product"]
        closed = f"{100 * (share['all'] - share['product']) / gap:.0f} %" if gap else "-"
        tried = [line for line in lines if "offset_seconds" in line]
        times = [
            float(np.mean([line[key] for line in tried])) if tried else 0.0
            for key in ("offset_seconds", "seconds")
        ]
        shares = " | ".join(f"{value:.1f}" for value in share.values())
        first, second, third = kind.published
        print(
            f"| {name} | {kind.eps} | {len(lines)} | {shares} | {closed} | {times[0]:.1f} | {times[1]:.1f} | {first:g} / {second:g} / {third:g} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["train", "certify", "table"])
    parser.add_argument("names", nargs="*", help=", ".join(KINDS))
    parser.add_argument("--data", type=Path, help="folder of mnist/ and cifar10/")
    parser.add_argument("--epochs", type=float, help="other than those of the table")
    parser.add_argument("--limit", type=int, default=200, help="images")
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU time an image")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "table":
        table(options.folder)
    for name in (options.names or KINDS) if options.what != "table" else ():
        if options.what == "train":
            train(name, options.folder, options.data, options.epochs)
        else:
            certify(name, options.folder, options.data, options.limit, options.seconds)


if __name__ == "__main__":
    main()
