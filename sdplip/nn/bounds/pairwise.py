r"""Constants of pairs of classes: how fast the margin between two logits can change."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import nn

from sdplip.arithmetic.rounding import GENEROUS, gamma, up
from sdplip.nn.bounds.affine import conv_geometry
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


def pairwise_lipschitz(model: nn.Module, *, input_shape: Shape | None = None) -> PairwiseBound:
    r"""Constants of all margins of `model`, whose last module is an `nn.Linear`, a `LastLayerNormalised`, or a convolution of size 1,
    whose margins are those of each pixel: an `nn.Sequential`, or, with `input_shape`, any module whose forward ends in one.

    Never larger than $\sqrt 2$ times the bound of the whole network for a head of norm 1, and valid for a head of any norm:
    the certified radius of class $i$ is $\min_j (f_i - f_j) / \mathrm{values}_{ij}$.

    Raises:
        RefusedModule: the backbone has no bound, or the model does not end in a linear layer.
    """
    context = Context(input_shape=None if input_shape is None else tuple(input_shape))
    whole = lipschitz(model, input_shape=input_shape)  # every check, of the head too
    head = head_of(model, whole) or pixel_head_of(model, whole)
    if head is None:
        raise context.refuse(
            model, "pairwise constants need a network that ends in a linear head, the last module of an `nn.Sequential` or the"
            " last thing that its forward computes. Put `nn.Linear`, `LastLayerNormalised` or a convolution of size 1 last.",
        )  # fmt: skip
    return pairwise_of(head, whole)


def pairwise_of(head: nn.Module, whole: Bound) -> PairwiseBound:
    """`pairwise_lipschitz` of a model whose head and bound are known already."""
    distances = row_distances(head)
    parts = whole.parts[:-1]
    backbone = Bound(
        product_above(tuple(p.value for p in parts)), f"product of {len(parts)} parts", "backbone", parts
    )
    values = np.zeros_like(distances)
    for i, j in np.argwhere(~np.eye(len(values), dtype=bool)):
        values[i, j] = product_above((backbone.value, float(distances[i, j])))
    return PairwiseBound(whole, backbone, values)


def row_distances(head: nn.Module) -> Float[np.ndarray, "classes classes"]:
    r"""$\lVert u_i - u_j \rVert_2$ of the rows of a linear layer as it runs, rounded up; 0 on the diagonal."""
    context = Context()
    U = (
        exact(head.rows().detach(), head, "rows", context)
        if isinstance(head, LastLayerNormalised)
        else effective(head, "weight", context)
    )
    U = U.reshape(len(U), -1)
    distances = np.zeros((len(U), len(U)))
    for i, j in np.argwhere(~np.eye(len(U), dtype=bool)):
        distances[i, j] = _length_above(U[i] - U[j])
    return distances


def head_of(model: nn.Module, bound: Bound) -> nn.Module | None:
    """The linear layer that makes the output of `model`, whose bound is the product of its parts, the last one that layer's."""
    last = _last(model, bound)
    return (
        last if last is not None and lipschitz.registered(last) in (nn.Linear, LastLayerNormalised) else None
    )


def pixel_head_of(model: nn.Module, bound: Bound) -> nn.Module | None:
    """The same where it is one matrix at every pixel: a convolution of size 1, classes being its channels."""
    last = _last(model, bound)
    if last is None or lipschitz.registered(last) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return None
    return last if _at_each_pixel(last) else None  # pyright: ignore[reportArgumentType]


def _last(model: nn.Module, bound: Bound) -> nn.Module | None:
    last = None
    if bound.head:
        last = model.get_submodule(bound.head)
    elif lipschitz.registered(model) is nn.Sequential and lipschitz.known(model) and len(model._modules):
        last = list(model._modules.values())[-1]
    return last if last is not None and lipschitz.known(last) else None


def _at_each_pixel(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    """Whether a convolution is one matrix at every pixel of its own."""
    geometry = conv_geometry(conv)
    taps = tuple(conv.weight.shape[2:])
    padded = geometry.padding is not None and any(np.atleast_1d(geometry.padding))
    return (
        set(taps) == {1}
        and set(np.atleast_1d(geometry.stride)) == {1}
        and geometry.groups == 1
        and not padded
    )


def _length_above(v: Float[np.ndarray, " n"]) -> float:
    """Euclidean length rounded up; each entry of `v` is a difference that was rounded once."""
    if not v.any():
        return 0.0
    scale = float(abs(v).max())
    return up(up(scale * float(np.linalg.norm(v / scale)) * (1 + gamma(len(v) + 8))) * GENEROUS)
