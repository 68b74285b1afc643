"""`embed`: embeddings of inputs with their constant and their rounding, for the certificates of `sdplip.robustness.similarity`."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.arithmetic.rounding import up
from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.given import one_of, tensor
from sdplip.robustness.arithmetic import Precision, device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import SCOPES, Rounding, Scope
from sdplip.robustness.forward_error import output_error
from sdplip.robustness.rounding_flow import Affine, Flow
from sdplip.robustness.similarity import Embeddings, Metric, anchor_rows
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings of inputs, and what is proven of them.

    Attributes:
        values: as the network computes them, in double precision.
        constant: how fast they move, with the rounding that grows with the distance.
        error: `(n,)`, further rounding, as a length.
        bound: of the network.
        rounding, scope: as of `certify_accuracy`.
    """

    values: Float[np.ndarray, "n features"]
    constant: float
    error: Float[np.ndarray, " n"]
    bound: Bound
    rounding: Rounding
    scope: Scope

    __repr__ = short


def embed(
    model: nn.Module,
    inputs: Tensor,
    *,
    precision: Precision = "float64",
    batch: int = 256,
    scope: Scope = "computed",
) -> Embedded:
    """Embeddings `(n, features)` of a model with a proven bound.

    Args:
        inputs: `(n, ...)`, uint8 (divided by 255) or floating point as they enter the network.
        scope: "computed" counts rounding at the inputs and around them, "exact" at the inputs alone.

    Raises:
        RefusedModule: the model has no Lipschitz bound; or float32, and a module has no proven rounding error.
        InvalidProblem: outputs of another shape.
    """
    one_of("scope", scope, SCOPES)
    x, parts, errors = tensor("inputs", inputs), list[np.ndarray](), list[np.ndarray]()
    if x.ndim < 2 or not len(x):
        raise InvalidProblem(f"`inputs` must have the shape (n, ...), n > 0, but have {tuple(x.shape)}.")
    slope = 0.0
    with plain_arithmetic(device_of(model)), torch.no_grad():
        network = network_in(model, precision)
        bound = lipschitz(network, input_shape=tuple(x.shape[1:]))
        flow = _flow(network, bound, precision)
        for some in x.split(batch):
            z = pixels(some.to(device_of(network)), precision)
            y, lost = (network(z), None) if flow is None else flow(z, Affine(np.zeros(len(z)), 1.0))[:2]
            if y.ndim != 2:
                raise InvalidProblem(
                    f"The network must return (n, features) embeddings, but returns {tuple(y.shape)}."
                )
            parts.append(y.double().cpu().numpy())
            errors.append(np.zeros(len(z)) if lost is None else lost.constant)
            slope = slope if lost is None else lost.slope
    around = scope == "computed"
    return Embedded(
        np.concatenate(parts),
        up(bound.value + slope) if around else bound.value,
        np.concatenate(errors) * (2.0 if around else 1.0),
        bound,
        "float64" if flow is None else "proven",
        scope,
    )


def _flow(network: nn.Module, bound: Bound, precision: Precision) -> Flow | None:
    """The proven rounding error; None in double precision if a module has none."""
    try:
        return output_error(network, bound)
    except RefusedModule:
        if precision == "float32":
            raise
        return None


@torch.no_grad()
def anchor_head(
    anchors: Embeddings, *, metric: Metric = "cosine", dtype: torch.dtype = torch.float64
) -> nn.Linear:
    r"""The linear layer whose largest logit is the nearest anchor, so that `nn.Sequential(model, anchor_head(anchors))` is a classifier with
    one class an anchor.

    Logits are $\langle f, a / \lVert a \rVert \rangle$ for the cosine, $\langle f, a \rangle - \lVert a \rVert^2 / 2$ for Euclidean distances, and affine
    for LipSim's metric (see `sdplip.robustness.similarity`). The certified radius of the largest one,
    $\min_b (s_a - s_b) / (L \lVert u_a - u_b \rVert)$, is the half-space radius of the nearest anchor; `certify_accuracy` and certificate files carry it,
    for the rows as they are stored.

    Args:
        anchors: `(m, features)`.
        metric: as for `half_space_radius`.
        dtype: of the stored rows.

    Raises:
        InvalidProblem: numbers that are not finite, an anchor of length 0 for the cosine.
    """
    rows, bias = anchor_rows(anchors, metric)
    head = nn.Linear(rows.shape[1], len(rows), dtype=dtype)
    head.weight.copy_(torch.from_numpy(rows))
    head.bias.copy_(torch.from_numpy(np.zeros(len(rows)) if bias is None else bias))
    return head
