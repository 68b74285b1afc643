r"""Linear layers that add up their products by blocks: the same function, and a rounding error that is small for any arithmetic library.

A sum of n products in any order may lose about $n u$ of its size, and nobody says which order a library takes. By blocks of b, whose sums
are added in pairs, each product takes part in at most $b + \lceil \log_2 (n / b) \rceil$ roundings, whatever happens within a block
(Blanchard, Higham and Mary 2020, "A class of fast and accurate summation algorithms").
"""

from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from sdplip.errors import InvalidProblem
from sdplip.nn.given import module
from sdplip.nn.plain import CONVS, PlainResidual


class Blocked(nn.Module):
    """The `layer`, its sums of products by blocks of inputs.

    It multiplies once for each block: cheap beside a proof, dear in training.

    Args:
        layer: an `nn.Linear`, or a convolution of one group that pads with zeros.
        block: products in a block; of a convolution those of one input channel at least.

    Raises:
        InvalidProblem: another layer, or a block that is no positive whole number.
    """

    layer: Any

    def __init__(self, layer: nn.Module, block: int = 16) -> None:
        super().__init__()
        if not can_be_blocked(layer):
            raise InvalidProblem(
                f"`layer` must be an `nn.Linear`, or a convolution of one group that pads with zeros, but is {layer}."
            )
        if not isinstance(block, int) or block < 1:
            raise InvalidProblem(f"`block` must be a whole number of at least 1, but is {block!r}.")
        self.layer, self.block = layer, block

    @property
    def inputs(self) -> int:
        """Inputs or input channels in a block."""
        n, taps = self.layer.weight.shape[1], prod(self.layer.weight.shape[2:])
        return min(n, max(1, self.block // taps))

    @property
    def roundings(self) -> int:
        """What a product takes part in at most, the roundings of its own and of the bias included."""
        n, taps = self.layer.weight.shape[1], prod(self.layer.weight.shape[2:])
        blocks = -(-n // self.inputs)
        return self.inputs * taps + (blocks - 1).bit_length() + 1

    def forward(self, x: Tensor) -> Tensor:
        W, bias = self.layer.weight, self.layer.bias
        axes = W.ndim - 2
        y = self._sum(x, W, range(0, W.shape[1], self.inputs))
        return y if bias is None else y + bias.reshape(-1, *(1,) * axes)

    def _sum(self, x: Tensor, W: Tensor, starts: range) -> Tensor:
        """The sum of the products of blocks, by halves."""
        if len(starts) > 1:
            half = (len(starts) + 1) // 2
            return self._sum(x, W, starts[:half]) + self._sum(x, W, starts[half:])
        axis = 1 - W.ndim  # of the inputs in x, the last or the one before the pixels
        count = min(self.inputs, W.shape[1] - starts[0])
        part, weight = x.narrow(axis, starts[0], count), W.narrow(1, starts[0], count)
        if W.ndim == 2:
            return F.linear(part, weight)
        convolve = (F.conv1d, F.conv2d, F.conv3d)[W.ndim - 3]
        return convolve(part, weight, None, self.layer.stride, self.layer.padding, self.layer.dilation)

    def extra_repr(self) -> str:
        return f"block={self.block}"


def can_be_blocked(layer: nn.Module) -> bool:
    """Whether `Blocked` takes it."""
    kind = type(layer).__mro__[1] if parametrize.is_parametrized(layer) else type(layer)
    if kind in CONVS:
        return layer.groups == 1 and layer.padding_mode == "zeros"  # pyright: ignore[reportReturnType]
    return kind is nn.Linear


def unblocked(layer: nn.Module) -> nn.Module:
    """The layer itself, without its blocks."""
    return layer.layer if isinstance(layer, Blocked) else layer


def by_blocks(model: nn.Module, block: int = 16) -> nn.Module:
    """`model` itself, summed by blocks: what stands in an `nn.Sequential`, and both layers of each `PlainResidual`. A linear head stays.

    What `certify_accuracy(by_blocks(copy), ..., precision="float32")` proves holds for this network, on any device and with any library
    whose products and sums are those of single precision.

    Raises:
        InvalidProblem: no module, or a block that is no positive whole number.
    """
    module("model", model)
    for parent in [*model.modules()]:
        if isinstance(parent, nn.Sequential | PlainResidual):
            for name, layer in parent._modules.items():
                last = parent is model and layer is [*parent.children()][-1]
                if layer is not None and can_be_blocked(layer) and not last:
                    parent._modules[name] = Blocked(layer, block)
    return model
