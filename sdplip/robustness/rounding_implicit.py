"""The rule of `forward_error` for equilibrium layers: what they guarantee of their solver, and the rounding of their outputs."""

from torch import Tensor, nn

from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.implicit import guaranteed
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.equilibrium import EquilibriumLinear
from sdplip.robustness.rounding_flow import Affine, RoundingContext, Step, forward_error, lengths


@forward_error.register(EquilibriumLinear)
def _(module: EquilibriumLinear, bound: Bound, context: RoundingContext) -> Step:
    """Every output that `forward` gives is within `tolerance` of the exact one, here and at every attacked input, or there is none."""
    if module.training:
        raise context.refuse(module, "only eval mode guarantees what its solver reaches. Call `.eval()`.")
    if type(module.activation) not in (nn.ReLU, nn.LeakyReLU):
        raise context.refuse(
            module,
            f"`{module.activation}` is a function of the library, whose error is not stated. Use ReLU.",
        )
    if not guaranteed(module, Context(context.path)):
        raise context.refuse(module, "the inequality behind its tolerance is not proven. Raise `room`.")

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:
        y, format = module(z), context.format
        solver = Affine.zero(z) + module.tolerance * (1 + 1e-5)
        size = bound.value * (norm + distance) + lengths(y)
        return y, solver + (2 * format.gamma(2)) * size + 4 * format.tiny * y[0].numel()

    return step
