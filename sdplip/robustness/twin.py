"""What rounding did in the very forward pass of an image, measured: float32 beside its twin in double precision."""

# Note [twin]. A network whose numbers are all stored is one exact function f, whatever format it runs in. Let s be the logits that float32
# computes at x, and t those of the twin, the same numbers in double precision, off by at most e from f(x) in the margin of any two
# classes (proven, Note [forward error]). Then |(s_y - s_j) - (f_y - f_j)| <= |s_y - t_y| + |s_j - t_j| + e: what happened, rather than
# the worst that could. At images around x nobody has measured anything, so the a-priori bound stays for them.

import copy
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.nn.activations import Abs, GroupSort, MaxMin
from sdplip.nn.blocked import Blocked
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.normalisation import DROPOUTS
from sdplip.nn.bounds.pooling import AVERAGES, MAXIMA
from sdplip.nn.bounds.shapes import CIRCULAR_PADS, MOVES
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.circular import CircularConv2d
from sdplip.nn.containers import Concatenate, Residual, Scale, Sum
from sdplip.nn.heads import Normalise
from sdplip.nn.plain import CONVS, TRANSPOSED, PlainResidual, PlainSandwich
from sdplip.nn.pooling import Center, FirstChannels, ScaledAvgPool1d, ScaledAvgPool2d, ScaledAvgPool3d
from sdplip.nn.residual import PadChannels
from sdplip.robustness.forward_error import Analysis, forward_error
from sdplip.robustness.radii import MarginError, predictions
from sdplip.robustness.rounding_flow import ONCE

STORED = (
    nn.Linear, *CONVS, *TRANSPOSED, CircularConv2d, Blocked, PlainResidual, PlainSandwich, Normalise, Scale, nn.ReLU, nn.ReLU6, nn.Identity,
    nn.LeakyReLU, Abs, MaxMin, GroupSort, PadChannels, FirstChannels, nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, *DROPOUTS, *MOVES,
    *CIRCULAR_PADS, *MAXIMA, *AVERAGES, Center, ScaledAvgPool1d, ScaledAvgPool2d,
    ScaledAvgPool3d, nn.Sequential, Residual, Sum, Concatenate,
)  # fmt: skip
"""Modules that multiply with the numbers that they store, or with constants of theirs that the rules take as the doubles they are: in
double precision they are the same function."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The rounding error of a float32 network, at the image itself as measured by its twin, see Note [twin].

    Attributes:
        single: the analysis of the network that runs.
        double: that of the twin.
    """

    single: Analysis
    double: Analysis

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, MarginError]:
        """The logits as computed, and what the margins lose."""
        logits, lost = self.single(x)
        apart, e = measured_apart(self.double, x, logits)
        winner = np.take_along_axis(apart, predictions(logits)[:, None], 1)
        return logits, replace(lost, measured=np.minimum(known(winner + apart + e[:, None]), lost.constant))

    @torch.no_grad()
    def everywhere(self, x: Tensor) -> tuple[Tensor, Float[np.ndarray, " batch"]]:
        """The logits as computed, and by how much the margin of any two classes is off, in this one evaluation."""
        logits, lost = self.single.everywhere(x)
        apart, e = measured_apart(self.double, x, logits)
        return logits, np.minimum(known(np.sort(apart, 1)[:, -2:].sum(1) + e), lost)


def measured_apart(
    twin: Analysis, x: Tensor, logits: Tensor
) -> tuple[Float[np.ndarray, "batch classes"], Float[np.ndarray, " batch"]]:
    """How far each logit is from that of the twin at the same images, and by how much margins of the twin are off."""
    exact, e = twin.everywhere(x.double())
    return abs(_two(logits) - _two(exact)), e


def known(found: np.ndarray) -> np.ndarray:
    """Rounded up; infinity where nothing is known."""
    return np.where(np.isfinite(found), found * ONCE**3, np.inf)


def measured(network: nn.Module, bound: Bound, single: Analysis) -> Analysis | Measured:
    """The analysis beside the twin, where the network has one; else the analysis as it is. Norms of equal numbers are proven once.

    Args:
        network: in float32.
        bound: of this very network.
    """
    if not stored(network):
        return single
    return Measured(single, forward_error(copy.deepcopy(network).double(), bound))


def stored(network: nn.Module) -> bool:
    """Whether all numbers that the network multiplies with are stored."""
    modules = [module for module in network.modules() if not isinstance(module, nn.ModuleList)]
    return all(
        lipschitz.known(module)
        and lipschitz.registered(module) in STORED
        and not hasattr(module, "parametrizations")
        for module in modules
    )


def _two(logits: Tensor) -> np.ndarray:
    """Logits in double precision; one is read as 0 and itself."""
    s = logits.double().cpu().numpy()
    return np.concatenate([np.zeros_like(s), s], 1) if s.shape[1] == 1 else s
