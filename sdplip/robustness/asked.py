"""What certification and attacks ask of a network and its samples, before and while it runs."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn.bounds.pairwise import head_of, pairwise_of
from sdplip.nn.bounds.tree import Bound
from sdplip.robustness.arithmetic import Precision
from sdplip.robustness.forward_error import Analysis, forward_error
from sdplip.robustness.radii import joint_constant
from sdplip.robustness.twin import Measured, measured


def check_samples(images: Tensor, labels: Tensor) -> None:
    """Refuses images and labels that do not fit together.

    Raises:
        InvalidProblem: no image, unequal numbers, values that are not finite.
    """
    if images.ndim < 2 or not len(images):
        raise InvalidProblem(
            f"`images` must have the shape (n, channels, *pixels), n > 0, but have {tuple(images.shape)}."
        )
    if images.dtype != torch.uint8 and not (images.is_floating_point() and bool(images.isfinite().all())):
        raise InvalidProblem(
            f"`images` must be uint8 or finite floating-point numbers, but are {images.dtype}."
        )
    if labels.shape != (len(images),) or labels.is_floating_point():
        raise InvalidProblem(
            f"`labels` must be {len(images)} whole numbers, one an image, but are {labels.dtype} of shape {tuple(labels.shape)}."
        )


@torch.no_grad()
def run(network: nn.Module, x: Tensor) -> Tensor:
    """The logits.

    Raises:
        InvalidProblem: the network does not take images of this shape.
    """
    try:
        logits = network(x)
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise InvalidProblem(
            f"The network cannot run on images of shape {tuple(x.shape[1:])}: {error}. Certify it on the data it was made for."
        ) from None
    if logits.ndim != 2 or len(logits) != len(x):
        raise InvalidProblem(
            f"The network must return (n, classes) logits, but returns {tuple(logits.shape)}."
        )
    return logits


def margin_constants(network: nn.Module, bound: Bound, *, single: bool) -> Float[np.ndarray, "..."]:
    r"""Constants of the margins of a network with this `bound`: of pairs of classes where it ends in a linear head, else one,
    $\sqrt 2$ times the bound; of a `single` logit the bound."""
    if single:
        return np.asarray(bound.value)
    head = head_of(network, bound)
    return np.asarray(joint_constant(bound)) if head is None else pairwise_of(head, bound).values


def analysis_of(network: nn.Module, bound: Bound, precision: Precision) -> Analysis | Measured | None:
    """The proven rounding error of every module; None in double precision if one has none. In float32, what happens at an image is
    measured where that is possible (`twin`).

    Raises:
        RefusedModule: in float32, if one has none.
    """
    try:
        found = forward_error(network, bound)
        return measured(network, bound, found) if precision == "float32" else found
    except RefusedModule:
        if precision == "float32":
            raise
        return None
