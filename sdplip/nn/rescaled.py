r"""Statement 1: any linear layer of torch rescaled to be 1-Lipschitz (SLL, Theorem 1.1).

`rescaled(layer, "aol")` registers the weight $W T^{-1/2}$ on a layer of torch.
"""

from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip.condition import rescale
from sdplip.convolution import Form
from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.nn.abstract_scaling import AbstractScaling, Weight
from sdplip.nn.memo import Memo
from sdplip.nn.scaling import as_scaling


class Rescaled(nn.Module):
    r"""Parametrization $W \mapsto W T^{-1/2}$ of the weight of a linear layer or (transposed) convolution.

    `forward(weight)` is what the layer runs with, in the dtype of the raw weight. In eval mode it is computed once.

    `right_inverse` serves assignments `layer.weight = W`: the layer then runs with $W / \sqrt{\rho}$, where $\rho \ge
    \lVert W \rVert_2^2$ is the spectral radius of $|W^\top W|$ ("aol", "sll"; within each irreducible block), or the bound of the
    squared norm ("spectral"); with multi-step scalings it runs with $W T(W)^{-1/2}$. Hence every weight that "aol" or "sll" can
    produce is reproduced (it has $\rho = 1$), every weight of norm 1 by "spectral" up to its slack, and every matrix with
    orthonormal columns by all of them. A weight of smaller norm cannot be reached: this family is scaled up to its bound.

    Attributes:
        scaling: the scaling; `scaling(weight)` is the `t` of the raw weight.
    """

    def __init__(self, scaling: AbstractScaling) -> None:
        super().__init__()
        self.scaling = scaling
        self._memo = Memo()

    def forward(self, weight: Weight) -> Weight:
        if self.training or torch.compiler.is_compiling():
            return self._rescale(weight, self.scaling(weight))
        return self._memo(self.now, weight, *self.parameters())

    @torch.no_grad()
    def right_inverse(self, weight: Weight) -> Weight:
        return self._rescale(weight, self.scaling.gauge(weight) ** -2)

    def now(self, weight: Weight, *_: Tensor) -> Weight:
        """The weight of the raw one as it stands."""
        return self._rescale(weight, self.scaling.compute(weight))

    def _rescale(self, weight: Weight, t: Float[Tensor, " n"]) -> Weight:
        with torch.autocast(weight.device.type, enabled=False):
            W = weight.to(t.dtype)
            return rescale_weight(W, t, self.scaling.geometry, self.scaling.form).to(weight.dtype)

    def train(self, mode: bool = True) -> "Rescaled":
        self._memo.drop()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> "Rescaled":
        self._memo.drop()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._memo.drop()
        super()._load_from_state_dict(*args, **kwargs)


Layer = TypeVar("Layer", bound=nn.Module)


def rescaled(
    layer: Layer, scaling: str | AbstractScaling = "aol", *, image_size: tuple[int, ...] | None = None
) -> Layer:
    r"""The layer itself, its weight now parametrized as $W T^{-1/2}$: 1-Lipschitz, whatever the raw weight becomes in training.

    Works on `nn.Linear`, `nn.Conv1d/2d/3d` (zero or circular padding, any stride, dilation, groups),
    `nn.ConvTranspose1d/2d/3d`, with the conventions of `torch.nn.utils.parametrize`: `layer.weight` is the rescaled weight,
    `layer.parametrizations.weight.original` the raw one, `layer.parametrizations.weight[0].scaling` the scaling.

    Args:
        layer: a layer of torch, of exactly that class.
        scaling: "spectral", "aol", "sll", "multi_step", or a scaling with options.
        image_size: height, width, ... of the images of a convolution, if all alike: "spectral" is then exact, and on small
            images ten times faster. `lipschitz` proves the bound for the images that it is told of, whatever stands here.

    Raises:
        UnsupportedConvolution: reflect or replicate padding, or another geometry that no theorem covers, or another class.
    """
    geometry, form = geometry_of(layer)
    if geometry is not None:
        geometry = replace(geometry, image_size=image_size)
    scaling = as_scaling(scaling)
    scaling.bind(layer.get_parameter("weight"), geometry, form)
    parametrize.register_parametrization(layer, "weight", Rescaled(scaling).train(layer.training))
    return layer


def geometry_of(layer: nn.Module) -> tuple[Geometry | None, Form]:
    r"""Geometry of a layer of torch (None for `nn.Linear`), and the form of its `t`.

    A transposed convolution is the adjoint $C^\top$ of the convolution that has its weight as kernel, cropped or extended by
    zeros. $(C^\top)^\top C^\top = C C^\top \preceq T$ is the residual form, with one `t` for each channel that it reads.
    """
    if type(layer) is nn.Linear:
        return None, "linear"
    if type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        padding = (
            {"same": None, "valid": 0}[layer.padding] if isinstance(layer.padding, str) else layer.padding
        )
        return Geometry(layer.stride, layer.padding_mode, padding, layer.dilation, layer.groups), "linear"
    if type(layer) in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        assert isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        assert not isinstance(layer.padding, str)
        return Geometry(layer.stride, "zeros", layer.padding, layer.dilation, layer.groups), "residual"
    raise UnsupportedConvolution(
        f"`{type(layer).__name__}` cannot be rescaled: its linear map is not known. Use nn.Linear, nn.Conv1d/2d/3d or"
        " nn.ConvTranspose1d/2d/3d themselves (not a subclass, and not parametrized before)."
    )


def rescale_weight(weight: Weight, t: Float[Tensor, " n"], geometry: Geometry | None, form: Form) -> Weight:
    r"""$W T^{-1/2}$ of a matrix or kernel; in the residual form of a kernel, $T^{-1/2} C$."""
    if geometry is None:
        return rescale(weight, t)
    if form == "residual":
        return rescale(weight.flatten(1).mT, t).mT.reshape(weight.shape)
    K = weight.reshape(geometry.groups, -1, *weight.shape[1:]).flatten(3).movedim(2, -1)
    return rescale(K, t.reshape(geometry.groups, 1, -1)).movedim(-1, 2).reshape(weight.shape)
