"""Whatever people hold as a network: a graph, a path, a torch module, matrices as arrays or tensors."""

import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from sdplip.network.graph import Network, Shape
from sdplip.network.read.file import kind_of, read_file
from sdplip.network.read.understood import Understood
from sdplip.shapes import array
from sdplip.weights.weight import Weight

Anything = Any
"""A `Network`, a path, a `torch.nn.Module`, a matrix `(out, in)` or a list of them, first layer first."""


def understand(
    what: Anything, *, input_shape: Shape | None = None, activation: str | None = None
) -> Understood:
    """The network that `what` is.

    Args:
        what: see `Anything`.
        input_shape: of one sample, for modules of images.
        activation: between matrices, "relu" if not said; for matrices and files of bare weights.

    Raises:
        TypeError: something else, or an argument that has no effect on it.
        SdplipError: as the readers.
    """
    module = is_module(what)
    matrices = not module and not isinstance(what, Network | str | os.PathLike)
    if input_shape is not None and not module:
        raise TypeError("`input_shape` is for torch modules; this network says its own. Drop it.")
    if activation is not None and (module or isinstance(what, Network)):
        raise TypeError("`activation` is for matrices and weight files; this network has its own. Drop it.")
    if isinstance(what, Network):
        return Understood(what)
    if module:
        from sdplip.network.read.torch import understand_module

        return understand_module(cast(Any, what), input_shape)
    if not matrices:
        kind = "equilibrium" if activation and kind_of(what) == "equilibrium" else "weights"
        reading = None if activation is None else {"kind": kind, "activation": activation}
        return read_file(what, reading)
    from sdplip.network.read.weights import weights_network

    layers = [what] if isinstance(what, Weight) or _is_array(what, 2) else what
    if not isinstance(layers, Sequence) or not layers or not all(_is_layer(layer) for layer in layers):
        raise TypeError(
            f"`{type(what).__name__}` is no network. Pass a path, a `torch.nn.Module`, a `sdplip.network.Network`, a matrix"
            " (out, in), or a list of matrices, first layer first."
        )
    arrays = [layer if isinstance(layer, Weight) else array(layer) for layer in layers]
    said = () if len(arrays) == 1 else (f"{activation or 'relu'} stands between the matrices.",)
    return Understood(weights_network(arrays, activation or "relu"), sentences=said)


def is_module(what: Any) -> bool:
    """Whether it is a torch module; torch is not loaded for that: who holds a module has done so."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)


def _is_array(value: Any, axes: int) -> bool:
    return hasattr(type(value), "__array__") and np.ndim(value) == axes


def _is_layer(value: Any) -> bool:
    return isinstance(value, Weight) or (hasattr(type(value), "__array__") and 2 <= np.ndim(value) <= 5)
