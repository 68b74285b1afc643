r"""Weights that a scaling divides by, so that their length means nothing: which ones, and a step that keeps it."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import parametrize

from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.manifold import Matrices
from sdplip.nn.rescaled import Rescaled
from sdplip.nn.residual import AbstractResidual


def scaled_layers(module: nn.Module) -> Iterator[tuple[AbstractScaling, nn.Parameter]]:
    """The residual and the rescaled layers in `module`: the scaling of each, and the raw weight that it belongs to."""
    for layer in module.modules():
        if isinstance(layer, AbstractResidual):
            yield layer.scaling, layer.weight
        elif parametrize.is_parametrized(layer, "weight"):
            steps = layer.get_submodule("parametrizations.weight")
            first = steps.get_submodule("0")
            if len(steps) == 1 and isinstance(first, Rescaled):  # pyright: ignore[reportArgumentType]
                yield first.scaling, steps.get_parameter("original")


def scaled_weights(module: nn.Module) -> dict[nn.Parameter, int]:
    """The raw weights in `module` that a scaling divides by, each with its number of groups of channels."""
    return {
        weight: 1 if scaling.geometry is None else scaling.geometry.groups
        for scaling, weight in scaled_layers(module)
    }


def turned(W: Matrices, U: Matrices) -> Matrices:
    r"""$V \lVert W \rVert_F / \lVert V \rVert_F$ with $V = W - \rho\, U$, $\rho$ being the root mean square of the singular values of `W`.

    Zero stays zero: such a weight has no direction to turn from.
    """
    length = torch.linalg.matrix_norm(W, keepdim=True)
    V = W - length / min(W.shape[-2:]) ** 0.5 * U
    return V * (length / torch.linalg.matrix_norm(V, keepdim=True).clamp_min(torch.finfo(V.dtype).tiny))
