"""Which array of a file is a layer, which a bias, which takes no part; what may multiply stops the reading."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.read.weights.norms import Norm, norms_of
from sdplip.weights.layers import ELSEWHERE, candidates, known_names, no_layer
from sdplip.weights.names import COPIES, parsed
from sdplip.weights.nnet import NORMALISATION

RECORDS = {
    "acc",
    "accuracies",
    "accuracy",
    "classes",
    "epoch",
    "epochs",
    "err",
    "error",
    "errors",
    "history",
    "label",
    "labels",
    "loss",
    "losses",
    "lr",
    "metadata",
    "sampler",
    "seed",
}
"""Words in names of what training leaves behind."""
PREPARED = {"inputs", "input", "data"}, {"max", "maximum", "mean", "min", "minimum", "scale", "std", "var"}
"""First word and any other of arrays with which the inputs are prepared."""


@dataclass(frozen=True, eq=False)
class Sorted:
    """The arrays of a file by what they are.

    Attributes:
        layers: matrices and kernels as they are stored, in file order.
        biases: arrays that are called a bias, as vectors.
        left_out: `(array, why)` of the others.
        prepared: names of arrays with which the inputs are prepared, in front of the network.
        loose: names of vectors of which nothing is known, but that fit no layer.
        norms: normalisations by the layer that they follow.
    """

    layers: Mapping[str, np.ndarray]
    biases: Mapping[str, np.ndarray]
    left_out: tuple[tuple[str, str], ...]
    prepared: tuple[str, ...]
    loose: tuple[str, ...]
    norms: Mapping[str, Norm] = field(default_factory=dict)


def chosen_arrays(arrays: Mapping[str, np.ndarray], names: Sequence[str], path: Path) -> Sorted:
    """The layers that the user names, in that order, and their biases; nothing else of the file takes part.

    Raises:
        UnknownLayer: a name that no layer has.
    """
    found = candidates(arrays, path)
    layers = {name: found[name] for name in known_names(names, list(found))}
    keys = {parsed(name).key for name in layers}
    biases = {name: _vector(array) for name, array in _biases(arrays, path).items() if _key(name) in keys}
    rest = [name or path.stem for name in arrays if (name or path.stem) not in {*layers, *biases}]
    return Sorted(
        layers, biases, tuple((name, "not among the layers that were named") for name in rest), (), ()
    )


def all_arrays(
    arrays: Mapping[str, np.ndarray], ignore: Sequence[str], form: str, path: Path, *, paired: bool = False
) -> Sorted:
    """The arrays of a file of which the user names none, apart from those to `ignore`.

    `paired` says that normalisations follow the layer of the same number.

    Raises:
        UnknownLayer: `ignore` names what is not there.
        InvalidWeight: arrays that may belong to the network and are neither layer nor bias.
    """
    named = {name or path.stem: array for name, array in arrays.items()}
    known_names(ignore, list(named))
    kept = {name: array for name, array in arrays.items() if name not in ignore}
    norms, normalising = norms_of(kept, path, paired=paired)
    named = {name: array for name, array in named.items() if name not in normalising}
    taken = {
        name: array
        for name, array in arrays.items()
        if (name or path.stem) not in ignore and name not in normalising
    }
    layers, biases = candidates(taken, path), _biases(taken, path)
    reasons = dict.fromkeys(ignore, "ignored, as was asked")
    for name, array in named.items():
        if name not in reasons and (why := _why_harmless(name, array, form)):
            reasons[name] = why
    layers = {name: array for name, array in layers.items() if name not in reasons}
    for name, array in layers.items():
        if twin := _twin(name, array, layers):
            reasons[name] = f"the numbers of `{twin}` in another order"
    layers = {name: array for name, array in layers.items() if name not in reasons}
    biases = {name: _vector(array) for name, array in biases.items() if name not in reasons}
    rest = [name for name in named if name not in {*layers, *biases, *reasons}]
    if not layers:
        raise no_layer(arrays, path)
    _refuse_unnamed(layers, path)
    loose = list[str]()
    for name in rest:
        if _fits(named[name], layers):
            raise _unknown(name, named[name], path)
        loose.append(name)
        reasons[name] = "not known, but of no length that occurs in the network"
    prepared = [name for name, why in reasons.items() if why == _PREPARED]
    ordered = tuple((name, reasons[name]) for name in named if name in reasons)
    return Sorted(layers, biases, ordered, tuple(prepared), tuple(loose), norms)


def _biases(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    return {
        name or path.stem: array
        for name, array in arrays.items()
        if array.dtype.kind in "fiu"
        and array.size
        and sum(axis != 1 for axis in array.shape) <= 1
        and parsed(name, vector=True).role == "bias"
        and not ELSEWHERE.match(name)
    }


def _key(name: str) -> tuple[str | int, ...]:
    return parsed(name, vector=True).key


def _vector(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1)


_PREPARED = "prepares the inputs in front of the network"


def _why_harmless(name: str, array: np.ndarray, form: str) -> str | None:
    """Why the array does not act on what the network makes; None where it may."""
    parts = parsed(name, vector=array.ndim < 2)
    words = {token for token in parts.tokens if isinstance(token, str)}
    if ELSEWHERE.match(name):
        return "a state of training"
    if form == "nnet" and name in NORMALISATION:
        return _PREPARED
    if parts.role:
        return None
    if array.dtype.kind not in "fiubc":
        return "holds no numbers"
    if array.size == 0:
        return "empty"
    if words & RECORDS or {"batches", "tracked"} <= words:
        return "a record of training"
    if array.dtype.kind in "iub" and array.size == 1:
        return "one whole number, a setting"
    if parts.tokens and parts.tokens[0] in PREPARED[0] and words & PREPARED[1]:
        return _PREPARED
    return None


def _twin(name: str, array: np.ndarray, layers: Mapping[str, np.ndarray]) -> str | None:
    """The layer whose numbers these are, stored a second time for another program."""
    stem = COPIES.sub("", name)
    if stem == name or stem not in layers:
        return None
    other = layers[stem]
    axes = list(range(2, other.ndim))
    orders = ([1, 0], [*axes, 1, 0], [*axes, 0, 1], [*reversed(axes), 1, 0], list(range(other.ndim)))
    same = any(len(order) == array.ndim and np.array_equal(other.transpose(order), array) for order in orders)
    return stem if same else None


def _refuse_unnamed(layers: Mapping[str, np.ndarray], path: Path) -> None:
    """Where some arrays are called weights, others are something else."""
    roles = {name: parsed(name).role for name in layers}
    if any(roles.values()) and not all(roles.values()):
        name = next(name for name, role in roles.items() if role is None)
        raise _unknown(name, layers[name], path)


def _fits(array: np.ndarray, layers: Mapping[str, np.ndarray]) -> bool:
    """Whether the array may act on what some layer takes or makes."""
    if array.size == 1 or any(layer.ndim > 2 for layer in layers.values()):
        return True
    sizes = {n for layer in layers.values() for n in (*layer.shape, prod(layer.shape))}
    return array.size in sizes or (array.ndim > 1 and bool(sizes & {n for n in array.shape if n > 1}))


def _unknown(name: str, array: np.ndarray, path: Path) -> InvalidWeight:
    what = f"`{name}` {array.shape} in `{path}`"
    if re.search(r"running_|moving_|(^|[._/])bn\d*[._/]|norm|gamma|beta", name.lower()):
        return InvalidWeight(
            f"{what} is part of a normalisation layer, and the file does not say where it stands. Fold it into the matrices, or"
            " export the network to ONNX; `--layer` names the layers of a network without it."
        )
    return InvalidWeight(
        f"{what} is neither a layer nor the bias of one; it may multiply what the network makes, and the file does not say. Fold"
        f" it into a weight, or export the network to ONNX. If it takes no part: `--ignore {name}`, or `--layer` for what does."
    )
