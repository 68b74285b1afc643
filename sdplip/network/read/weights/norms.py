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
KINDS = ("conv", "fc", "linear", "lin")
"""What a layer is called beside its number."""
PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Norm:
    """A normalisation: its prefix in the file, its numbers, the layer that it follows, whether an activation stands between."""

    name: str
    numbers: Normalisation
    layer: str
    behind_activation: bool
    said: str = f"as its name says, with epsilon {EPSILON}, which is assumed"

    @property
    def sentence(self) -> str:
        """What was understood, in words."""
        made = f"the activation of `{self.layer}`" if self.behind_activation else f"what `{self.layer}` makes"
        return f"`{self.name}` normalises {made}, {self.said}."


def norms_of(
    arrays: Mapping[str, np.ndarray], path: Path, *, paired: bool = False
) -> tuple[dict[str, Norm], set[str]]:
    """The normalisations by the layer that they follow, and the names of their arrays.

    Of `0.weight`, `1.running_mean`, `1.running_var`, ..., `3.weight` the numbers say that 1 stands right behind 0. With one
    number between, that is the activation. Where the user says so (`paired`), `bn1` stands right behind `conv1`, `fc1` or
    `linear1`. Everything else is left to be refused.

    Raises:
        InvalidWeight: two normalisations behind one layer, vectors of different lengths, a negative variance.
    """
    found, taken = dict[str, Norm](), set[str]()
    for name in arrays:
        prefix = name.removesuffix(".running_mean")
        if prefix == name or f"{prefix}.running_var" not in arrays:
            continue
        place = _by_number(arrays, prefix) or (_by_name(arrays, prefix) if paired else None)
        if place is None:
            continue
        layer, behind_activation = place
        parts = tuple(f"{prefix}.{part}" for part in PARTS[:4])
        if layer in found:
            raise InvalidWeight(
                f"Two normalisations in `{path}` follow `{layer}` by their numbers. Export the network to ONNX."
            )
        found[layer] = Norm(prefix, _numbers(arrays, parts, EPSILON, path), layer, behind_activation)
        taken |= {f"{prefix}.{part}" for part in PARTS if f"{prefix}.{part}" in arrays}
    return found, taken


def _by_number(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[str, bool] | None:
    """The layer that a normalisation follows in a numbered chain, and whether the activation stands between."""
    match = re.fullmatch(r"((?:.*\.)?)(\d+)", prefix)
    before = [k for k in _layers(arrays, match[1]) if k < int(match[2])] if match else []
    if not match or not before or int(match[2]) - max(before) > 2:
        return None
    return f"{match[1]}{max(before)}.weight", int(match[2]) - max(before) == 2


def _by_name(arrays: Mapping[str, np.ndarray], prefix: str) -> tuple[str, bool] | None:
    """The layer of the same number beside a normalisation: `layer1.0.conv2.weight` of `layer1.0.bn2`."""
    match = re.fullmatch(r"((?:.*\.)?)(?:bn|norm|batchnorm)_?(\d*)", prefix)
    names = [f"{match[1]}{kind}{match[2]}.weight" for kind in KINDS] if match else []
    held = [name for name in names if name in arrays and arrays[name].ndim > 1]
    return (held[0], False) if len(held) == 1 else None


def _layers(arrays: Mapping[str, np.ndarray], parent: str) -> list[int]:
    """Numbers of the matrices and kernels `parent.N.weight`."""
    pattern = re.compile(re.escape(parent) + r"(\d+)\.weight")
    matches = [(pattern.fullmatch(name), array) for name, array in arrays.items()]
    return [int(match[1]) for match, array in matches if match and array.ndim > 1]


def of_keras(
    arrays: Mapping[str, np.ndarray], places: Mapping[str, tuple[str, float, bool]], end: str, path: Path
) -> tuple[dict[str, Norm], set[str]]:
    """The normalisations that a configuration places behind layers, `(name, epsilon, whether behind the activation)`; `end` follows
    the name of a layer. And the names of their arrays.

    Raises:
        InvalidWeight: as `norms_of`, and arrays that are not there.
    """
    found, taken = dict[str, Norm](), set[str]()
    said = "as the configuration in the file says"
    for layer, (name, epsilon, behind) in places.items():
        parts = tuple(f"{name}/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance"))
        if not {*parts[2:]} <= set(arrays):
            raise InvalidWeight(
                f"`{path}` does not hold the statistics of `{name}`. Export the model to ONNX."
            )
        numbers = _numbers(arrays, parts, epsilon, path)
        found[f"{layer}{end}"] = Norm(
            name, numbers, f"{layer}{end}", behind, f"with epsilon {epsilon!r}, {said}"
        )
        taken |= {part for part in parts if part in arrays}
    return found, taken


def _numbers(
    arrays: Mapping[str, np.ndarray], parts: tuple[str, ...], epsilon: float, path: Path
) -> Normalisation:
    """Of the arrays called `parts`: scale and shift, which may be missing, mean and variance."""
    scale, shift, *statistics = parts
    mean, variance = (arrays[part] for part in statistics)
    gamma, beta = arrays.get(scale, np.ones(mean.shape)), arrays.get(shift, np.zeros(mean.shape))
    vectors = (gamma, beta, mean, variance)
    if any(v.ndim != 1 or v.shape != mean.shape or v.dtype.kind != "f" for v in vectors):
        raise InvalidWeight(
            f"The vectors of the normalisation `{parts[2]}` in `{path}` have different lengths."
        )
    return normalisation(*vectors, epsilon)
