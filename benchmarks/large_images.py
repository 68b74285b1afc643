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
from large import stored

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


def table(at: Path) -> None:
    """Bounds with CPU seconds, and how much less the last method proves than the product."""
    rows = stored(at)
    print(f"| network | neurons | {' | '.join(METHOD_NAMES)} | times less than the product |")
    print("|---" * (len(METHOD_NAMES) + 3) + "|")
    for name in dict.fromkeys(name for name, _ in rows):
        cells = [rows.get((name, method)) for method in METHOD_NAMES]
        known = [row for row in cells if row is not None]
        shown = ["" if row is None else f"{row['bound']:.7g} ({row['seconds']:.3g} s)" for row in cells]
        gain = known[0]["bound"] / min(row["bound"] for row in known)
        print(f"| {name} | {known[0]['neurons']:,} | {' | '.join(shown)} | {gain:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "table":
        table(options.file)
    else:
        run(options.file, Path(os.environ["SDPLIP_DATA"]), options.only, options.seconds)
