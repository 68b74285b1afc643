"""Batch normalisation among the layers of a numbered chain, where the numbers say where it stands."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.read.normalisation import Normalisation, normalisation

EPSILON = 1e-5
"""torch's default, which is assumed: a state dict does not hold it."""
PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalisation: its prefix in the file, its numbers, the layer that it follows, whether an activation stands between."""

    name: str
    numbers: Normalisation
    layer: str
    behind_activation: bool

    @property
    def sentence(self) -> str:
        """What was understood, in words."""
        made = f"the activation of `{self.layer}`" if self.behind_activation else f"what `{self.layer}` makes"
        return (
            f"`{self.name}` normalises {made}, as its number says, with epsilon {EPSILON}, which is assumed."
        )


def norms_of(arrays: Mapping[str, np.ndarray], path: Path) -> tuple[dict[str, Norm], set[str]]:
    """The normalisations by the layer that they follow, and the names of their arrays.

    Of `0.weight`, `1.running_mean`, `1.running_var`, ..., `3.weight` the numbers say that 1 stands right behind 0. With one
    number between, that is the activation. Everything else is left to be refused.

    Raises:
        InvalidWeight: two normalisations behind one layer, vectors of different lengths, a negative variance.
    """
    found, taken = dict[str, Norm](), set[str]()
    for name in arrays:
        match = re.fullmatch(r"((?:.*\.)?)(\d+)\.running_mean", name)
        if not match or f"{match[1]}{match[2]}.running_var" not in arrays:
            continue
        parent, number = match[1], int(match[2])
        prefix = f"{parent}{number}"
        before = [k for k in _layers(arrays, parent) if k < number]
        if not before or number - max(before) > 2:
            continue
        layer = f"{parent}{max(before)}.weight"
        if layer in found:
            raise InvalidWeight(
                f"Two normalisations in `{path}` follow `{layer}` by their numbers. Export the network to ONNX."
            )
        found[layer] = Norm(prefix, _numbers(arrays, prefix, path), layer, number - max(before) == 2)
        taken |= {f"{prefix}.{part}" for part in PARTS if f"{prefix}.{part}" in arrays}
    return found, taken


def _layers(arrays: Mapping[str, np.ndarray], parent: str) -> list[int]:
    """Numbers of the matrices and kernels `parent.N.weight`."""
    pattern = re.compile(re.escape(parent) + r"(\d+)\.weight")
    matches = [(pattern.fullmatch(name), array) for name, array in arrays.items()]
    return [int(match[1]) for match, array in matches if match and array.ndim > 1]


def _numbers(arrays: Mapping[str, np.ndarray], prefix: str, path: Path) -> Normalisation:
    mean, variance = arrays[f"{prefix}.running_mean"], arrays[f"{prefix}.running_var"]
    gamma = arrays.get(f"{prefix}.weight", np.ones(mean.shape))
    beta = arrays.get(f"{prefix}.bias", np.zeros(mean.shape))
    vectors = (gamma, beta, mean, variance)
    if any(v.ndim != 1 or v.shape != mean.shape or v.dtype.kind != "f" for v in vectors):
        raise InvalidWeight(
            f"The vectors of the normalisation `{prefix}` in `{path}` have different lengths."
        )
    return normalisation(*vectors, EPSILON)
