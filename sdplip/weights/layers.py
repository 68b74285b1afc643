"""Which arrays of a file are layers, for the formats that hold named arrays and nothing else."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight, UnknownLayer, UnreadableFile
from sdplip.geometry import Geometry
from sdplip.weights.weight import Weight, checked

WEIGHT = {"weight", "weights", "kernel", "kernels", "w", "ws", "iw", "lw"}
BIAS = {"bias", "biases"}
VECTOR = BIAS | {
    "b",
    "t",
    "q",
    "mean",
    "means",
    "var",
    "variance",
    "std",
    "scale",
    "scales",
    "shift",
    "offset",
}
VECTOR |= {"loss", "accuracy", "history", "metadata", "label", "labels", "beta", "gamma"}


def layers(arrays: Mapping[str, np.ndarray], path: Path, *, transpose: bool) -> tuple[Weight, ...]:
    """The matrices and kernels among `arrays`, in their order; biases and other vectors are left out.

    Whole numbers are tables beside floating-point arrays, and a layer where a file holds nothing else. An array without a
    name is named after the file.

    Args:
        arrays: what the file holds, by name.
        path: the file, for messages.
        transpose: the file stores `(in, out)` and `(*taps, in, out)`, as Keras and MATLAB exports do.

    Raises:
        UnreadableFile: no array at all.
        InvalidWeight: no layer among the arrays, or a layer that cannot be certified.
    """
    _refuse_raw_parameters(arrays, path)
    candidates = {
        name: array
        for name, array in arrays.items()
        if 2 <= array.ndim <= 5 and array.dtype.kind in "fciu" and not is_vector(name, array.shape)
    }
    floating = {name: array for name, array in candidates.items() if array.dtype.kind in "fc"}
    if any(array.dtype.kind in "fc" for array in arrays.values()):
        _refuse_quantised(candidates, path)
    chosen = floating or candidates
    if not chosen:
        raise _no_layer(arrays, path)
    return tuple(_layer(name or path.stem, array, path, transpose) for name, array in chosen.items())


def is_vector(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the array is a bias, a statistic or a setting: by its name, where its shape allows both."""
    words = _words(name)
    if words and words[-1] in BIAS:
        return True
    if not name or sum(axis != 1 for axis in shape) > 1 or says_weight(name):
        return False
    return bool(VECTOR & set(words)) or all(axis == 1 for axis in shape)


def says_weight(name: str) -> bool:
    """Whether the name claims a weight, as `fc1.weight`, `W2` and `weights[0]` do and `weight_scale` does not."""
    words = _words(name)
    return bool(WEIGHT & set(words)) and words[-1] not in VECTOR


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name)]


def select(weights: Iterable[Weight], names: Iterable[str]) -> tuple[Weight, ...]:
    """The layers called `names`, in that order.

    Raises:
        UnknownLayer: a name that no layer has; the message lists what there is, the nearest name first.
    """
    by_name = {weight.name: weight for weight in weights}
    for name in names:
        if name not in by_name:
            nearest = sorted(by_name, key=lambda known: -difflib.SequenceMatcher(a=name, b=known).ratio())
            more = f" and {len(nearest) - 12} more" if len(nearest) > 12 else ""
            raise UnknownLayer(
                f"There is no layer `{name}`. The file holds {', '.join(f'`{known}`' for known in nearest[:12])}{more}."
            )
    return tuple(by_name[name] for name in dict.fromkeys(names))


def _layer(name: str, array: np.ndarray, path: Path, transpose: bool) -> Weight:
    array = checked(name, array, path)
    if transpose:  # (in, out) -> (out, in) and (*taps, in, out) -> (out, in, *taps)
        array = array.transpose(-1, -2, *range(array.ndim - 2))
    return Weight(name, array, Geometry() if array.ndim > 2 else None)


def _no_layer(arrays: Mapping[str, np.ndarray], path: Path) -> Exception:
    if not arrays:
        return UnreadableFile(f"`{path}` holds no array of numbers. Save the weights of the network into it.")
    held = [f"`{name or path.stem}` {array.shape} {array.dtype}" for name, array in arrays.items()]
    more = f" and {len(held) - 5} more" if len(held) > 5 else ""
    return InvalidWeight(
        f"`{path}` holds no layer, which is a matrix (out, in) or a kernel of 3 to 5 axes, but only"
        f" {', '.join(held[:5])}{more}. Save the weight, in its own shape, under a name such as `fc1.weight`."
    )


def _refuse_raw_parameters(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    for name in arrays:
        stem = name.removesuffix("_g") if f"{name.removesuffix('_g')}_v" in arrays else ""
        if (
            re.search(r"(^|\.)parametrizations\.", name)
            or name.endswith("weight_orig")
            or stem.endswith("weight")
        ):
            raise InvalidWeight(
                f"`{name}` in `{path}` is the raw parameter of a parametrization (weight norm, spectral norm, ...), not the"
                " weight that the layer applies. Call `remove_parametrizations` on the layers before saving."
            )


def _refuse_quantised(candidates: Mapping[str, np.ndarray], path: Path) -> None:
    for name, array in candidates.items():
        if array.dtype in (np.int8, np.uint8) and says_weight(name):
            raise InvalidWeight(
                f"`{name}` in `{path}` has type {array.dtype}, a quantised weight without its scale."
                " Dequantise it, and save it as float32."
            )
