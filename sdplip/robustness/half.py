"""Forward passes in half precision: the prediction is the one of bfloat16 or float16, the certificate that of the numbers stored."""

# Note [half]. The numbers of a network in half precision are also numbers of double precision, so its twin is one exact function f with a
# proven bound. Let s be the logits that the pass in half precision returns for an image x, by whatever kernels, and t those of the twin at
# that same x, off by at most e in the margin of any two classes. Then |(s_y - s_j) - (f_y - f_j)| <= |s_y - t_y| + |s_j - t_j| + e, in
# which the rounding of x itself is contained. Nothing is assumed of the arithmetic of the pass, which may add up as it likes; so nothing
# is known of what it would compute at other images: the certificate is about f around x, and about the prediction made at x.

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn.bounds.tree import Bound
from sdplip.robustness.arithmetic import Precision, network_in
from sdplip.robustness.asked import run
from sdplip.robustness.forward_error import Analysis, forward_error
from sdplip.robustness.radii import MarginError, predictions
from sdplip.robustness.twin import known, measured_apart, stored

Half = Literal["bfloat16", "float16"]
HALVES: dict[Half, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class HalfPass:
    """A pass in half precision beside its twin, see Note [half].

    Attributes:
        network: that runs.
        twin: analysis of the same numbers in double precision.
    """

    network: nn.Module
    twin: Analysis

    @torch.no_grad()
    def __call__(self, x: Tensor) -> tuple[Tensor, MarginError]:
        """The logits of the pass for images in double precision, and what the margins lose at these."""
        dtype = next(self.network.parameters()).dtype
        logits = run(self.network, x.to(dtype)).double()
        apart, e = measured_apart(self.twin, x, logits)
        winner = np.take_along_axis(apart, predictions(logits)[:, None], 1)
        lost = known(winner + apart + e[:, None])
        return logits, MarginError(lost, np.zeros_like(lost))


def half_network(model: nn.Module, precision: Half, scope: str) -> tuple[nn.Module, nn.Module]:
    """A copy in eval mode whose numbers are those of the format, and its twin in double precision.

    Raises:
        InvalidProblem: another scope than "exact".
        RefusedModule: a module computes its weights, or has no weights at all.
    """
    if scope != "exact":
        raise InvalidProblem(
            f"What {precision} would compute at other images has no bound: its sums may be added up in any format. Certify the"
            ' function of the numbers stored, with the prediction of the pass at each image: scope "exact".'
        )
    network = copy.deepcopy(model).to(HALVES[precision]).eval()
    if not any(p.dtype == HALVES[precision] for p in network.parameters()):
        raise RefusedModule(
            f"The network has no weights to hold in {precision}. Certify in float32 or float64."
        )
    if not stored(network):
        raise RefusedModule(
            f"A module computes its weights, so a pass in {precision} is no function of stored numbers. Certify"
            " `export_plain(model).model`, or the network in float32 or float64."
        )
    return network, network_in(copy.deepcopy(network).double(), "float64")


def full(precision: Precision | Half) -> Precision:
    """The precision of a certification that goes on to more.

    Raises:
        InvalidProblem: it was made in half precision.
    """
    if precision == "float32" or precision == "float64":
        return precision
    raise InvalidProblem(
        f"The certification is one of a pass in {precision}, which is certified alone. Certify in float32 or float64 for this."
    )


def half_pass(network: nn.Module, twin: nn.Module, bound: Bound) -> HalfPass:
    """The analysis of both.

    Raises:
        RefusedModule: a module has no proven rounding error.
    """
    return HalfPass(network, forward_error(twin, bound))
