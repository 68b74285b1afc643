"""Proven bounds of published networks with MaxMin, residual sums, and of ReLU networks on boxes, each beside the published value.

Run: `SDPLIP_DATA=... python benchmarks/bounds_systems.py [--only NAME] [--quick]`. The value is the kernel's, "gap" is that to
the solver's dual value. Times include the proof and the lower estimate, not the imports.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from frame import Case, table

from sdplip.bounds import bound
from sdplip.kernel.regions import Box
from sdplip.network import Activation, Builder, Dense, Network, Operator, Sort, Sum
from sdplip.network.read.weights import weights_network
from sdplip.weights import read
from sdplip.weights.mat import arrays

HEAD = (
    "network",
    "published",
    "product",
    "riccati",
    "lipsdp-neuron, proven",
    "gap",
    "lower",
    "order",
    "iterations",
    "seconds",
)
EXACT = {
    # ExLipBaB, all inputs, groups of two neighbours
    "exlipbab_abalone_net__9x16x16x1__GroupSort_numGroups8": ("4.48658 is with ReLU, see below", None),
    "exlipbab_wine_net__11x12x12x1__GroupSort_numGroups6": ("exact 2.788306", None),
    "exlipbab_wine_net__11x24x24x1__GroupSort_numGroups12": ("exact 4.11743 or 4.22540", None),
    "exlipbab_iris_net__4x6x6x3__GroupSort_numGroups3": ("none", None),
    "exlipbab_bike_net__13x20x16x8x3__GroupSort_numGroups10": ("exact 9095.125", None),
    "exlipbab_abalone_net__9x16x16x1__ReLU": ("exact 11.12160", None),
    "exlipbab_iris_net__4x6x6x3__ReLU": ("exact 11.63436", None),
    "exlipbab_wine_net__11x12x12x1__ReLU": ("exact 1.743370", None),
    "exlipbab_bike_net__13x20x16x8x3__ReLU": ("at least 10802.404", None),
    # LipBaB, on boxes
    "lipbab_SDnet__10_15_10_3_": ("exact 9.5307 on [0, 0.1]^10", 0.1),
    "lipbab_SDnet__10_20_15_10_3_": ("exact 40.0565 on [0, 0.1]^10", 0.1),
    "lipbab_SDnet__10_30_30_30_3_": ("exact 19.4628 on [0, 0.1]^10", 0.1),
    "lipbab_iris_net__4_5_5_3_": ("exact 6.77145 on [0, 1]^4", 1.0),
}


def cases(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("maxmin_weights*.mat")):
        yield Case(path.name, weights_network(read(path), "maxmin"), "none")
    yield Case("maxmin_resweights_5_32.mat", maxmin_residual(folder), "none")
    for name, (published, end) in EXACT.items():
        Ws, bs = (pickled(folder / f"{name}_{part}.npy") for part in ("weights", "biases"))
        region = None if end is None else Box(np.zeros(len(Ws[0])), np.full(len(Ws[0]), end))
        if name.startswith("exlipbab_abalone") and "GroupSort" in name:  # as its script evaluates it
            yield Case(f"{name}, with ReLU", weights_network([W.T for W in Ws], "relu", bs), "exact 4.48658")
        kind = "maxmin" if "GroupSort" in name else "relu"
        yield Case(name, weights_network([W.T for W in Ws], kind, bs), published, region)
    published = "GLipSDP 20.95600, product 56.22946"
    yield Case(
        "glipsdp_versatility_FC-R18.mat, no ReLU after the sums",
        fc_r18(folder, after=False),
        published,
        quick=False,
    )
    yield Case(
        "glipsdp_versatility_FC-R18.mat, ReLU after the sums",
        fc_r18(folder, after=True),
        "none that is proven",
        quick=False,
    )


def pickled(path: Path) -> list[np.ndarray]:
    """Matrices of an object array. Only for our own copies of trusted files: reading one can execute what it holds."""
    return [np.asarray(v, np.float64) for v in np.load(path, allow_pickle=True)]


def maxmin_residual(folder: Path) -> Network:
    """First weight, blocks x + MaxMin(W x) and last weight, as `LipschitzEstimationRes.m` of QCs_MaxMin has them."""
    first, *blocks, last = (
        np.asarray(W.array, np.float64) for W in read(folder / "maxmin_resweights_5_32.mat")
    )
    builder, n = Builder((first.shape[1],)), len(first)
    value = builder.add(Dense(first), 0)
    for W in blocks:
        value = skipped(builder, value, Dense(W), Sort(np.arange(n).reshape(-1, 2), n))
    return builder.finish(builder.add(Dense(last), value))


def skipped(builder: Builder, value: int, *ops: Operator) -> int:
    """Adds x + f(x)."""
    branch = value
    for op in ops:
        branch = builder.add(op, branch)
    return builder.add(Sum((1, 1), ops[-1].outputs), value, branch)


def fc_r18(folder: Path, *, after: bool) -> Network:
    """The fully-connected residual network of GLipSDP's versatility study, with or without ReLU after the sums."""
    held = arrays(folder / "glipsdp_versatility_FC-R18.mat")
    layer = lambda name: Dense(held[f"{name}_weight"], held[f"{name}_bias"].reshape(-1))  # noqa: E731
    relu = lambda op: Activation("relu", op.outputs)  # noqa: E731
    first = layer("input_layer")
    builder = Builder((first.inputs,))
    value = builder.add(relu(first), builder.add(first, 0))
    for k in range(8):
        into, back = layer(f"blocks_{k}_fc1"), layer(f"blocks_{k}_fc2")
        value = skipped(builder, value, into, relu(into), back)
        value = builder.add(relu(back), value) if after else value
    return builder.finish(builder.add(layer("output_layer"), value))


def row(case: Case) -> list[str]:
    best = bound(case.network, "lipsdp-neuron", region=case.region)
    riccati, product = (bound(case.network, m, region=case.region).value for m in ("riccati", "product"))
    gap = "" if best.gap is None else f"{best.gap:.0e}"
    found = [f"{product:.7g}", f"{riccati:.7g}", f"{best.value:.9g}", gap, f"{best.lower:.6g}"]
    return [*found, str(best.order), str(best.iterations), f"{best.seconds:.2f}"]


if __name__ == "__main__":
    table(HEAD, cases, row)
