"""Imported layers as modules of ours."""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.importers.fixed import Fixed
from sdplip.importers.layer import Imported
from sdplip.nn.activations import GroupSort
from sdplip.nn.containers import Scale
from sdplip.nn.residual import AbstractResidual, ResidualConv2d, ResidualLinear

Filled = TypeVar("Filled", bound=nn.Module)


def module_of(layer: Imported) -> nn.Module:
    """The layer in the dtype of its arrays."""
    with torch.no_grad():
        return _linear(layer) if layer.t is None else _residual(layer)


def max_min() -> nn.Module:
    """Neighbouring channels in pairs, the larger one first: 1LLC's order. `GroupSort` has the smaller one first."""
    return nn.Sequential(Scale(-1.0), GroupSort(2), Scale(-1.0))


def _residual(layer: Imported) -> AbstractResidual:
    hidden, features, *taps = layer.weight.array.shape
    assert layer.t is not None, "only residual layers come here"
    bias, t = layer.bias is not None, Fixed(tensor_of(layer.t))
    if taps:
        return _filled(ResidualConv2d(features, hidden, tuple(taps), t, bias=bias), layer)
    return _filled(ResidualLinear(features, hidden, t, bias=bias), layer)


def _linear(layer: Imported) -> nn.Module:
    out, inputs, *taps = layer.weight.array.shape
    bias = layer.bias is not None
    if not taps:
        return _filled(nn.Linear(inputs, out, bias), layer)
    mode = "circular" if layer.circular else "zeros"
    return _filled(nn.Conv2d(inputs, out, tuple(taps), padding="same", bias=bias, padding_mode=mode), layer)


def _filled(module: Filled, layer: Imported) -> Filled:
    """The module with the numbers of the layer, which are copied."""
    numbers = {"weight": tensor_of(layer.weight.array)}
    module.to(numbers["weight"].dtype)
    if layer.bias is not None:
        numbers["bias"] = tensor_of(layer.bias)
    for name, values in numbers.items():
        module.get_parameter(name).copy_(values)
    return module


def tensor_of(array: np.ndarray) -> Tensor:
    """A copy, half precision widened: `t` would overflow in it."""
    tensor = torch.from_numpy(array.copy())
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
