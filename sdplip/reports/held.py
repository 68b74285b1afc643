"""The layers that `check` and `compare` are asked about, out of whatever people hold."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from sdplip.geometry import Geometry
from sdplip.network.read.anything import Anything, is_module
from sdplip.shapes import array
from sdplip.weights import Weight


def weights_of(layers: Anything) -> list[Weight]:
    """The weights that `check` and `compare` are asked about.

    Raises:
        TypeError: none.
    """
    if isinstance(layers, str | os.PathLike):
        from sdplip.weights.read import read

        return list(read(layers))
    if is_module(layers):
        return _effective(layers)
    if isinstance(layers, Weight) or (hasattr(type(layers), "__array__") and np.ndim(layers) > 1):
        layers = [layers]
    if isinstance(layers, Iterable) and not isinstance(layers, bytes):
        found = [
            w if isinstance(w, Weight) else Weight(f"layer {k}", array(w))
            for k, w in enumerate(_listed(layers))
        ]
        if found and all(2 <= w.array.ndim <= 5 and w.array.dtype.kind in "fiu" for w in found):
            return found
    raise TypeError(
        f"`{type(layers).__name__}` holds no layers. Pass a path, a matrix (out, in) or kernel (out, in / groups, *taps), a list"
        " of them, or a module."
    )


def _listed(layers: Iterable[Any]) -> list[Any]:
    found = list(layers)
    if all(isinstance(w, Weight) or hasattr(type(w), "__array__") for w in found):
        return found
    raise TypeError("A list of layers must hold arrays, tensors or weights of `sdplip.read`.")


def _effective(module: Any) -> list[Weight]:
    """Linear layers and convolutions of a module with the numbers that run, and how its kernels move."""
    import torch
    from torch import nn

    found = list[Weight]()
    with torch.no_grad():
        for name, part in module.named_modules():
            if isinstance(part, nn.Linear):
                found.append(Weight(name or "weight", array(part.weight)))
            elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                same = isinstance(part.padding, str)
                padding = (None if part.padding == "same" else 0) if same else tuple(map(int, part.padding))
                mode = "circular" if part.padding_mode == "circular" else part.padding_mode
                geometry = Geometry(tuple(part.stride), mode, padding, tuple(part.dilation), part.groups)
                found.append(Weight(name or "weight", array(part.weight), geometry))
    if not found:
        raise TypeError(
            f"`{type(module).__name__}` holds no linear layer and no convolution. Ask `sdplip.lipschitz` about it."
        )
    return found
