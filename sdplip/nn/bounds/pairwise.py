r"""Constants of pairs of classes: how fast the margin between two logits can change."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn

from sdplip.certificates.rounding import GENEROUS, gamma, up
from sdplip.nn.bounds.dispatch import Context, Shape, lipschitz
from sdplip.nn.bounds.tree import Bound, product_above, shown
from sdplip.nn.bounds.weights import effective, exact
from sdplip.nn.heads import LastLayerNormalised


@dataclass(frozen=True, eq=False)
class PairwiseBound:
    r"""Proven constants of all margins $f_i - f_j$ of a network that ends in a linear layer with rows $u_i$.

    Attributes:
        network: bound of the whole network, from input to logits.
        backbone: bound of everything before the head.
        values: `(classes, classes)`, $L_{\mathrm{backbone}} \lVert u_i - u_j \rVert_2$ rounded up; 0 on the diagonal.
    """

    network: Bound
    backbone: Bound
    values: Float[np.ndarray, "classes classes"]

    def __str__(self) -> str:
        largest = shown(float(self.values.max()))
        return f"margins <= {largest} (backbone bound times distances of the head's rows)\n└─ backbone {self.backbone}"


def pairwise_lipschitz(model: nn.Sequential, *, input_shape: Shape | None = None) -> PairwiseBound:
    r"""Constants of all margins of `model`, whose last module is an `nn.Linear` or a `LastLayerNormalised`.

    Never larger than $\sqrt 2$ times the bound of the whole network for a head of norm 1, and valid for a head of any norm:
    the certified radius of class $i$ is $\min_j (f_i - f_j) / \mathrm{values}_{ij}$.

    Raises:
        RefusedModule: the backbone has no bound, or the model does not end in a linear layer.
    """
    context = Context(input_shape=None if input_shape is None else tuple(input_shape))
    if not isinstance(model, nn.Sequential) or not len(model):
        raise context.refuse(
            model, "pairwise constants need an `nn.Sequential` that ends in the head. Wrap it in one."
        )
    head = model[-1]
    whole = lipschitz(model, input_shape=input_shape)  # every check, of the head too
    if lipschitz.registered(head) is nn.Linear:
        U = effective(head, "weight", context)
    elif isinstance(head, LastLayerNormalised):
        U = exact(head.rows().detach(), head, "rows", context)
    else:
        raise context.refuse(
            head, "pairwise constants need a linear head. Put `nn.Linear` or `LastLayerNormalised` last."
        )
    parts = whole.parts[:-1]
    backbone = Bound(
        product_above(tuple(p.value for p in parts)), f"product of {len(parts)} parts", "backbone", parts
    )
    values = np.zeros((len(U), len(U)))
    for i, j in np.argwhere(~np.eye(len(U), dtype=bool)):
        values[i, j] = product_above((backbone.value, _length_above(U[i] - U[j])))
    return PairwiseBound(whole, backbone, values)


def _length_above(v: Float[np.ndarray, " n"]) -> float:
    """Euclidean length rounded up; each entry of `v` is a difference that was rounded once."""
    if not v.any():
        return 0.0
    scale = float(abs(v).max())
    return up(up(scale * float(np.linalg.norm(v / scale)) * (1 + gamma(len(v) + 8))) * GENEROUS)
