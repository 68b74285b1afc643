r"""The `t` of equal blocks of a network, computed at once: one set of kernels for all of them instead of one a block."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip.nn.rescaled import Rescaled
from sdplip.nn.residual import AbstractResidual
from sdplip.nn.scaling import AbstractScaling, precision

Layer = tuple[AbstractScaling, Tensor]
"""A scaling, and the weight that it belongs to."""


@contextmanager
def together(model: nn.Module) -> Iterator[None]:
    r"""A block in which the `t` of equal convolutions of `model` are computed at once, as groups of one convolution::

        with together(model):
            loss = criterion(model(x), y)
        loss.backward()

    For training: a network of equal blocks then launches the kernels of one. Kernels of the same shape, geometry and scaling are laid
    side by side; dense layers, layers in eval mode, and scalings that are computed now and then (`refresh_every`) are left alone. The
    numbers are those of every layer by itself up to the order of sums. In eval mode, whose numbers are what is proven, nothing changes.
    The parameters must not change within the block.
    """
    equal: dict[tuple, list[Layer]] = {}
    for scaling, weight in _layers(model):
        key = (type(scaling), scaling.options(), scaling.geometry, scaling.form, weight.shape, weight.dtype)
        equal.setdefault((*key, weight.device), []).append((scaling, weight))
    several = [layers for layers in equal.values() if len(layers) > 1]
    try:
        for layers in several:
            _give(layers)
        yield
    finally:
        for layers in several:
            for scaling, _ in layers:
                scaling.given = None


def _layers(model: nn.Module) -> Iterator[Layer]:
    """The scalings of convolutions that may be computed with others."""
    for layer in model.modules():
        if isinstance(layer, AbstractResidual):
            found = layer.scaling, layer.weight
        elif parametrize.is_parametrized(layer, "weight"):
            steps = layer.get_submodule("parametrizations.weight")
            first = steps.get_submodule("0")
            if len(steps) > 1 or not isinstance(first, Rescaled):  # pyright: ignore[reportArgumentType]
                continue
            found = first.scaling, steps.get_parameter("original")
        else:
            continue
        scaling = found[0]
        free = scaling.training and scaling.refresh_every == 1
        if free and scaling.geometry is not None and scaling.options() is not None:
            yield found


def _give(layers: list[Layer]) -> None:
    """Compute the `t` of equal layers, and tell each its own."""
    scalings, weights = zip(*layers, strict=True)
    first, weight = layers[0]
    assert first.geometry is not None
    geometry = replace(first.geometry, groups=len(layers) * first.geometry.groups)
    with torch.autocast(weight.device.type, enabled=False):
        K = torch.cat([K.to(precision(K)) for K in weights])
        t = first.convolutions(K, geometry, scalings)
    for scaling, weight, own in zip(scalings, weights, t.chunk(len(layers)), strict=True):
        scaling.given = weight, own
