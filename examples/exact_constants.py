"""Exact Lipschitz constants of small networks, between two proven sides, beside what is known of them.

python examples/exact_constants.py [FOLDER] [--seconds 60]

Without FOLDER two networks of two and three neurons, whose constants over all biases are known by hand: sqrt(40) and sqrt(90), the largest
norm over all patterns. With a folder that holds LipBaB's published weights (pyrobits/LipBaB, as ExLipBaB's repository
tsplittg/ExLipBaB_Code stores them) those networks too, on the boxes of that comparison.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from sdplip.arithmetic.decimals import above, below
from sdplip.bounds import NetworkBound, exact_bound
from sdplip.kernel.regions import Box
from sdplip.network import Activation, Dense, Network, chain

BY_HAND = {
    "2-2-1": ([[[-1, 3], [3, -1]], [[2, 2]]], 40**0.5),
    "2-3-1": ([[[1, -3], [2, -1], [2, 2]], [[3, -3, 3]]], 90**0.5),
}
LIPBAB = {
    "lipbab_iris_net__4_5_5_3_": (1.0, 6.77145),
    "lipbab_SDnet__10_15_10_3_": (0.1, 9.5307),
    "lipbab_SDnet__10_20_15_10_3_": (0.1, 40.0565),
    "lipbab_SDnet__10_30_30_30_3_": (0.1, 19.4628),
}
"""By file: the upper end of the box [0, b], and the published constant."""


def relu_network(weights: list, biases: list | None = None) -> Network:
    """Matrices (out, in), relu between them."""
    ops: list[Dense | Activation] = []
    for k, W in enumerate(weights):
        W = np.asarray(W, np.float64)
        ops += [Activation("relu", W.shape[1])] if k else []
        ops.append(Dense(W, None if biases is None else np.asarray(biases[k], np.float64)))
    return chain(ops)


def stored(folder: Path, name: str) -> Network:
    """A network of LipBaB, stored as (in, out)."""
    W, b = (np.load(folder / f"{name}_{kind}.npy", allow_pickle=True) for kind in ("weights", "biases"))
    return relu_network([A.T for A in W], list(b))


def show(name: str, known: float, found: NetworkBound, seconds: float) -> None:
    sides = f"{below(found.lower, 9)} <= constant <= {above(found.bound, 9)}"
    print(
        f"{name:30} known {known:<9.7g} proven {sides}  ({found.iterations} patterns, {seconds:.1f} s) {found.note}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network, at most")
    options = parser.parse_args()
    for name, (weights, known) in BY_HAND.items():
        begin = time.perf_counter()
        found = exact_bound(relu_network(weights), any_biases=True, seconds=options.seconds)
        show(name, known, found, time.perf_counter() - begin)
    for name, (end, known) in LIPBAB.items() if options.folder else ():
        network, begin = stored(options.folder, name), time.perf_counter()
        box = Box(np.zeros(network.inputs), np.full(network.inputs, end))
        show(
            name,
            known,
            exact_bound(network, region=box, seconds=options.seconds),
            time.perf_counter() - begin,
        )


if __name__ == "__main__":
    main()
