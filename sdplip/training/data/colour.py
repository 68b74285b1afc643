"""Augmentations of colour, on images in [0, 1]. Factors are one an image; the factor 1 (the hue 0) changes nothing, exactly."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "n c h w"]
Factors = Float[Tensor, " n"]

LUMA = (0.299, 0.587, 0.114)
TO_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))
"""NTSC's YIQ: a turn of the plane (I, Q) changes the hue and keeps the luma Y."""


def brightness(images: Images, factor: Factors) -> Images:
    """Values times the factor, cut off at 1."""
    return away(images, torch.zeros_like(images[:, :1]), factor)


def contrast(images: Images, factor: Factors) -> Images:
    """Distances from the image's mean luma times the factor."""
    return away(images, luma(images).mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Images, factor: Factors) -> Images:
    """Distances of every pixel from its luma times the factor; grey images stay."""
    return away(images, luma(images), factor) if images.shape[1] == 3 else images


def hue(images: Images, turns: Factors) -> Images:
    """Colours turned by this part of a full turn, in YIQ; grey images stay."""
    if images.shape[1] != 3:
        return images
    to_yiq, from_yiq = _yiq(images.device)
    angle = (2 * torch.pi * turns).to(torch.float64)
    turn = torch.zeros(len(images), 3, 3, device=images.device, dtype=torch.float64)  # less the identity
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos() - 1
    turn[:, 2, 1] = angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    change = (from_yiq @ turn @ to_yiq).to(images.dtype)
    return (images + (change @ images.flatten(2)).view_as(images)).clamp(0, 1)


@lru_cache(maxsize=8)
def _yiq(device: torch.device) -> tuple[Tensor, Tensor]:
    """The change of colours and its inverse, copied to a device once."""
    to_yiq = torch.tensor(TO_YIQ, dtype=torch.float64)
    return to_yiq.to(device), torch.linalg.inv(to_yiq).to(device)


def solarise(images: Images, threshold: Factors) -> Images:
    """Values above the threshold turned into their negative, 1 less the value."""
    return torch.where(images > threshold[:, None, None, None], 1 - images, images)


def luma(images: Images) -> Float[Tensor, "n 1 h w"]:
    """The brightness that the eye sees in every pixel; of a grey image, the image."""
    if images.shape[1] != 3:
        return images
    r, g, b = LUMA
    return r * images[:, :1] + g * images[:, 1:2] + b * images[:, 2:]


def away(images: Images, other: Tensor, factor: Factors) -> Images:
    """`other + factor * (images - other)`, cut off at 0 and 1, written so that the factor 1 gives the images back exactly."""
    return (images + (factor - 1)[:, None, None, None] * (images - other)).clamp(0, 1)
