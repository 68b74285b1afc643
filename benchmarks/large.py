"""Joint bounds of large networks, proven: the barrier method of wide chains of few layers beside the method of before, and images beside others.

    SDPLIP_DATA=... python benchmarks/large.py run FILE [--only NAME] [--threads 1] [--seconds 600]     # goes on where it stopped
    python benchmarks/large.py table FILE                                                               # Markdown, for docs/benchmarks.md

Every bound is the kernel's. FILE has a line of JSON a network and method, with CPU seconds, proof included. "interior" is the primal-dual method
that `lipsdp-neuron` had for these networks before. The convolutional network of 2,352 neurons (28 x 28, 8 and 16 channels, 4 x 4 pixels, stride
2, a matrix behind them) is trained here for one pass over MNIST with Adam, seed 0, and stored beside FILE; the others are public files.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.bounds.methods import METHODS
from sdplip.bounds.methods.multipliers import by_chain
from sdplip.bounds.numerics.lipsdp import LipSDP
from sdplip.bounds.task import Task
from sdplip.network import Activation, Network
from sdplip.network.read.torch import read_module
from sdplip.network.read.weights import weights_network
from sdplip.training.data import load_arrays
from sdplip.weights import read

CHAINS = {
    "784-500-200-50-10": "seqlip_fork_mnist_500_200_50.npz",
    "784-400-400-400-10": "eclipse_mnist_lyr3n400test1.mat",
}
KW = (16, 32, 100)
"""Channels, and hidden units behind them, of the networks of Wong and Kolter: `kw_mnist.pth`."""
METHOD_NAMES = ("product", "lipsdp-neuron", "frequency", "riccati", "interior")


def convolutional(channels: tuple[int, int], hidden: int = 0) -> nn.Sequential:
    """Two convolutions of 4 x 4 pixels with stride 2 on 28 x 28 pixels, and one or two matrices behind them."""
    a, b = channels
    head = (
        [nn.Linear(b * 49, hidden), nn.ReLU(), nn.Linear(hidden, 10)] if hidden else [nn.Linear(b * 49, 10)]
    )
    convolutions = [nn.Conv2d(1, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*convolutions, *head)


def trained(folder: Path, data: Path, channels: tuple[int, int]) -> nn.Sequential:
    """One pass over the training images, batches of 128; from `folder` where it is stored."""
    torch.manual_seed(0)
    model, at = convolutional(channels), folder / f"cnn_{channels[0]}_{channels[1]}.pth"
    if at.exists():
        model.load_state_dict(torch.load(at, weights_only=True))
        return model
    arrays = load_arrays("mnist", data / "data" / "mnist")
    images = torch.as_tensor(np.asarray(arrays.train_images), dtype=torch.float32).reshape(-1, 1, 28, 28)
    images = images / 255 if images.max() > 1 else images
    labels = torch.as_tensor(np.asarray(arrays.train_labels)).long()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for rows in torch.randperm(len(images)).split(128):
        loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    torch.save(model.state_dict(), at)
    return model


def networks(folder: Path, data: Path) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Name, and what makes the network."""
    for name, file in CHAINS.items():
        yield name, lambda file=file: weights_network(read(data / "benchmarks" / file))
    yield "CNN 8, 16 channels", lambda: read_module(trained(folder, data, (8, 16)), (1, 28, 28))
    yield "kw_mnist, CNN 16, 32 channels", lambda: read_module(_kw(data), (1, 28, 28))


def _kw(data: Path) -> nn.Sequential:
    model, at = convolutional(KW[:2], KW[2]), data / "public" / "kw_mnist.pth"
    model.load_state_dict(torch.load(at, weights_only=True, map_location="cpu"))
    return model


def one(network: Network, method: str, seconds: float) -> tuple[float, float | None]:
    """Bound, and the dual value where there is one."""
    if method == "interior":
        task = Task(network, deadline=time.monotonic() + seconds)
        (found,) = by_chain(task, {method: lambda chain: LipSDP(barrier=False)(chain, task.pace())})
        return found.bound, found.sdp_lower
    found = bound(network, method, lower=0.0, seconds=seconds, stop=True)
    return found.bound, found.sdp_lower


def run(at: Path, data: Path, only: str, seconds: float) -> None:
    """Whatever is not in the file."""
    rows = stored(at)
    for name, make in networks(at.parent, data):
        if only not in name:
            continue
        network = make()
        for method in METHOD_NAMES:
            if (name, method) in rows or (method in METHODS and METHODS[method].unfit(network) is not None):
                continue
            begin = time.process_time()
            value, lower = one(network, method, seconds)
            neurons = sum(node.op.length for node in network.nodes if isinstance(node.op, Activation))
            row = {"network": name, "neurons": neurons, "method": method, "bound": value, "sdp_lower": lower}
            row["seconds"] = round(time.process_time() - begin, 1)
            with at.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def stored(at: Path) -> dict[tuple[str, str], dict]:
    lines = at.read_text(encoding="utf-8").splitlines() if at.exists() else []
    return {(row["network"], row["method"]): row for row in map(json.loads, lines)}


def table(at: Path) -> None:
    """Bounds with CPU seconds, and by how much the last can be above the optimum."""
    rows = stored(at)
    print(f"| network | neurons | {' | '.join(METHOD_NAMES)} | above the optimum at most |")
    print("|---" * (len(METHOD_NAMES) + 3) + "|")
    for name in dict.fromkeys(name for name, _ in rows):
        cells = [rows.get((name, method)) for method in METHOD_NAMES]
        known = [row for row in cells if row is not None]
        lower = max((row["sdp_lower"] or 0.0 for row in known), default=0.0)
        best = min(row["bound"] for row in known)
        shown = ["" if row is None else f"{row['bound']:.7g} ({row['seconds']:.3g} s)" for row in cells]
        above = f"{best / lower - 1:.1e}" if lower else ""
        print(f"| {name} | {known[0]['neurons']:,} | {' | '.join(shown)} | {above} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "table":
        table(options.file)
    else:
        run(options.file, Path(os.environ["SDPLIP_DATA"]), options.only, options.seconds)
