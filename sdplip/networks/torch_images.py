"""torch's layers of images as plain data: convolutions, pooling, batch normalisation."""

from math import prod

import numpy as np
import torch
from torch import nn

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.networks.diagonal import batch_norm
from sdplip.networks.trail import Trail

CONVOLUTIONS = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
AVERAGES = {nn.AvgPool1d: 1, nn.AvgPool2d: 2, nn.AvgPool3d: 3}
GLOBAL = {nn.AdaptiveAvgPool1d: 1, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveAvgPool3d: 3}
MAXIMA = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
IMAGES: tuple[type[nn.Module], ...] = (*CONVOLUTIONS, *AVERAGES, *GLOBAL, *MAXIMA, *NORMS)


def append_image_layer(trail: Trail, module: nn.Module, kind: type[nn.Module]) -> bool:
    """Adds the layer; False if it is none of images.

    Raises:
        InvalidWeight: an option that is not covered.
    """
    base = next((known for known in CONVOLUTIONS if kind is known or parametrized(module, known)), None)
    if base is not None:
        _convolution(trail, module)
    elif kind in AVERAGES:
        _average(trail, module, AVERAGES[kind])  # pyright: ignore[reportArgumentType]
    elif kind in GLOBAL:
        if any(n != 1 for n in _axes(module.output_size, GLOBAL[kind])):
            raise InvalidWeight(
                f"`{kind.__name__}` is covered with output size 1 only, but has {module.output_size}."
            )
        trail.average_all(GLOBAL[kind])  # pyright: ignore[reportArgumentType]
    elif kind in MAXIMA:
        _maximum(trail, module, MAXIMA[kind])  # pyright: ignore[reportArgumentType]
    elif isinstance(module, NORMS) and kind in NORMS:
        _batch_norm(trail, module)
    else:
        return False
    return True


def parametrized(module: nn.Module, base: type[nn.Module]) -> bool:
    """Whether it is a `base` whose class torch replaced by `register_parametrization`."""
    return type(module).__name__ == f"Parametrized{base.__name__}" and type(module).__mro__[1] is base


def array(tensor: torch.Tensor) -> np.ndarray:
    """The numbers in double precision on the host."""
    return tensor.detach().to("cpu", torch.float64).numpy()


def _convolution(trail: Trail, module) -> None:
    padding = module.padding
    if padding == "same":
        if any(s != 1 for s in module.stride):
            raise InvalidWeight('Padding "same" with a stride is not covered. Pass the padded pixels.')
        padding = None
    geometry = Geometry(
        stride=tuple(module.stride),
        padding_mode=module.padding_mode,
        padding=0 if padding == "valid" else padding,
        dilation=tuple(module.dilation),
        groups=module.groups,
    )
    trail.convolution(array(module.weight), geometry, None if module.bias is None else array(module.bias))


def _average(trail: Trail, module, axes: int) -> None:
    if module.ceil_mode or not (isinstance(module, nn.AvgPool1d) or module.divisor_override is None):
        raise InvalidWeight("Average pooling with `ceil_mode` or `divisor_override` is not covered.")
    window, stride, padding = (_axes(v, axes) for v in (module.kernel_size, module.stride, module.padding))
    trail.average(window, stride, padding, module.count_include_pad)


def _maximum(trail: Trail, module, axes: int) -> None:
    if module.ceil_mode or module.return_indices or _axes(module.dilation, axes) != (1,) * axes:
        raise InvalidWeight("Maximum pooling with `ceil_mode`, `return_indices` or dilation is not covered.")
    window, stride, padding = (_axes(v, axes) for v in (module.kernel_size, module.stride, module.padding))
    trail.maximum(window, stride, padding)


def _batch_norm(trail: Trail, module: nn.Module) -> None:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)
    mean, variance = module.running_mean, module.running_var
    if module.training or mean is None or variance is None:
        raise InvalidWeight(
            "Batch normalisation in training mode depends on the batch. Call `module.eval()` first."
        )
    if trail.shape is None and not isinstance(module, nn.BatchNorm1d):
        trail.image(2, "Batch normalisation")
    pixels = prod((trail.shape or (1,))[1:])
    ones = torch.ones_like(mean)
    gamma = ones if module.weight is None else module.weight
    beta = 0 * ones if module.bias is None else module.bias
    trail.normalise(batch_norm(array(gamma), array(beta), array(mean), array(variance), module.eps, pixels))


def _axes(value, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)
