r"""Lipschitz layers of torch: rescaled layers (statement 1), residual layers (statement 2), orthogonal and sandwich layers.

`import sdplip` does not import this package, and only this package and the training code import torch.
Layers compute; none carries its bound. What each one runs with stands in its attributes, for the kernel to prove.
"""

import sdplip.nn.graph  # noqa: F401  (our layers tell how they are read)
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.nn.activations import Abs, BetaAbs, GroupSort, Householder, MaxMin, NActivation
from sdplip.nn.bilipschitz import BiLipschitz
from sdplip.nn.blocked import Blocked, by_blocks
from sdplip.nn.bound import LowerBound, lipschitz, lower_lipschitz, pairwise_lipschitz
from sdplip.nn.bounds.attention import attention_on_ball
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.containers import BoundedScale, ChannelScale, Concatenate, Residual, Scale, Sum
from sdplip.nn.deep_residual import DeepResidualLinear
from sdplip.nn.dissipative import LipKernelConv1d, LipKernelConv2d, LipKernelLinear
from sdplip.nn.equilibrium import EquilibriumLinear
from sdplip.nn.estimate import estimate_lipschitz
from sdplip.nn.export import export_plain, from_plain, save_onnx, save_plain, vanilla_export
from sdplip.nn.heads import LastLayerNormalised, Normalise, UnitSphere
from sdplip.nn.initialise import initialise
from sdplip.nn.lipkernel import LipKernel
from sdplip.nn.normalisation import ActNorm, BatchLipNorm
from sdplip.nn.optimal import Optimal
from sdplip.nn.orthogonal import BROConv2d, CayleyConv2d, orthogonal
from sdplip.nn.pooling import (
    Center,
    CenterNorm,
    FirstChannels,
    GlobalL2Pool,
    L2Pool1d,
    L2Pool2d,
    L2Pool3d,
    ScaledAvgPool1d,
    ScaledAvgPool2d,
    ScaledAvgPool3d,
)
from sdplip.nn.propagate import Propagate, normalised_adjacency
from sdplip.nn.recurrent import Recurrent
from sdplip.nn.rescaled import Rescaled, rescaled
from sdplip.nn.residual import PadChannels, ResidualConv1d, ResidualConv2d, ResidualConv3d, ResidualLinear
from sdplip.nn.sandwich import Sandwich
from sdplip.nn.sandwich_conv import CompactSandwichConv2d, SandwichConv2d
from sdplip.nn.scaling import AOL, SLL, MultiStep, Spectral
from sdplip.nn.shifted import LipNeXtBlock, LipShiFTBlock, PositionalBias, Shift2d
from sdplip.nn.slopes import UnsupportedActivation, slopes
from sdplip.nn.strided import StridedResidualConv2d
from sdplip.nn.together import together

__all__ = [
    "AOL",
    "SLL",
    "Abs",
    "AbstractScaling",
    "ActNorm",
    "BROConv2d",
    "BatchLipNorm",
    "BetaAbs",
    "BiLipschitz",
    "Blocked",
    "Bound",
    "BoundedScale",
    "CayleyConv2d",
    "Center",
    "CenterNorm",
    "ChannelScale",
    "CompactSandwichConv2d",
    "Concatenate",
    "DeepResidualLinear",
    "EquilibriumLinear",
    "FirstChannels",
    "GlobalL2Pool",
    "GroupSort",
    "Householder",
    "L2Pool1d",
    "L2Pool2d",
    "L2Pool3d",
    "LastLayerNormalised",
    "LipKernel",
    "LipKernelConv1d",
    "LipKernelConv2d",
    "LipKernelLinear",
    "LipNeXtBlock",
    "LipShiFTBlock",
    "LowerBound",
    "MaxMin",
    "MultiStep",
    "NActivation",
    "Normalise",
    "Optimal",
    "PadChannels",
    "PositionalBias",
    "Propagate",
    "Recurrent",
    "Rescaled",
    "Residual",
    "ResidualConv1d",
    "ResidualConv2d",
    "ResidualConv3d",
    "ResidualLinear",
    "Sandwich",
    "SandwichConv2d",
    "Scale",
    "ScaledAvgPool1d",
    "ScaledAvgPool2d",
    "ScaledAvgPool3d",
    "Shift2d",
    "Spectral",
    "StridedResidualConv2d",
    "Sum",
    "UnitSphere",
    "UnsupportedActivation",
    "attention_on_ball",
    "by_blocks",
    "estimate_lipschitz",
    "export_plain",
    "from_plain",
    "initialise",
    "lipschitz",
    "lower_lipschitz",
    "normalised_adjacency",
    "orthogonal",
    "pairwise_lipschitz",
    "rescaled",
    "save_onnx",
    "save_plain",
    "slopes",
    "together",
    "vanilla_export",
]
