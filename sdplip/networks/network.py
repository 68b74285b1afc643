r"""A network as plain data: linear layers, activations, sorting, pooling and residual sums, first layer first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidWeight
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.pooling import AveragePool, MaxPool
from sdplip.networks.residual import Residual
from sdplip.networks.slopes import SLOPES
from sdplip.weights import Weight


@dataclass(frozen=True, eq=False)
class Affine:
    """$x \\mapsto W x + b$ with `W` of shape `(out, in)`; `b` None is 0. No bound from above depends on `b`."""

    W: Float[np.ndarray, "m n"]
    b: Float[np.ndarray, " m"] | None = None

    @property
    def inputs(self) -> int:
        return self.W.shape[1]

    @property
    def outputs(self) -> int:
        return self.W.shape[0]


@dataclass(frozen=True, eq=False)
class Activation:
    r"""An elementwise function whose difference quotients lie in $[\alpha, \beta]$.

    Attributes:
        alpha: lower slope, one number, or one for each neuron.
        beta: upper slope, likewise.
        kind: what the function is, for lower bounds, which evaluate it; "" if only the slopes are known.
    """

    alpha: float | Float[np.ndarray, " n"] = 0.0
    beta: float | Float[np.ndarray, " n"] = 1.0
    kind: str = ""


Linear = Affine | Convolution | AveragePool | Diagonal
LINEAR = (Affine, Convolution, AveragePool, Diagonal)
Layer = Linear | Activation | MaxPool | GroupSort | Residual
WIDTHLESS = (Activation, GroupSort)
"""Layers that take any number of inputs and give as many outputs."""


@dataclass(frozen=True, eq=False)
class Network:
    """Layers whose widths fit. Images are flattened channels first; linear layers may follow each other, activations not.

    Raises:
        InvalidWeight: widths that do not fit, slopes out of order, numbers that are not finite, two activations in a row.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not any(isinstance(layer, (*LINEAR, Residual)) for layer in self.layers):
            raise InvalidWeight("A network needs at least one affine layer.")
        for before, after in zip(self.layers, self.layers[1:], strict=False):
            if type(before) is type(after) and isinstance(before, Affine | Activation):
                raise InvalidWeight(
                    f"Two layers of kind {type(before).__name__} follow each other. Multiply affine maps into one, and give"
                    " composed activations as one `Activation` with the slopes of the composition."
                )
        width = None
        for place, layer in enumerate(self.layers):
            if isinstance(layer, Activation):
                _check_slopes(place, layer, width)
            elif isinstance(layer, GroupSort):
                layer.groups(width or layer.size)
            elif isinstance(layer, Residual):
                width = _check_residual(place, layer, width)
            else:
                width = (
                    _check_affine(place, layer, width)
                    if isinstance(layer, Affine)
                    else _fits(place, layer, width)
                )

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        first = next(layer for layer in self.layers if not isinstance(layer, WIDTHLESS))
        return Network(first.branch).inputs if isinstance(first, Residual) else first.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        last = next(layer for layer in reversed(self.layers) if not isinstance(layer, WIDTHLESS))
        return Network(last.branch).outputs if isinstance(last, Residual) else last.outputs


def from_weights(
    weights: Iterable[Weight | Float[np.ndarray, "m n"]],
    activation: str | Activation | GroupSort = "relu",
    biases: Sequence[Float[np.ndarray, " m"]] | None = None,
) -> Network:
    """The network with `activation` between consecutive weights; files that hold no activations mean ReLU.

    Args:
        weights: matrices `(out, in)`, as `sdplip.weights.read` returns them, or arrays.
        activation: a name of `sdplip.networks.SLOPES`, "maxmin", "groupsort:k", an `Activation` or a `GroupSort`.
        biases: one vector for each weight; None is 0.

    Raises:
        InvalidWeight: a convolution, widths that do not fit, or an activation that is not known.
    """
    between = between_layers(activation) if isinstance(activation, str) else activation
    arrays = [weight.array if isinstance(weight, Weight) else np.asarray(weight) for weight in weights]
    vectors = [None] * len(arrays) if biases is None else list(biases)
    if len(vectors) != len(arrays):
        raise InvalidWeight(f"{len(arrays)} weights need as many biases, not {len(vectors)}.")
    layers: list[Layer] = []
    for W, b in zip(arrays, vectors, strict=True):
        layers += [between, Affine(W, b)]
    return Network(tuple(layers[1:]))


