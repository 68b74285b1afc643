"""Files of equilibrium networks: arrays called W, U, G, and D, b, b_y where there are such, in any format of named arrays."""

from os import PathLike
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.implicit import equilibrium_network
from sdplip.network.operators import Activation
from sdplip.network.read.understood import Understood
from sdplip.network.read.weights.between import between
from sdplip.stored import widened
from sdplip.weights.read import ARRAYS
from sdplip.weights.sniff import sniff

NEEDED = frozenset({"W", "U", "G"})
KNOWN = NEEDED | {"D", "b", "b_y"}
"""The names of arrays: z = activation(W z + U x + b), f(x) = G z + D x + b_y."""
FORMATS = frozenset({"npz", "safetensors", "mat"})
"""Formats whose arrays have names, which may be these."""


def holds_equilibrium(path: str | PathLike[str], form: str) -> bool:
    """Whether the arrays of the file are called like those of an equilibrium network, W square among them."""
    if form not in FORMATS:
        return False
    arrays = ARRAYS[form](Path(path))
    W = arrays.get("W")
    return set(arrays) >= NEEDED and set(arrays) <= KNOWN and W is not None and W.ndim == 2


def read_equilibrium(path: str | PathLike[str], activation: str | None = None) -> Understood:
    """The network of a file of the arrays `KNOWN`.

    Args:
        path: a .npz, .safetensors or .mat file.
        activation: by its name, such as tanh or leaky_relu:0.1; None is relu.

    Raises:
        UnreadableFile: missing, damaged, or in need of unpickling.
        InvalidWeight: arrays that are missing, are no numbers, do not fit each other; an activation that does not fit.
    """
    path = Path(path)
    form = sniff(path)
    arrays = ARRAYS[form](path) if form in FORMATS else {}
    if not NEEDED <= set(arrays) <= KNOWN:
        raise InvalidWeight(
            f"`{path}` is no file of an equilibrium network: that holds arrays W, U, G, and D, b, b_y where there are such."
        )
    found = {name: _real(name, array, path) for name, array in arrays.items()}
    vectors = {
        name: found[name].reshape(-1) if 1 in found[name].shape else found[name]
        for name in found
        if name in ("b", "b_y")
    }
    h = len(found["W"])
    op = between(activation or "relu", (h,))
    if not isinstance(op, Activation):
        raise InvalidWeight(
            f"`{activation}` is no elementwise function, which the activation of an equilibrium must be. Use relu, tanh or sigmoid."
        )
    network = equilibrium_network(
        found["W"], found["U"], found["G"], D=found.get("D"), **vectors, activation=op
    )
    said = "as was said" if activation else "which is assumed"
    names = ", ".join(f"`{name}`" for name in ("W", "U", "G", "D", "b", "b_y") if name in found)
    sentences = (
        f"{names} are read as the equilibrium network z = {activation or 'relu'}(W z + U x + b), f(x) = G z + D x + b_y; what is"
        " missing is 0. That there is exactly one z for every x is proven with every bound.",
        f"{activation or 'relu'} is the activation, {said}.",
    )
    return Understood(network, {} if activation is None else {"activation": activation}, sentences)


def _real(name: str, array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiu" or not array.size or not np.isfinite(array).all():
        raise InvalidWeight(
            f"`{name}` in `{path}` must hold finite real numbers. Repair it, or save it again as float64."
        )
    return widened(array) if array.dtype.kind == "f" else array.astype(np.float64)
