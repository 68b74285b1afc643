r"""The rounding error of the signed radii of all pixels together, as one vector: $\rho$ of Note [pixels together]."""

from collections.abc import Callable
from math import prod, sqrt

import numpy as np
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.errors import RefusedModule
from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.pairwise import pairwise_of, pixel_head_of
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.bounds.weights import effective
from sdplip.robustness.absolute import FORMATS, length_above
from sdplip.robustness.rounding_flow import Affine, RoundingContext, chain, lengths, output_error

PixelError = Callable[[Tensor], tuple[Tensor, Affine]]
"""`x -> (logits, rho)`: one number a sample that grows with the distance of a change."""


def pixel_error(network: nn.Module, bound: Bound) -> PixelError:
    """The logits of a network, and how far the radii that they give are from exact ones, at an image and around it.

    Raises:
        RefusedModule: a module has no proven rounding error.
    """
    head = pixel_head_of(network, bound)
    if head is not None and isinstance(network, nn.Sequential):
        return _with_head(network, head, bound)
    if head is not None:
        raise RefusedModule(
            "The rounding of a head inside of a forward of its own has no rule. Certify in float64."
        )
    flow = output_error(network, bound)

    def whole(x: Tensor) -> tuple[Tensor, Affine]:
        logits, error, _ = flow(x, Affine(np.zeros(len(x)), 1.0))
        return logits, _over(error, bound.value)

    return whole


def _with_head(network: nn.Sequential, head: nn.Module, bound: Bound) -> PixelError:
    pairwise = pairwise_of(head, bound)
    format = FORMATS[head.weight.dtype]  # pyright: ignore[reportArgumentType, reportCallIssue]
    names = [*network._modules][:-1]
    backbone = chain([*network][:-1], bound.parts[:-1], [RoundingContext(name, format) for name in names])
    where = Context([*network._modules][-1])
    U = effective(head, "weight", where).reshape(head.weight.shape[0], -1)  # pyright: ignore
    b = 0.0 if head.bias is None else float(abs(effective(head, "bias", where)).max())
    row, terms = float(length_above(U).max()), U.shape[1] + 1
    gamma, tiny = format.gamma(terms), 4 * terms * format.tiny
    apart = pairwise.values[~np.eye(len(U), dtype=bool)].min() if len(U) > 1 else bound.value

    def error(x: Tensor) -> tuple[Tensor, Affine]:
        z, lost, distance = backbone(x, Affine(np.zeros(len(x)), 1.0))
        logits = head(z)
        norm, entries = distance + lengths(z), sqrt(prod(logits.shape[2:]))
        sums = (2 * gamma * row) * norm + (2 * gamma * b + 2 * tiny) * entries * GENEROUS
        return logits, _over(lost, pairwise.backbone.value) + _over(sums, float(apart))

    return error


def _over(error: Affine, constant: float) -> Affine:
    """Error by constant, rounded up; infinite where that is 0 and there is an error."""
    return (GENEROUS / constant if constant > 0 else np.inf) * error
