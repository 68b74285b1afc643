r"""Constants of margins while training: what the layers aim at, differentiable and cheap. Nothing here is proven."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip import convolution, scalings
from sdplip.nn.containers import BoundedScale, ChannelScale, Residual, Scale
from sdplip.nn.heads import Normalise
from sdplip.nn.manifold import on_manifold
from sdplip.nn.normalisation import ActNorm, BatchLipNorm
from sdplip.nn.pooling import CenterNorm
from sdplip.nn.rescaled import geometry_of
from sdplip.nn.residual import AbstractResidual
from sdplip.training.build import head_distances


def has_head(model: nn.Module) -> bool:
    """Whether the margins have constants of their own: an `nn.Sequential` that ends in a linear layer."""
    return isinstance(model, nn.Sequential) and len(model) > 1 and isinstance(model[-1], nn.Linear)


def aimed_constants(model: nn.Sequential) -> Float[Tensor, "classes classes"]:
    r"""$L \lVert u_i - u_j \rVert_2$ for the rows $u_i$ of the head, with $L$ the product of what the layers before it aim at.

    For losses and for monitoring; `sdplip.nn.pairwise_lipschitz` proves. 0 on the diagonal, where it has no gradient.
    """
    lengths = head_distances(model)
    L = lengths.new_ones(())
    for module in list(model)[:-1]:
        L = L * aimed(module)
    return L * lengths


def aimed(module: nn.Module) -> Tensor | float:
    """The constant that a module is built to have: 1 if nothing says otherwise."""
    if isinstance(module, AbstractResidual):
        return module.L
    if isinstance(module, Normalise):
        return module.inverse_std.max()
    if isinstance(module, nn.Sequential):
        return math.prod(aimed(part) for part in module)
    if isinstance(module, Scale):
        return abs(module.factor)
    if on_manifold(module):
        return 1.0
    if isinstance(module, BoundedScale):
        return abs(module.factor())
    if isinstance(module, ChannelScale):
        return abs(module.factors).max()
    if isinstance(module, BatchLipNorm):
        return module.scale()
    if isinstance(module, CenterNorm | ActNorm):
        return abs(module.scale()).max()
    if isinstance(module, Residual):
        return _norm(module.branch, skip=1.0)
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) and not parametrize.is_parametrized(
        module
    ):
        return _norm(module, skip=0.0)
    return 1.0


def _norm(layer: nn.Module, *, skip: float) -> Tensor | float:
    """Norm of `skip` times the identity plus a layer, from above."""
    if isinstance(layer, nn.Linear):
        eye = torch.eye(*layer.weight.shape, dtype=layer.weight.dtype, device=layer.weight.device)
        return scalings.spectral(layer.weight + skip * eye).max().sqrt()
    if not isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return skip + aimed(layer)
    K = layer.weight
    if skip:
        middle = torch.zeros_like(K)
        middle[:, :, *(k // 2 for k in K.shape[2:])] = torch.eye(*K.shape[:2], dtype=K.dtype, device=K.device)
        K = K + skip * middle
    geometry, form = geometry_of(layer)
    assert geometry is not None
    return convolution.spectral(K, geometry, form=form, iterations=5, samples=8).max().sqrt()
