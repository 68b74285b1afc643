"""Proven Lipschitz bounds of the networks that other tools publish, each beside the published value.

Run: `SDPLIP_DATA=... python benchmarks/bounds.py [--quick] [--threads 2] [--only NAME]`. The value is the kernel's; "gap" is
that to the solver's dual value. Times include the proof and the lower estimate, not the imports.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch

from sdplip.bounds import bound
from sdplip.bounds.frequency import is_dense
from sdplip.networks import Convolution, Network, from_kernels, from_weights
from sdplip.weights import read


@dataclass(frozen=True, eq=False)
class Case:
    """One network, what was published for it, and whether it belongs to the quick ones."""

    name: str
    network: Network
    published: str
    quick: bool = True


PLAIN = {
    "lipsdp_random_weights.mat": ("36.482 (LipSDP), exact 36.48222959638", True),
    "lipsdp_mnist_weights.mat": ("24.36635 (Clarabel 22 s, SCS 71 s)", True),
    "eclipse_demo_lyr2n80test1.npz": ("0.8090352 (Fast), exact 0.73726", True),
    "eclipse_genlocal_lyr5n10.mat": ("4.9433974 (Clarabel), ECLipsE 6.93", True),
    "eclipse_genlocal_lyr5n20.mat": ("0.635237 (SCS), ECLipsE 0.813", True),
    "eclipse_genlocal_lyr5n40.mat": ("ECLipsE 4.93", True),
    "eclipse_genlocal_lyr10n20.mat": ("ECLipsE 0.552", True),
    "eclipse_genlocal_lyr10n60.mat": ("ECLipsE 3.96", True),
    "eclipse_genlocal_mnist_base.mat": ("ECLipsE 75.87", True),
    "eclipse_genlocal_mnist_jr.mat": ("Fast 87.02", True),
    "eclipse_mnist_lyr3n100test1.mat": ("ECLipsE 16.72", True),
    "eclipse_mnist_lyr3n200test1.mat": ("Fast 19.66", False),
    "eclipse_mnist_lyr3n400test1.mat": ("Fast 19.92", False),
    "seqlip_fork_mnist_5x10.mat": ("product 9518.97", True),
    "seqlip_fork_mnist_5x50.mat": ("product 45479.1", True),
    "seqlip_fork_mnist_500_200_50.npz": ("1897.363 (MOSEK 811 s)", False),
}
MLP = {
    (16, 2): "0.882717996",
    (64, 8): "0.156408886",
    (16, 16): "0.0331901983",
    (64, 16): "0.0146308200",
    (16, 32): "2.96e-4",
    (32, 32): "2.809e-4",
    (64, 32): "2.330e-4",
    (16, 64): "3.137e-4",
    (32, 64): "2.438e-4",
    (64, 64): "3.259e-4",
}
"""Width and depth of the GLipSDP scalability study, and the smaller of its two stored values."""


CNN = {
    (3, 8): "GLipSDP 7.648757",
    (5, 8): "GLipSDP 28.489883",
    (9, 8): "GLipSDP 274.0045",
    (17, 8): "GLipSDP 11323.6",
    (3, 16): "GLipSDP 8.026805",
    (5, 16): "GLipSDP 36.09973",
}
"""Convolutions and channels of the GLipSDP study, and its values for all but the first convolution."""


def cases(folder: Path) -> Iterator[Case]:
    for name, (published, quick) in PLAIN.items():
        yield Case(name, from_weights(read(folder / name)), published, quick)
    for kind, seeds in (("fnn2", range(10)), ("fnn3", range(10))):
        for seed in seeds:
            weights = [
                w.array for w in read(folder / f"glipsdp_digits_{kind}_seed{seed}.mat", transpose=True)
            ]
            weights[-1] = weights[-1][7:8]  # the study keeps one output
            yield Case(f"glipsdp_digits_{kind}_seed{seed}", from_weights(weights), "LipSDP (MOSEK), see file")
    for (width, depth), published in MLP.items():
        path = folder / f"glipsdp_mnist_mlp_L{depth + 1}_W{width}.mat"
        square = [w.array.T for w in read(path)[1:-1]]  # the study drops first and last layer and transposes
        yield Case(path.stem, from_weights(square), published, width * depth <= 512)
    for (width, layers), published in {(60, 30): "Fast 40.357", (100, 50): "Fast 185025"}.items():
        yield Case(f"genlocal lyr{layers}n{width}, regenerated", gaussian(width, layers), published, False)


def convolutions(folder: Path) -> Iterator[Case]:
    """Networks on images; the studies keep one output of the digits, and the stack of equal convolutions of MNIST."""
    for kind in ("cnn2", "cnn3"):
        for seed in range(10):
            weights = list(read(folder / f"glipsdp_digits_{kind}_seed{seed}.mat", transpose=True))
            weights[-1] = replace(weights[-1], array=weights[-1].array[7:8])
            network = from_kernels(weights, (8, 8), flatten="whc")
            yield Case(
                f"glipsdp_digits_{kind}_seed{seed}",
                network,
                "LipSDP unrolled, see file",
                kind == "cnn2" and not seed,
            )
    for (layers, channels), published in CNN.items():
        weights = read(folder / f"glipsdp_mnist_cnn_C{layers}_CH{channels}.mat")
        stack = [weight for weight in weights if weight.array.ndim > 2][1:]
        yield Case(
            f"glipsdp_mnist_cnn_C{layers}_CH{channels} stack", from_kernels(stack, (28, 28)), published, False
        )


def gaussian(width: int, layers: int) -> Network:
    """A network of ECLipsE's Gen-Local set by its seed rule: legacy generator, norms in [0.8, 2.5], 5 inputs and 2 outputs."""
    rng = np.random.RandomState(77 * width + 9 * layers)
    widths, weights = [5, *[width] * (layers - 1), 2], []
    for n, m in pairwise(widths):
        norm = rng.uniform(0.8, 2.5)
        W = rng.randn(m, n)
        weights.append(W * (norm / np.linalg.norm(W, 2)))
        rng.randn(m)  # the bias
    return from_weights(weights)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only what takes seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="networks whose name contains this")
    options = parser.parse_args()
    if "SDPLIP_DATA" not in os.environ:
        sys.exit("Set SDPLIP_DATA to the folder that holds `benchmarks`.")
    torch.set_num_threads(options.threads)
    print(
        f"torch threads: {options.threads}, OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'unset')}\n"
    )
    print(
        "| network | published | lipsdp-neuron, proven | gap | lower | greedy | riccati | product | iterations | seconds |"
        " frequency |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    bound(from_weights([np.eye(2), np.eye(2)]), "lipsdp-neuron")  # imports and first calls
    folder = Path(os.environ["SDPLIP_DATA"], "benchmarks")
    for case in chain(cases(folder), convolutions(folder)):
        if options.only in case.name and (case.quick or not options.quick):
            large = not is_dense(case.network)
            best = bound(case.network, "frequency" if large else "lipsdp-neuron")
            product = bound(case.network, "product").value
            riccati = float("nan") if large else bound(case.network, "riccati").value
            greedy = float("nan") if large else bound(case.network, "riccati-greedy").value
            images = any(isinstance(layer, Convolution) for layer in case.network.layers)
            frequency = bound(case.network, "frequency").value if images and not large else float("nan")
            gap = "" if best.gap is None else f"{best.gap:.0e}"
            print(
                f"| {case.name} | {case.published} | {best.value:.10g} | {gap} | {best.lower:.6g} | {greedy:.6g} |"
                f" {riccati:.6g} | {product:.6g} | {best.iterations} | {best.seconds:.2f} | {frequency:.6g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
