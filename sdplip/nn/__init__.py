r"""Lipschitz layers of torch: rescaled layers (statement 1), residual layers (statement 2), orthogonal and sandwich layers.

`import sdplip` does not import this package, and only this package and the training code import torch.
Layers compute; none carries its bound. What each one runs with stands in its attributes, for the kernel to prove.
"""

from sdplip.nn.initialise import initialise
from sdplip.nn.orthogonal import CayleyConv2d, orthogonal
from sdplip.nn.residual import PadChannels, ResidualConv1d, ResidualConv2d, ResidualConv3d, ResidualLinear
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.scaling import AOL, SLL, AbstractScaling, MultiStep, Rescaled, Spectral, rescaled
from sdplip.nn.slopes import UnsupportedActivation, slopes

__all__ = [
    "AOL",
    "SLL",
    "AbstractScaling",
    "CayleyConv2d",
    "MultiStep",
    "PadChannels",
    "Rescaled",
    "ResidualConv1d",
    "ResidualConv2d",
    "ResidualConv3d",
    "ResidualLinear",
    "Sandwich",
    "Spectral",
    "UnsupportedActivation",
    "initialise",
    "orthogonal",
    "rescaled",
    "slopes",
]
