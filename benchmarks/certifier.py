"""The networks of the verified certifier of CAV 2025 (Tobler, Syeda, Murray): constants of margins, and what they certify.

Run: `SDPLIP_DATA=... python benchmarks/certifier.py [--only mnist] [--seconds 400] [--images 10000]`. The files hold their published
weights as text of five decimals; the networks have no biases. Their program computes constants as products over the layers, over the
reals, proven in Dafny; its minutes are its authors', on their machine. All constants here are the kernel's. Rows add up: each
begins with what the rows above have proven. "worst pair" is the largest constant of a margin, "found" the largest Jacobian of that
pair over slopes that a search finds: no bound that knows slopes alone is below it. Certified shares are of any pass in double
precision, rounding subtracted. Seconds are CPU time, of the constants and (in parentheses) of the images.
"""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pairs import jacobian

from sdplip.bounds.classes import MarginConstants, margin_constants
from sdplip.kernel.accuracy import margin_constants as concluded
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Proof
from sdplip.network import Network
from sdplip.network.read.weights import weights_network
from sdplip.robustness.graph_accuracy import certify_graph, propose_margins
from sdplip.training.config import DataConfig
from sdplip.training.data import load
from sdplip.verifier.claim import chosen
from sdplip.weights import read

HEAD = ("network", "constants", "in front of the head", "worst pair", "certified", "seconds")


@dataclass(frozen=True)
class Case:
    """A file, the images, the radius, and what is published: certified share and minutes for the constants."""

    file: str
    data: str
    folder: str
    eps: str
    published: str
    minutes: str


CASES = (
    Case("certifier_mnist_8x128.npz", "mnist", "mnist", "0.3", "95.40", "16 to 17 min"),
    Case("certifier_fashion_12x128.npz", "fashion_mnist", "fashion_mnist", "0.25", "79.54", "20 to 50 min"),
)


def rows(case: Case, folder: Path, seconds: float, count: int):
    """One row a kind of constants, as each is found."""
    network = weights_network(read(folder / "public" / case.file))
    test = load(DataConfig(case.data, path=str(folder / "data" / case.folder))).test
    images, labels = test.images[:count].numpy(), test.labels[:count].numpy()
    name = case.file.removesuffix(".npz")

    def row(kind: str, front: float, worst: float, proof: Proof, spent: float) -> list[str]:
        begin = time.process_time()
        share = certify_graph(network, images, labels, proof=proof).certification.certified(case.eps)
        shown = f"{spent:.1f} ({time.process_time() - begin:.1f})"
        return [name, kind, f"{front:.4f}", f"{worst:.4f}", f"{100 * share:.2f} @{case.eps}", shown]

    yield [name, "published, product over the reals", "", "", f"{case.published} @{case.eps}", case.minutes]
    begin = time.process_time()
    product = propose_margins(network, method="product")
    known = concluded(network, product, conclude)
    spent = time.process_time() - begin
    found = margin_constants(network, "product", pairs=False)
    yield row("product", _front(found), float(known.max()), product, spent)
    kinds = {"one solve in front of the head": None, "its multipliers for every pair": 0.0}
    for kind, budget in {**kinds, f"own multipliers, {seconds:.0f} s": seconds}.items():
        begin = time.process_time()
        found = margin_constants(
            network, "lipsdp-neuron", known=known, pairs=budget is not None, pair_seconds=budget
        )
        spent = time.process_time() - begin
        kind = kind if not found.own else f"own multipliers, {found.own} pairs"
        proof = Proof("least", {}, (product, found.proof()))
        yield row(kind, _front(found), float(found.values.max()), proof, spent)
    i, j = np.unravel_index(int(found.values.argmax()), found.values.shape)
    yield [name, f"found, classes {i} and {j}", "", f"{_found(network, (int(i), int(j))):.4f}", "", ""]


def _front(found: MarginConstants) -> float:
    assert found.front is not None
    return found.front.bound


def _found(network: Network, pair: tuple[int, int]) -> float:
    return jacobian(chosen(network, pair))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--seconds", type=float, default=400.0, help="for pairs by themselves")
    parser.add_argument("--images", type=int, default=10000)
    options = parser.parse_args()
    if "SDPLIP_DATA" not in os.environ:
        sys.exit("Set SDPLIP_DATA to the folder that holds `public` and `data`.")
    folder = Path(os.environ["SDPLIP_DATA"])
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|")
    for case in CASES:
        if options.only in case.file:
            for line in rows(case, folder, options.seconds, options.images):
                print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
