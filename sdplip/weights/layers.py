"""Which arrays of a file are layers, for the formats that hold named arrays and nothing else."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight, UnknownLayer, UnreadableFile
from sdplip.geometry import Geometry
from sdplip.weights.names import is_vector, says_kernel, says_weight
from sdplip.weights.weight import Weight, checked

ELSEWHERE = re.compile(r"^(optim|sched|lr_sched)")
"""States of optimizers and schedulers beside the weights of a checkpoint."""


def layers(
    arrays: Mapping[str, np.ndarray],
    path: Path,
    *,
    transpose: bool | None = None,
    only: Sequence[str] = (),
) -> tuple[Weight, ...]:
    """The matrices and kernels among `arrays`, in their order; biases and other vectors are left out.

    Whole numbers are tables beside floating-point arrays, and a layer where a file holds nothing else; so are arrays of zeros
    that are not called a weight (masks) beside others. An array without a name is named after the file.

    Args:
        arrays: what the file holds, by name.
        path: the file, for messages.
        transpose: whether the file stores `(in, out)` and `(*taps, in, out)`; None is what names say, which is so of `kernel`,
            as Keras and Flax call it, and not of others.
        only: the layers that are wanted, in this order; () is all. What is wrong with others does not matter then.

    Raises:
        UnreadableFile: no array at all.
        InvalidWeight: no layer among the arrays, or a layer that cannot be certified.
        UnknownLayer: `only` names what is no layer.
    """
    chosen = candidates(arrays, path)
    if only:
        chosen = {name: chosen[name] for name in known_names(only, list(chosen))}
    if not chosen:
        raise no_layer(arrays, path)
    if transpose is None and "" in arrays:
        transpose = False  # the name is that of the file
    return tuple(_layer(name, array, path, transpose) for name, array in chosen.items())


def candidates(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The arrays that `layers` takes for layers, as they are stored, by the names that it gives them."""
    _refuse_raw_parameters(arrays, path)
    _refuse_images(arrays, path)
    wide = {
        name: array
        for name, array in arrays.items()
        if 2 <= array.ndim <= 5
        and array.dtype.kind in "fciu"
        and not is_vector(name, array.shape)
        and not ELSEWHERE.match(name)
    }
    floating = {name: array for name, array in wide.items() if array.dtype.kind in "fc"}
    if any(array.dtype.kind in "fc" and array.ndim for array in arrays.values()):
        _refuse_quantised(wide, path)
    chosen = floating or wide
    filled = {name: array for name, array in chosen.items() if says_weight(name) or array.any()}
    return {name or path.stem: array for name, array in (filled or chosen).items()}


def select(weights: Iterable[Weight], names: Iterable[str]) -> tuple[Weight, ...]:
    """The layers called `names`, in that order.

    Raises:
        UnknownLayer: a name that no layer has; the message lists what there is, the nearest name first.
    """
    by_name = {weight.name: weight for weight in weights}
    return tuple(by_name[name] for name in known_names(names, list(by_name)))


def known_names(names: Iterable[str], known: Sequence[str]) -> list[str]:
    """`names`, each once, if all are among `known`.

    Raises:
        UnknownLayer: a name that is not; the message lists what there is, the nearest name first.
    """
    for name in names:
        if name not in known:
            nearest = sorted(known, key=lambda k: -difflib.SequenceMatcher(a=name, b=k).ratio())
            more = f" and {len(nearest) - 12} more" if len(nearest) > 12 else ""
            raise UnknownLayer(
                f"There is no layer `{name}`. The file holds {', '.join(f'`{k}`' for k in nearest[:12])}{more}."
            )
    return list(dict.fromkeys(names))


def upright(name: str, array: np.ndarray, transpose: bool | None) -> np.ndarray:
    """`(out, in)` and `(out, in, *taps)` of what is stored so, or the other way round."""
    if says_kernel(name) if transpose is None else transpose:
        return array.transpose(-1, -2, *range(array.ndim - 2))
    return array


def _layer(name: str, array: np.ndarray, path: Path, transpose: bool | None) -> Weight:
    array = upright(name, checked(name, array, path), transpose)
    return Weight(name, array, Geometry() if array.ndim > 2 else None)


def no_layer(arrays: Mapping[str, np.ndarray], path: Path) -> Exception:
    """What to raise where a file holds no layer."""
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


def _refuse_images(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    for name, array in arrays.items():
        if array.dtype == np.uint8 and array.ndim > 2 and re.search(r"(^|_)(images|x)($|_)", name.lower()):
            raise InvalidWeight(
                f"`{name}` in `{path}` is {len(array)} images in bytes: this is a data set, not a network. Pass the weights; data go"
                " to `--data` of `sdplip train` and `certify`."
            )


def _refuse_quantised(candidates: Mapping[str, np.ndarray], path: Path) -> None:
    for name, array in candidates.items():
        if array.dtype in (np.int8, np.uint8) and says_weight(name):
            raise InvalidWeight(
                f"`{name}` in `{path}` has type {array.dtype}, a quantised weight without its scale."
                " Dequantise it, and save it as float32."
            )
