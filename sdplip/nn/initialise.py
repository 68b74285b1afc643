r"""Initial weights with which deep networks of rescaled and residual layers pass signals on."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.rescaled import Rescaled
from sdplip.nn.residual import AbstractResidual

SPREAD = 0.1
"""Standard deviation of the biases that tell equal hidden units apart."""


@torch.no_grad()
def initialise(module: nn.Module, *, generator: torch.Generator | None = None) -> nn.Module:
    r"""The module itself, with every rescaled and residual layer in it started tight: $W T^{-1} W^\top = I$ or $W^\top W = T$.

    Why: iid weights make $T$ far larger than $W^\top W$, so a rescaled layer shrinks signals, by a factor that no variance of the
    weights changes (Juston et al. 2025). A normal bias, their remedy, keeps the activations alive, but not what they know
    of the input: its share falls below 1e-15 in 50 layers (`examples/activation_variance.py`). A tight start makes every
    rescaled layer an isometry or its adjoint and every residual layer a map whose Jacobian is nearly orthogonal. Put MaxMin
    rather than ReLU between rescaled layers: ReLU drops half of the signal whatever the weight.

    Matrices start orthogonal; where they are too wide for that, columns repeat (with random signs in rescaled layers; in
    residual layers with small normal biases, which tell equal units apart). Kernels start as such a matrix at their middle tap.
    Other biases become 0, and $q = 1$.
    """
    for layer in module.modules():
        if isinstance(layer, AbstractResidual):
            wide = _start(layer.weight, layer.scaling, signs=False, generator=generator)
            _zero(layer.bias)
            if wide and layer.bias is not None:
                layer.bias.normal_(0, SPREAD, generator=generator)
        elif parametrize.is_parametrized(layer, "weight"):
            steps = layer.get_submodule("parametrizations.weight")
            step = steps.get_submodule("0")
            if isinstance(step, Rescaled):
                _start(steps.get_parameter("original"), step.scaling, signs=True, generator=generator)
                _zero(dict(layer.named_parameters(recurse=False)).get("bias"))
    return module


def tight(
    rows: int, n: int, *, signs: bool, like: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "rows n"]:
    r"""Matrix with orthonormal columns; if `n > rows`, the columns of an orthogonal one in turn, over the roots of their counts.

    In the second case $|G|$ consists of blocks of equal entries that sum to 1 in each row: $T = I$ and $W W^\top = I$.
    """
    Q = nn.init.orthogonal_(like.new_empty(rows, min(rows, n)), generator=generator)
    which = torch.arange(n, device=like.device) % Q.shape[1]
    W = Q[:, which] / torch.bincount(which)[which].to(like.dtype).sqrt()
    return W * (2 * torch.randint(0, 2, (n,), generator=generator, device=like.device) - 1) if signs else W


def _start(
    weight: Tensor, scaling: AbstractScaling, *, signs: bool, generator: torch.Generator | None
) -> bool:
    """Write the initial weight; whether columns had to be repeated."""
    geometry, on_rows = scaling.geometry, scaling.form == "residual"
    blocks = weight.new_zeros(weight.shape).unflatten(0, (1 if geometry is None else geometry.groups, -1))
    middle = tuple(k // 2 for k in weight.shape[2:])
    first, second = blocks.shape[1:3]
    rows, n = (second, first) if on_rows else (first, second)
    for block in blocks:
        W = tight(rows, n, signs=signs, like=weight, generator=generator)
        block[(slice(None), slice(None), *middle)] = W.mT if on_rows else W
    weight.copy_(blocks.flatten(0, 1))
    for parameter in scaling.parameters():
        parameter.zero_()
    return n > rows


def _zero(bias: Tensor | None) -> None:
    if bias is not None:
        bias.zero_()
