"""Augmentations by a linear map of the plane, bilinear, with black beyond the image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "n c h w"]


def warp(images: Images, A: Float[Tensor, "n 2 2"], shift: Float[Tensor, "n 2"]) -> Images:
    """Images whose value at p is the given image's at `A p + shift`; p = (x, y) in pixels from the centre, y downwards.

    Bilinear values are averages, so the range is kept; a rounding error beyond [0, 1] is cut off.
    """
    h, w = images.shape[2:]
    like = {"device": images.device, "dtype": images.dtype}
    y, x = torch.meshgrid(
        torch.arange(h, **like) - (h - 1) / 2, torch.arange(w, **like) - (w - 1) / 2, indexing="ij"
    )
    p = torch.stack((x, y), -1).view(1, h * w, 2)
    at = p @ A.to(images.dtype).mT + shift.to(images.dtype)[:, None]
    at = torch.stack((at[..., 0] * (2 / w), at[..., 1] * (2 / h)), -1)
    return F.grid_sample(images, at.view(-1, h, w, 2), align_corners=False).clamp(0, 1)


def rotate(images: Images, degrees: Float[Tensor, " n"]) -> Images:
    """Images turned about their centre, anticlockwise as one sees them."""
    angle = torch.deg2rad(degrees)
    c, s = angle.cos(), angle.sin()
    A = torch.stack((c, -s, s, c), -1).view(-1, 2, 2)
    return warp(images, A, torch.zeros_like(A[:, 0]))


def shear(images: Images, right: Float[Tensor, " n"], down: Float[Tensor, " n"]) -> Images:
    """Images sheared about their centre: a row moves by `right` times its height, a column by `down` times its place."""
    one = torch.ones_like(right)
    A = torch.stack((one, right, down, one), -1).view(-1, 2, 2)
    return warp(images, A, torch.zeros_like(A[:, 0]))


def translate(images: Images, right: Float[Tensor, " n"], down: Float[Tensor, " n"]) -> Images:
    """Images moved by so many pixels, whole or not."""
    A = torch.eye(2, device=images.device).expand(len(images), 2, 2)
    return warp(images, A, torch.stack((-right, -down), -1))
