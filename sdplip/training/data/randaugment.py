"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719), a subset of its operations as batched tensor operations.

Left out are the operations on histograms and bits (autocontrast, equalise, posterise) and sharpness; cutout is added. All that is
here does nothing at magnitude 0.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.training.data import colour, warp
from sdplip.training.data.draws import Draws

Images = Float[Tensor, "n c h w"]
Levels = Float[Tensor, " n"]
Places = Float[Tensor, "n 2"]

ROUNDS = 2
STRONGEST = 30
"""The magnitude at which an operation is strongest, as in the published search space."""


def cutout(images: Images, side: Float[Tensor, " n"], place: Places) -> Images:
    """A black square of this side, its centre at `place` (y, x) in [0, 1], cut off at the border."""
    h, w = images.shape[2:]
    y = abs(torch.arange(h, device=images.device) + 0.5 - place[:, :1] * h) < side[:, None] / 2
    x = abs(torch.arange(w, device=images.device) + 0.5 - place[:, 1:] * w) < side[:, None] / 2
    return images.masked_fill((y[:, :, None] & x[:, None, :])[:, None], 0)


Operation = Callable[[Images, Levels, Places], Images]
"""Images, a level in [-1, 1] and a place in [0, 1]^2 for each."""

OPERATIONS: Sequence[Operation] = (
    lambda x, *_: x,
    lambda x, s, _: warp.translate(x, 0.45 * s * x.shape[3], 0 * s),
    lambda x, s, _: warp.translate(x, 0 * s, 0.45 * s * x.shape[2]),
    lambda x, s, _: warp.rotate(x, 30 * s),
    lambda x, s, _: warp.shear(x, 0.3 * s, 0 * s),
    lambda x, s, _: warp.shear(x, 0 * s, 0.3 * s),
    lambda x, s, _: colour.brightness(x, 1 + 0.9 * s),
    lambda x, s, _: colour.contrast(x, 1 + 0.9 * s),
    lambda x, s, _: colour.saturation(x, 1 + 0.9 * s),
    lambda x, s, _: colour.solarise(x, 1 - abs(s)),
    lambda x, s, place: cutout(x, 0.5 * abs(s) * x.shape[3], place),
)


def randaugment(images: Images, draws: Draws, magnitude: float = 9) -> Images:
    """Every image after two operations drawn for it, each in a random direction.

    Args:
        magnitude: from 0 (nothing happens) to 30.
    """
    for _ in range(ROUNDS):
        groups = draws.groups(len(OPERATIONS))
        level = magnitude / STRONGEST * (1 - 2 * draws.integers(0, 1))
        place = torch.stack((draws.uniform(0, 1), draws.uniform(0, 1)), -1)
        result = images.clone()
        for chosen, operation in zip(groups, OPERATIONS, strict=True):
            if len(chosen):
                result[chosen] = operation(images[chosen], level[chosen], place[chosen])
        images = result
    return images
