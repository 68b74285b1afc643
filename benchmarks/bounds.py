"""Proven Lipschitz bounds of the fully-connected networks that other tools publish, each beside the published value.

Run: `SDPLIP_DATA=... python benchmarks/bounds.py [--quick] [--threads 2] [--only NAME]`. The value is the kernel's; "gap" is
that to the solver's dual value. "seconds" are those of lipsdp-neuron with its proof and the lower estimate, imports not.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from frame import Case, table
from scipy.io import loadmat

from sdplip.bounds import bound
from sdplip.network import Network
from sdplip.network.read.weights import weights_network
from sdplip.weights import read

HEAD = (
    "network",
    "published",
    "lipsdp-neuron, proven",
    "gap",
    "lower",
    "greedy",
    "riccati",
    "product",
    "iterations",
    "seconds",
)
GREEDY = 3000
"""Above this number of hidden neurons the greedy column is left empty: it would take longer than all others."""
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


def cases(folder: Path) -> Iterator[Case]:
    for name, (published, quick) in PLAIN.items():
        yield Case(name, weights_network(read(folder / name)), published, quick=quick)
    for kind in ("fnn2", "fnn3"):
        for seed, stored in enumerate(published_digits(folder, kind)):
            weights = [
                w.array for w in read(folder / f"glipsdp_digits_{kind}_seed{seed}.mat", transpose=True)
            ]
            weights[-1] = weights[-1][7:8]  # the study keeps one output
            yield Case(
                f"glipsdp_digits_{kind}_seed{seed}", weights_network(weights), f"LipSDP (MOSEK) {stored:.9g}"
            )
    for (width, depth), published in MLP.items():
        path = folder / f"glipsdp_mnist_mlp_L{depth + 1}_W{width}.mat"
        square = [w.array.T for w in read(path)[1:-1]]  # the study drops first and last layer and transposes
        yield Case(path.stem, weights_network(square), published, quick=width * depth <= 512)
    for (width, layers), published in {(60, 30): "Fast 40.357", (100, 50): "Fast 185025"}.items():
        yield Case(
            f"genlocal lyr{layers}n{width}, regenerated", gaussian(width, layers), published, quick=False
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
    return weights_network(weights)


def published_digits(folder: Path, kind: str, method: str = "Lip_LipSDP") -> np.ndarray:
    """What GLipSDP's comparison stores for each seed, by MOSEK."""
    stored = loadmat(folder / "glipsdp_digits_published_bounds.mat", squeeze_me=True, struct_as_record=False)
    return getattr(getattr(stored["all_results"], kind).individual, method)


def row(case: Case) -> list[str]:
    best = bound(case.network, "lipsdp-neuron")
    greedy = "" if best.order > GREEDY else f"{bound(case.network, 'riccati-greedy').value:.6g}"
    riccati, product = (bound(case.network, method).value for method in ("riccati", "product"))
    gap = "" if best.gap is None else f"{best.gap:.0e}"
    found = [f"{best.value:.10g}", gap, f"{best.lower:.6g}", greedy, f"{riccati:.6g}", f"{product:.6g}"]
    return [*found, str(best.iterations), f"{best.seconds:.2f}"]


if __name__ == "__main__":
    table(HEAD, cases, row)
