"""Joint bounds of large networks, proven: the barrier method of chains of few layers beside the methods of before, and images beside others.

    SDPLIP_DATA=... python benchmarks/large.py run FILE [--only NAME] [--method NAME] [--checkout OLD] [--threads 1] [--seconds 600]
    python benchmarks/large.py table FILE                                                               # Markdown, for docs/benchmarks.md

Every bound is the kernel's. FILE has a line of JSON a network and method, with CPU seconds, proof included; a run goes on where it stopped.
"interior" is the primal-dual method that `lipsdp-neuron` has for other networks; "lipsdp-neuron 0.1 %" stops where the bound is at most 0.1 % above
the optimum; "old" is `lipsdp-neuron` of an older checkout (21aeb65, before the one network), in a process of its own, loading it not counted.
The convolutional network of 2,352 neurons (28 x 28, 8 and 16 channels, 4 x 4 pixels, stride
2, a matrix behind them) is trained here for one pass over MNIST with Adam, seed 0, and stored beside FILE; the others are public files.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sdplip.bounds import bound
from sdplip.bounds.methods import METHODS
from sdplip.bounds.methods.multipliers import by_chain
from sdplip.bounds.numerics.lipsdp import LipSDP
from sdplip.bounds.task import Task
from sdplip.network import Activation, Dense, Network
from sdplip.network.read.torch import read_module
from sdplip.network.read.weights import weights_network
from sdplip.training.data import load_arrays
from sdplip.weights import read

CHAINS = {
    "784-500-200-50-10": "seqlip_fork_mnist_500_200_50.npz",
    "784-400-400-400-10": "eclipse_mnist_lyr3n400test1.mat",
}
IMAGE = (1, 28, 28)
KW = (16, 32, 100)
"""Channels, and hidden units behind them, of the networks of Wong and Kolter: `kw_mnist.pth`."""
NEAR = "lipsdp-neuron 0.1 %"
METHOD_NAMES = ("product", "riccati", "frequency", NEAR, "lipsdp-neuron", "interior", "old")
OLD = """
import json, sys, time, torch
from sdplip.bounds import bound
from sdplip.networks.torch import from_module
torch.set_num_threads(int(sys.argv[3]))
model = torch.load(sys.argv[1], weights_only=False)
network = from_module(model, tuple(json.loads(sys.argv[2])))
begin = time.process_time()
found = bound(network, "lipsdp-neuron")
print(json.dumps([found.value, found.sdp_lower, time.process_time() - begin]))
"""
"""What the process of the older checkout runs."""


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


def networks(
    folder: Path, data: Path
) -> Iterator[tuple[str, Callable[[], tuple[nn.Sequential, tuple[int, ...]]]]]:
    """Name, and what makes the network with the shape of its input."""
    for name, file in CHAINS.items():
        yield name, lambda file=file: _chain(data / "benchmarks" / file)
    yield "CNN 8, 16 channels", lambda: (trained(folder, data, (8, 16)), IMAGE)
    yield "kw_mnist, CNN 16, 32 channels", lambda: (_kw(data), IMAGE)


def _chain(at: Path) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Of matrices with ReLU between them, in double precision."""
    layers = list[nn.Module]()
    for node in weights_network(read(at)).nodes:
        if isinstance(node.op, Activation):
            layers.append(nn.ReLU())
            continue
        assert isinstance(node.op, Dense)
        layers.append(nn.Linear(node.op.W.shape[1], len(node.op.W), bias=False).double())
        layers[-1].weight = nn.Parameter(torch.tensor(np.asarray(node.op.W), dtype=torch.float64))
    first = layers[0]
    assert isinstance(first, nn.Linear)
    return nn.Sequential(*layers), (first.in_features,)


def _kw(data: Path) -> nn.Sequential:
    model, at = convolutional(KW[:2], KW[2]), data / "public" / "kw_mnist.pth"
    model.load_state_dict(torch.load(at, weights_only=True, map_location="cpu"))
    return model


def one(network: Network, method: str, seconds: float) -> tuple[float, float | None]:
    """Bound, and the dual value where there is one."""
    solver = {"interior": LipSDP(barrier=False), NEAR: LipSDP(gap=2e-3)}.get(method)
    if solver is not None:
        task = Task(network, deadline=time.monotonic() + seconds)
        (found,) = by_chain(task, {method: lambda chain: solver(chain, task.pace())})
        return found.bound, found.sdp_lower
    found = bound(network, method, lower=0.0, seconds=seconds, stop=True)
    return found.bound, found.sdp_lower


def old(
    checkout: Path, model: nn.Sequential, shape: tuple[int, ...], at: Path
) -> tuple[float, float | None, float]:
    """Bound, dual value and CPU seconds of the older checkout."""
    torch.save(model, at)
    command = [
        sys.executable,
        "-P",
        "-c",
        OLD,
        str(at.resolve()),
        json.dumps(shape),
        str(torch.get_num_threads()),
    ]
    done = subprocess.run(
        command,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    at.unlink()
    return tuple(json.loads(done.stdout))


def run(at: Path, data: Path, options: argparse.Namespace) -> None:
    """Whatever is not in the file."""
    rows = stored(at)
    for name, make in networks(at.parent, data):
        if options.only not in name:
            continue
        model, shape = make()
        network = read_module(model, shape)
        for method in METHOD_NAMES:
            unfit = method in METHODS and METHODS[method].unfit(network) is not None
            left_out = options.method not in ("", method) or (method == "old" and options.checkout is None)
            if (name, method) in rows or unfit or left_out:
                continue
            begin = time.process_time()
            if method == "old" and options.checkout is not None:
                value, lower, taken = old(options.checkout.resolve(), model, shape, at.with_suffix(".pt"))
            else:
                value, lower = one(network, method, options.seconds)
                taken = time.process_time() - begin
            neurons = sum(node.op.length for node in network.nodes if isinstance(node.op, Activation))
            row = {"network": name, "neurons": neurons, "method": method, "bound": value, "sdp_lower": lower}
            row["seconds"] = round(taken, 1)
            with at.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def stored(at: Path) -> dict[tuple[str, str], dict]:
    lines = at.read_text(encoding="utf-8").splitlines() if at.exists() else []
    return {(row["network"], row["method"]): row for row in map(json.loads, lines)}


def table(at: Path, methods: Sequence[str], head: str, last: Callable[[list[dict]], str]) -> None:
    """Bounds with CPU seconds, and a last column of the rows of a network."""
    rows = stored(at)
    print(f"| network | neurons | {' | '.join(methods)} | {head} |")
    print("|---" * (len(methods) + 3) + "|")
    for name in dict.fromkeys(name for name, _ in rows):
        cells = [rows.get((name, method)) for method in methods]
        known = [row for row in cells if row is not None]
        shown = ["" if row is None else f"{row['bound']:.7g} ({row['seconds']:.3g} s)" for row in cells]
        print(f"| {name} | {known[0]['neurons']:,} | {' | '.join(shown)} | {last(known)} |")


def above(known: list[dict]) -> str:
    """By how much the best bound can be above the optimum."""
    lower = max((row["sdp_lower"] or 0.0 for row in known), default=0.0)
    return f"{min(row['bound'] for row in known) / lower - 1:.1e}" if lower else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--method", default="", help="this one alone")
    parser.add_argument("--checkout", type=Path, help='an older one, for the method "old"')
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.what == "table":
        table(options.file, METHOD_NAMES, "above the optimum at most", above)
    else:
        run(options.file, Path(os.environ["SDPLIP_DATA"]), options)
