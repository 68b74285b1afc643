"""Rule of `forward_error` for propagation along the edges of a graph."""

import numpy as np
from torch import Tensor

from sdplip.nn.bounds.dispatch import Context
from sdplip.nn.bounds.propagation import edges_of, norm_of_edges
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.propagate import Propagate
from sdplip.robustness.rounding_flow import Affine, RoundingContext, Step, forward_error
from sdplip.robustness.rounding_maps import within_range


@forward_error.register(Propagate)
def _(module: Propagate, bound: Bound, context: RoundingContext) -> Step:  # noqa: ARG001
    r"""$|fl(A X) - A X| \le \gamma_n |A| |X|$ for rows of at most n edges, and the same of lengths."""
    A = abs(edges_of(module, Context(context.path)))
    norm_above, terms = norm_of_edges(A), int(np.diff(A.indptr).max(initial=0)) + 1
    gamma, tiny = context.format.gamma(terms), 4 * terms * context.format.tiny

    def step(z: Tensor, norm: Affine, distance: Affine) -> tuple[Tensor, Affine]:  # noqa: ARG001
        y = module(z)
        size = norm_above * norm
        return y, within_range(gamma * size + tiny * y[0].numel(), size, context.format)

    return step
