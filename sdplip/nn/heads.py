r"""Both ends of a network: input normalisation, and last layers with their pairwise constants.

Radii refer to images in $[0, 1]$: with normalised inputs the whole network has the constant $L / \min \sigma$, which
`lipschitz` includes when `Normalise` is the first module.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Normalise(nn.Module):
    r"""$(x - \mu) / \sigma$ for each channel: $\max 1 / \sigma$-Lipschitz. With $\sigma = 1$ (centering only) an isometry."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float] | None = None) -> None:
        super().__init__()
        deviation = (
            torch.ones(len(mean)) if std is None else torch.tensor(std, dtype=torch.get_default_dtype())
        )
        if len(deviation) != len(mean) or not bool((deviation > 0).all()):
            raise ValueError(
                f"`std` must have one positive entry for each of the {len(mean)} channels, but is {std}."
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=deviation.dtype))
        self.register_buffer("inverse_std", 1 / deviation)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != len(self.mean):  # broadcasting one channel would copy it
            raise ValueError(
                f"The input has {x.shape[1]} channels, but `mean` has {len(self.mean)}. Give one mean a channel."
            )
        axes = (1,) * (x.ndim - 2)
        mean, scale = (v.to(x.dtype).reshape(-1, *axes) for v in (self.mean, self.inverse_std))
        return (x - mean) * scale


class LastLayerNormalised(nn.Linear):
    r"""Last layer with rows of length 1 (LLN, Singla et al. 2022).

    As a map it is *not* 1-Lipschitz (its norm may reach the root of the number of classes); certificates are for pairs of
    classes, `sdplip.nn.bound.pairwise_lipschitz`. A zero row stays zero.
    """

    def rows(self) -> Float[Tensor, "classes features"]:
        """The matrix that runs."""
        square = (self.weight * self.weight).sum(-1, keepdim=True)
        zero = square == 0
        return self.weight / (square + zero).sqrt()

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.rows(), self.bias)
