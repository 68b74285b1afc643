"""Rules of the shift and of the positional bias; blocks of them are chains."""

from sdplip.nn.bounds.dispatch import Context, lipschitz
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.bounds.weights import effective
from sdplip.nn.shifted import PositionalBias, Shift2d


@lipschitz.register(Shift2d)
def _(module: Shift2d, context: Context) -> Bound:  # noqa: ARG001
    reason = (
        "moves pixels" if module.mode == "circular" else "moves pixels, and drops those that leave the image"
    )
    return Bound(1.0, reason)


@lipschitz.register(PositionalBias)
def _(module: PositionalBias, context: Context) -> Bound:
    effective(module, "bias", context)
    return Bound(1.0, "a translation")
