"""LipSDP-Neuron: our interior-point method beside CVXPY with SCS and Clarabel, in one run, as a Markdown table.

Run: `SDPLIP_DATA=... python benchmarks/bounds_peers.py [--only NAME] [--threads 1] [--limit 600]`. "as the paper writes it" is
the whole inequality for the weights as they are; "reduced" has weights of norm 1 and triangular factors for a wide first and a
tall last one (`sdplip.bounds.Reference`). SCS at eps 1e-6 with our preset of `sdplip.solvers.CVXPY`, Clarabel at 1e-8. Every
bound is what the kernel proves from that solver's point; "seconds" are those of the solver and the proof, the best of several
runs where one takes less than a second.
"""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from sdplip.bounds import LipSDP, NetworkBound, Reference, bound
from sdplip.bounds.run import Propose
from sdplip.network import Activation, Network
from sdplip.network.read.weights import weights_network
from sdplip.solvers import CVXPY
from sdplip.weights import read

FILES = (
    "lipsdp_random_weights.mat",
    "eclipse_genlocal_lyr5n10.mat",
    "eclipse_genlocal_lyr5n20.mat",
    "lipsdp_mnist_weights.mat",
)


def rivals(limit: float, order: int) -> dict[str, Propose]:
    scs = CVXPY("SCS", eps=1e-6, max_iterations=1_000_000, time_limit=limit)
    found: dict[str, Propose] = {"CVXPY, SCS, reduced": Reference(solver=scs)}
    found["CVXPY, SCS, as the paper writes it"] = Reference(solver=scs, reduced=False)
    if order <= 120:  # Clarabel's memory
        found["CVXPY, Clarabel, reduced"] = Reference(solver=CVXPY("CLARABEL", eps=1e-8, time_limit=limit))
    return found


def best_of(network: Network, method: Propose, least: float = 1.0) -> tuple[NetworkBound, float]:
    """The bound, and the least wall time of runs that together take `least` seconds."""
    nodes = (  # activations without a name: no search for Jacobians
        replace(node, op=replace(node.op, name="")) if isinstance(node.op, Activation) else node
        for node in network.nodes
    )
    plain = Network(network.input_shape, tuple(nodes))
    seconds, begin = list[float](), time.perf_counter()
    while not seconds or time.perf_counter() - begin < least:
        start = time.perf_counter()
        result = bound(plain, method)
        seconds.append(time.perf_counter() - start)
    return result, min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for one solve")
    options = parser.parse_args()
    if "SDPLIP_DATA" not in os.environ:
        sys.exit("Set SDPLIP_DATA to the folder that holds `benchmarks`.")
    torch.set_num_threads(options.threads)
    print("| network | solver | status | iterations | proven bound | seconds | times ours |")
    print("|---|---|---|---|---|---|---|")
    for name in FILES:
        if options.only not in name:
            continue
        network = weights_network(read(Path(os.environ["SDPLIP_DATA"], "benchmarks", name)))
        ours, base = best_of(network, LipSDP())
        order = ours.order + min(network.inputs, network.length(1))
        for solver, method in {"sdplip": LipSDP(), **rivals(options.limit, order)}.items():
            result, seconds = (ours, base) if solver == "sdplip" else best_of(network, method)
            print(
                f"| {name} | {solver} | {result.status.name} | {result.iterations} | {result.value:.9g} | {seconds:.3g} |"
                f" {seconds / base:.3g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