def between_layers(kind: str) -> Activation | GroupSort:
    """The layer called `kind`: `known_activation`, "groupsort:k", "maxmin" (neighbours in pairs) or "maxmin-halves".

    Raises:
        InvalidWeight: nothing is known about it.
    """
    name, _, size = kind.partition(":")
    if kind == "maxmin-halves":
        return GroupSort(2, halves=True)
    if kind == "maxmin" or (name == "groupsort" and size.isdecimal()):
        return GroupSort(int(size or 2))
    return known_activation(kind)


def known_activation(kind: str) -> Activation:
    """The elementwise activation called `kind`, with the slopes that are proven for it.

    Raises:
        InvalidWeight: nothing is known about it.
    """
    if kind not in SLOPES:
        raise InvalidWeight(
            f"The slopes of activation `{kind}` are not known. Use one of {', '.join(SLOPES)}, maxmin, groupsort:k, or"
            " `Activation(alpha, beta)`."
        )
    return Activation(*SLOPES[kind], kind)


def _check_affine(place: int, layer: Affine, width: int | None) -> int:
    W, b = layer.W, layer.b
    if W.ndim != 2:
        raise InvalidWeight(
            f"Layer {place} has a weight of shape {W.shape}, but only matrices (out, in) are covered here. Kernels are for"
            " `Convolution`, which needs the size of the image too; files of them for `sdplip.networks.from_kernels`."
        )
    if width is not None and W.shape[1] != width:
        raise InvalidWeight(
            f"Layer {place} takes {W.shape[1]} numbers, but is given {width}. Weights are (out, in), first layer first;"
            " transpose those that are (in, out)."
        )
    if b is not None and (np.shape(b) != (len(W),) or not np.isfinite(b).all()):
        raise InvalidWeight(f"The bias of layer {place} must hold {len(W)} finite numbers.")
    return len(W)


def _fits(place: int, layer: Convolution | AveragePool | MaxPool | Diagonal, width: int | None) -> int:
    if width is not None and layer.inputs != width:
        raise InvalidWeight(
            f"Layer {place}, a {type(layer).__name__}, takes {layer.inputs} numbers, but is given {width}."
            " Check the channels and the size of the image."
        )
    return layer.outputs


def _check_residual(place: int, layer: Residual, width: int | None) -> int:
    branch = Network(layer.branch)
    if not all(isinstance(part, LINEAR) for part in layer.shortcut):
        raise InvalidWeight(
            f"The shortcut of layer {place} must be linear layers; those with activations are the branch."
        )
    start, end = width or branch.inputs, width or branch.inputs
    if layer.shortcut:
        shortcut = Network(layer.shortcut)
        start, end = width or shortcut.inputs, shortcut.outputs
        if shortcut.inputs != start:
            raise InvalidWeight(
                f"The shortcut of layer {place} takes {shortcut.inputs} numbers, but is given {start}."
            )
    if (branch.inputs, branch.outputs) != (start, end):
        raise InvalidWeight(
            f"The residual branch of layer {place} takes {branch.inputs} numbers and gives {branch.outputs}, but must take"
            f" {start} and give {end}, so that it can be added to its input or what the shortcut makes of it."
        )
    return branch.outputs


def _check_slopes(place: int, layer: Activation, width: int | None) -> None:
    for slope in (layer.alpha, layer.beta):
        if np.ndim(slope) > 1 or (np.ndim(slope) == 1 and width is not None and np.shape(slope) != (width,)):
            raise InvalidWeight(f"The slopes of layer {place} must be one number, or {width} of them.")
    if not (
        np.isfinite(layer.alpha).all() and np.isfinite(layer.beta).all() and np.all(layer.alpha <= layer.beta)
    ):
        raise InvalidWeight(
            f"The slopes of layer {place} must be finite with `alpha <= beta`, but are {layer.alpha} and {layer.beta}."
        )
