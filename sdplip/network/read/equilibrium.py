"""Files of equilibrium networks: arrays called W, U, G, and D, b, b_y where there are such, or the state dict of a published monDEQ."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.network.implicit import equilibrium_network, monotone_weight
from sdplip.network.operators import Activation
from sdplip.network.read.understood import Understood
from sdplip.network.read.weights.between import between
from sdplip.stored import widened
from sdplip.weights.read import ARRAYS
from sdplip.weights.sniff import sniff

NEEDED = frozenset({"W", "U", "G"})
KNOWN = NEEDED | {"D", "b", "b_y"}
"""The names of arrays: z = activation(W z + U x + b), f(x) = G z + D x + b_y."""
FORMATS = frozenset({"npz", "safetensors", "mat", "torch"})
"""Formats whose arrays have names, which may be these."""
INNER = "mon.linear_module."
MONDEQ = frozenset(
    {f"{INNER}{name}.weight" for name in "UAB"} | {f"{INNER}U.bias", "Wout.weight", "Wout.bias"}
)
"""Names in the state dict of `SingleFcNet` (Winston and Kolter, NeurIPS 2020, code monotone_op_net, 2d1de6b)."""
M = 0.1
"""Of that network, where its script is not told otherwise; the state dict does not keep it."""


def holds_equilibrium(path: str | PathLike[str], form: str) -> bool:
    """Whether the arrays of the file are called like those of an equilibrium network, W square among them, or of a monDEQ."""
    if form not in FORMATS:
        return False
    arrays = ARRAYS[form](Path(path))
    if any(name.startswith(INNER) for name in arrays):
        return True
    W = arrays.get("W")
    return set(arrays) >= NEEDED and set(arrays) <= KNOWN and W is not None and W.ndim == 2


def read_equilibrium(path: str | PathLike[str], activation: str | None = None) -> Understood:
    """The network of a file of the arrays `KNOWN` or `MONDEQ`.

    Args:
        path: a .npz, .safetensors, .mat or torch file.
        activation: by its name, such as tanh or leaky_relu:0.1; None is relu.

    Raises:
        UnreadableFile: missing, damaged, or in need of unpickling.
        InvalidWeight: arrays that are missing, are no numbers, do not fit each other; an activation that does not fit.
    """
    path = Path(path)
    form = sniff(path)
    arrays = ARRAYS[form](path) if form in FORMATS else {}
    published = any(name.startswith(INNER) for name in arrays)
    if published:
        arrays = _mondeq(arrays, path)
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
        *((SAID,) if published else ()),
        f"{names} are read as the equilibrium network z = {activation or 'relu'}(W z + U x + b), f(x) = G z + D x + b_y; what is"
        " missing is 0. That there is exactly one z for every x is proven with every bound.",
        f"{activation or 'relu'} is the activation, {said}.",
    )
    return Understood(network, {} if activation is None else {"activation": activation}, sentences)


SAID = (
    f"The file is the state dict of a monDEQ (`SingleFcNet` of monotone_op_net): W = (1 - m) I - A'A + B - B' with m = {M}, the default"
    " of its script, computed in double precision. The file does not say m: of another network store W, U, G, b, b_y yourself."
)


def _mondeq(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The arrays `KNOWN` of a monDEQ with one dense layer.

    Raises:
        InvalidWeight: a network with convolutions, or one that lacks arrays or has others; shapes that do not fit.
    """
    if set(arrays) != MONDEQ or any(arrays[name].ndim != 2 for name in MONDEQ if name.endswith("weight")):
        raise InvalidWeight(
            f"`{path}` holds a monDEQ, but not the dense one (`SingleFcNet`): convolutions that solve an equation are not read, and its"
            f" arrays must be {', '.join(sorted(MONDEQ))}. Store W, U, G of a small network as matrices."
        )
    A, B, U = (_real(name, arrays[f"{INNER}{name}.weight"], path) for name in "ABU")
    if not A.shape == B.shape == (len(U), len(U)):
        raise InvalidWeight(
            f"`A`, `B` of the monDEQ in `{path}` must be {len(U)} x {len(U)}, but are {A.shape}, {B.shape}. Save it again."
        )
    outer = {"G": arrays["Wout.weight"], "b_y": arrays["Wout.bias"]}
    return {"W": monotone_weight(A, B, M), "U": U, "b": arrays[f"{INNER}U.bias"], **outer}


def _real(name: str, array: np.ndarray, path: Path) -> np.ndarray:
    if array.dtype.kind not in "fiu" or not array.size or not np.isfinite(array).all():
        raise InvalidWeight(
            f"`{name}` in `{path}` must hold finite real numbers. Repair it, or save it again as float64."
        )
    return widened(array) if array.dtype.kind == "f" else array.astype(np.float64)
