"""Augmentations that move whole pixels: exact, for bytes and floats alike."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from sdplip.errors import InvalidConfig


def crop(
    images: Shaped[Tensor, "n c h w"],
    down: Int64[Tensor, " n"],
    right: Int64[Tensor, " n"],
    pad: int,
    *,
    reflect: bool = False,
) -> Shaped[Tensor, "n c h w"]:
    """The window of the padded image that starts at row `down` and column `right`, both from 0 to `2 * pad`.

    `pad` gives the image back. The padding is zero, or (`reflect`) the image mirrored at its outermost pixels.

    Raises:
        InvalidConfig: to mirror more pixels than there are.
    """
    n, c, h, w = images.shape
    sides = (pad, pad, pad, pad)
    padded = _mirrored(images, pad) if reflect else F.pad(images, sides)
    height, width = padded.shape[2:]
    i = torch.arange(n * c, device=images.device).view(n, c, 1) * height
    i = i + down[:, None, None] + torch.arange(h, device=images.device)
    starts = i * width + right[:, None, None]  # of every row of every window
    return padded.reshape(-1).unfold(0, w, 1).index_select(0, starts.view(-1)).view(n, c, h, w)


def flip(images: Shaped[Tensor, "n c h w"], flipped: Bool[Tensor, " n"]) -> Shaped[Tensor, "n c h w"]:
    """Left and right exchanged where `flipped`."""
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def _mirrored(images: Shaped[Tensor, "n c h w"], k: int) -> Shaped[Tensor, "n c H W"]:
    """Reflect padding by k on every side, for bytes too, which torch's own refuses."""
    if k >= min(images.shape[2:]):
        raise InvalidConfig(
            f"`reflect{k}` in `data.augment` mirrors {k} pixels, but the images have {min(images.shape[2:])} on a side."
            " Use a smaller number."
        )
    images = torch.cat((images[..., 1 : k + 1].flip(-1), images, images[..., -k - 1 : -1].flip(-1)), -1)
    return torch.cat((images[:, :, 1 : k + 1].flip(2), images, images[:, :, -k - 1 : -1].flip(2)), 2)
