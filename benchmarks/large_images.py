"""Joint bounds of large convolutional networks, proven: `frequency` beside the product of norms.

    SDPLIP_DATA=... python benchmarks/large_images.py run FILE [--only NAME] [--seconds 600]     # goes on where it stopped
    python benchmarks/large_images.py table FILE                                                 # Markdown, for docs/benchmarks.md

Every bound is the kernel's. FILE has a line of JSON a network and method, with CPU seconds of one thread, proof included; what is trained
here is stored beside it. `--seconds` is the time of the clock that a search is given.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from image_networks import image_networks
from large import stored, table

from sdplip.bounds import bound
from sdplip.bounds.methods import METHODS
from sdplip.network import Activation

METHOD_NAMES = ("product", "riccati", "frequency")


def run(at: Path, data: Path, only: str, seconds: float) -> None:
    """Whatever is not in the file, but for methods that do not take a network or would need many times the seconds."""
    rows = stored(at)
    for name, make in image_networks(at.parent, data):
        if only not in name:
            continue
        network = make()
        for method in METHOD_NAMES:
            entry = METHODS[method]
            unfit = entry.unfit(network) is not None or (
                not entry.stops and entry.work(network) > 2 * seconds
            )
            if unfit or (name, method) in rows:
                continue
            begin = time.process_time()
            value = bound(network, method, lower=0.0, seconds=seconds, stop=True).bound
            neurons = sum(node.op.length for node in network.nodes if isinstance(node.op, Activation))
            row = {"network": name, "neurons": neurons, "method": method, "bound": value}
            row["seconds"] = round(time.process_time() - begin, 1)
            with at.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def gain(known: list[dict]) -> str:
    """How much less than the product, the first of the methods, is proven."""
    return f"{known[0]['bound'] / min(row['bound'] for row in known):.2f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "table":
        table(options.file, METHOD_NAMES, "times less than the product", gain)
    else:
        run(options.file, Path(os.environ["SDPLIP_DATA"]), options.only, options.seconds)
