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


class UnitSphere(nn.Module):
    r"""$(x, h) / \lVert (x, h) \rVert_2$ along axis 1, a point of the unit sphere with one feature more: $1 / h$-Lipschitz.

    Division by the length itself, `height` 0, has no constant: near 0 a short way turns the direction round. `lipschitz` refuses
    it; certificates of angles need no normalisation (`sdplip.robustness.angle_radius`, `anchored_radius`).

    Args:
        height: h, rounded to eight binary digits, so that every precision computes with the same number.
    """

    def __init__(self, height: float = 1.0) -> None:
        super().__init__()
        if height != 0 and not 2.0**-14 <= height <= 2.0**15:
            raise ValueError(f"`height` must be 0, or between 2^-14 and 2^15, but is {height}.")
        self.height = float(torch.tensor(height, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        if self.height:
            x = torch.cat([x, torch.full_like(x[:, :1], self.height)], 1)
        length = x.norm(dim=1, keepdim=True)
        return x / (length + (length == 0))

    def extra_repr(self) -> str:
        return f"height={self.height}"
