"""Proven Lipschitz bounds of convolutional networks that other tools publish, each beside the published value.

Run: `SDPLIP_DATA=... python benchmarks/bounds_images.py [--quick] [--threads 2] [--only NAME]`. Every bound is the kernel's, with
its wall time in seconds, proof included; "lipsdp-neuron" is the inequality of the unrolled matrices, where these are small.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bounds import published_digits
from frame import Case, table

from sdplip.bounds import NetworkBound, bound
from sdplip.errors import InvalidProblem
from sdplip.network.read.weights import Assumptions, weights_network
from sdplip.weights import read

HEAD = ("network", "published", "lipsdp-neuron", "banded", "frequency", "product", "lower")

CNN = {
    (3, 8): "GLipSDP 7.648757",
    (5, 8): "GLipSDP 28.489883",
    (9, 8): "GLipSDP 274.0045",
    (17, 8): "GLipSDP 11323.6",
    (3, 16): "GLipSDP 8.026805",
    (5, 16): "GLipSDP 36.09973",
    (9, 16): "GLipSDP 177.6398",
    (17, 16): "GLipSDP 8080.774",
}
"""Convolutions and channels of the GLipSDP study, and its values for all but the first convolution."""


def cases(folder: Path) -> Iterator[Case]:
    """Networks on images; the studies keep one output of the digits, and the stack of equal convolutions of MNIST."""
    for kind in ("cnn2", "cnn3"):
        stored = (published_digits(folder, kind, name) for name in ("Lip_GLipSDP_c", "Lip_LipSDP"))
        for seed, (state_space, unrolled) in enumerate(zip(*stored, strict=True)):
            weights = list(read(folder / f"glipsdp_digits_{kind}_seed{seed}.mat", transpose=True))
            weights[-1] = replace(weights[-1], array=weights[-1].array[7:8])
            network = weights_network(weights, assumptions=Assumptions(image_size=(8, 8), flatten="whc"))
            yield Case(
                f"glipsdp_digits_{kind}_seed{seed}",
                network,
                f"GLipSDP {state_space:.6g}, unrolled {unrolled:.9g}",
                quick=kind == "cnn2" and not seed,
            )
    for (layers, channels), published in CNN.items():
        weights = read(folder / f"glipsdp_mnist_cnn_C{layers}_CH{channels}.mat")
        name, stack = (
            f"glipsdp_mnist_cnn_C{layers}_CH{channels}",
            [w for w in weights if w.array.ndim > 2][1:],
        )
        yield Case(
            f"{name} stack",
            weights_network(stack, assumptions=Assumptions(image_size=(28, 28))),
            published,
            quick=False,
        )
        yield Case(
            f"{name} whole",
            weights_network(weights, assumptions=Assumptions(image_size=(28, 28), average=True)),
            "none",
            quick=False,
        )


def row(case: Case) -> list[str]:
    found = dict[str, NetworkBound]()
    for method in ("lipsdp-neuron", "banded", "frequency", "product"):
        with suppress(InvalidProblem):  # matrices or rows that are too large
            found[method] = bound(case.network, method)
    shown = {method: f"{result.value:.9g} ({result.seconds:.3g} s)" for method, result in found.items()}
    lower = max(result.lower for result in found.values())
    return [*(shown.get(method, "") for method in HEAD[2:6]), f"{lower:.6g}"]


if __name__ == "__main__":
    table(HEAD, cases, row)
