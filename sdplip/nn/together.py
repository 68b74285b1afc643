r"""The `t` of equal blocks of a network, computed at once: one set of kernels for all of them instead of one a block."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from sdplip.nn.abstract_scaling import AbstractScaling, precision
from sdplip.nn.scaled import scaled_layers

Layer = tuple[AbstractScaling, Tensor]
"""A scaling, and the weight that it belongs to."""

MOST = 2**16
"""Numbers of a matrix up to which a CPU gains by many at once: laying larger ones side by side costs more than it saves."""


@contextmanager
def together(model: nn.Module) -> Iterator[None]:
    r"""A block in which the `t` of equal layers of `model` are computed at once, convolutions as groups of one, matrices as a batch::

        with together(model):
            loss = criterion(model(x), y)
        loss.backward()

    For training: a network of equal blocks then launches the kernels of one. Weights of the same shape, geometry and scaling are laid
    side by side; left alone are large matrices on a CPU, layers in eval mode, and scalings that are computed now and then (`refresh_every`).
    The numbers are those of every layer by itself up to the order of sums. In eval mode, whose numbers are what is proven, nothing changes.
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
    """The scalings that may be computed with others."""
    for scaling, weight in scaled_layers(model):
        free = scaling.training and scaling.refresh_every == 1
        if scaling.geometry is None and weight.device.type == "cpu" and weight.numel() > MOST:
            continue
        if free and scaling.options() is not None:
            yield scaling, weight


def _give(layers: list[Layer]) -> None:
    """Compute the `t` of equal layers, and tell each its own."""
    scalings, weights = zip(*layers, strict=True)
    with torch.autocast(weights[0].device.type, enabled=False):
        t = _at_once(scalings, [weight.to(precision(weight)) for weight in weights])
    for scaling, weight, own in zip(scalings, weights, t, strict=True):
        scaling.given = weight, own


def _at_once(scalings: Sequence[AbstractScaling], weights: Sequence[Tensor]) -> Sequence[Tensor]:
    """The `t` of equal layers."""
    first = scalings[0]
    if first.geometry is None:
        W = torch.stack([*weights])
        return first.matrices(W.mT if first.form == "residual" else W, scalings).unbind()
    geometry = replace(first.geometry, groups=len(scalings) * first.geometry.groups)
    return first.convolutions(torch.cat([*weights]), geometry, scalings).chunk(len(scalings))
