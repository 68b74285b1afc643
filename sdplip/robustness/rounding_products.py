"""The rounding rule of an orthogonal convolution that runs by products of matrices."""

from math import sqrt

from torch import Tensor

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.bounds.weights import effective
from sdplip.nn.products import CayleyConv2dProducts
from sdplip.robustness.absolute import length_above, norm_above
from sdplip.robustness.rounding_flow import Affine, RoundingContext, Step, forward_error
from sdplip.robustness.rounding_maps import within_range

# Note [products as computed]. y = B' M (B z) + v of Note [products], with n = |z|, b = |B|, c = max |M|, and the norms b', c' of
# absolute values. B z is off by e1 <= gamma_N b' n, so the computed one is at most b n + e1 long; the product with M is off by
# e2 <= c e1 + gamma_2C c' (b n + e1), the computed one at most c b n + e2; the result by e3 <= b e2 + gamma_2F b' (c b n + e2),
# and the bias adds the rounding of one sum.


@forward_error.register(CayleyConv2dProducts)
def _(module: CayleyConv2dProducts, bound: Bound, context: RoundingContext) -> Step:
    where, format = Context(context.path), context.format
    B, M = (abs(effective(module, name, where)) for name in ("waves", "matrices"))
    frequencies, inner, outer = M.shape
    pixels = B.shape[-1]
    b, c = (part.value for part in bound.parts)
    rough_b = norm_above(B.reshape(-1, pixels))
    rough_c = norm_above(M.max(0))  # no nonnegative matrix below it has a larger norm
    to_waves, between, back, add = (format.gamma(k) for k in (pixels, inner, 2 * frequencies, 1))
    bias = 0.0
    if module.bias is not None:
        bias = float(length_above(effective(module, "bias", where))) * sqrt(pixels) * GENEROUS
    tiny = 8 * (pixels + inner + 2 * frequencies) * format.tiny * (1 + rough_b) * (1 + rough_c)
    tiny = tiny * 2 * frequencies * max(inner, outer)

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        first = (to_waves * rough_b) * norm
        second = c * first + (between * rough_c) * (b * norm + first)
        inside = (b * c * GENEROUS) * norm + second
        third = b * second + (back * rough_b) * inside
        delta = third + (2 * add) * (b * inside + third + bias)
        largest = (2 * rough_b * (1 + rough_c) * (1 + rough_b)) * norm + bias
        return module(z), within_range(GENEROUS * delta + tiny, largest, format)

    return step
