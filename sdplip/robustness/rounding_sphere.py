"""The rounding rule of points on the unit sphere."""

from math import prod, sqrt

from torch import Tensor

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.heads import UnitSphere
from sdplip.robustness.rounding_flow import Affine, RoundingContext, Step, forward_error
from sdplip.robustness.rounding_maps import within_range


@forward_error.register(UnitSphere)
def _(module: UnitSphere, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    """The length by one root of a sum of squares, then one division: relative errors of points of length 1."""

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        format, features = context.format, z.shape[1] + 1
        points = sqrt(prod(z.shape[2:])) * GENEROUS
        off = (2 * format.gamma(features + 6) + 4 * features * format.tiny / module.height**2) * points
        return module(z), within_range(
            Affine.zero(z) + off, sqrt(format.large) * (norm + module.height * points), format
        )

    return step
