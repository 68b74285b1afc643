"""Files of kernels and matrices as a convolutional network: the caller says what the file does not."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.networks.convolution import Convolution
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.network import Activation, Affine, Layer, Network, from_weights, known_activation
from sdplip.networks.pooling import AveragePool
from sdplip.weights import Weight

Flatten = Literal["chw", "hwc", "whc"]
ORDERS: dict[str, tuple[int, int, int]] = {"chw": (0, 1, 2), "hwc": (1, 2, 0), "whc": (2, 1, 0)}
"""How the matrix behind the images counts them, slowest first: channels (torch), rows and columns; channels last is Keras."""


def from_kernels(
    weights: Sequence[Weight],
    image_size: tuple[int, ...] | None,
    activation: str | Activation | GroupSort = "relu",
    biases: Sequence[Float[np.ndarray, " m"]] | None = None,
    *,
    flatten: Flatten = "chw",
    average: bool = False,
) -> Network:
    """The network of kernels, then matrices, with `activation` between consecutive weights.

    Args:
        weights: as `sdplip.weights.read` returns them; kernels with the stride, padding, dilation and groups of their geometry.
        image_size: of the input; None if no weight is a kernel.
        activation: a name of `sdplip.networks.SLOPES`, or an `Activation`.
        biases: one vector for each weight; None is 0.
        flatten: how the first matrix counts the pixels of two-dimensional images.
        average: the first matrix takes the mean of every channel (global average pooling).

    Raises:
        InvalidWeight: a matrix before a kernel, channels that do not fit, or a kernel without image size.
    """
    count = sum(weight.array.ndim > 2 for weight in weights)
    if any(weight.array.ndim > 2 for weight in weights[count:]):
        raise InvalidWeight(
            "Kernels must come before the matrices. Choose the layers of one chain with `--layer`."
        )
    if count == 0:
        if average or flatten != "chw":
            raise InvalidWeight(
                "Without a kernel there are no images to flatten or average. Drop the option."
            )
        return from_weights(weights, activation, biases)
    between = known_activation(activation) if isinstance(activation, str) else activation
    if isinstance(between, GroupSort):
        raise InvalidWeight("Sorting after a convolution is not covered: it sorts channels, not pixels.")
    vectors = [None] * len(weights) if biases is None else list(biases)
    layers, size = list[Layer](), image_size
    for weight, b in zip(weights[:count], vectors[:count], strict=True):
        layer = Convolution(weight.array, replace(weight.geometry or Geometry(), image_size=size), b)
        _check_channels(weight, layer, layers)
        layers += [layer, between]
        size = layer.output_size
    last = layers[-2]
    assert isinstance(last, Convolution)
    channels, pixels = len(last.K), last.output_size
    for place, (weight, b) in enumerate(zip(weights[count:], vectors[count:], strict=True)):
        W = weight.array
        if place == 0:
            if average:
                zeros = (0,) * len(pixels)
                layers.append(AveragePool(channels, pixels, pixels, pixels, zeros))
            else:
                W = _flattened(weight, channels, pixels, flatten)
        layers += [Affine(W, b), between]
    return Network(tuple(layers[:-1]))


def _check_channels(weight: Weight, layer: Convolution, before: list[Layer]) -> None:
    known = next((len(b.K) for b in reversed(before) if isinstance(b, Convolution)), layer.channels)
    if known != layer.channels:
        raise InvalidWeight(
            f"`{weight.name}` takes {layer.channels} channels, but is given {known}. Kernels are (out, in / groups, *taps), first"
            " layer first; `transpose` those that are (*taps, in, out), and say their `groups`."
        )


def _flattened(weight: Weight, channels: int, pixels: tuple[int, ...], flatten: Flatten) -> np.ndarray:
    W = weight.array
    if W.shape[1] == channels and prod(pixels) > 1:
        raise InvalidWeight(
            f"`{weight.name}` takes {channels} numbers, one a channel, but the images before it have {pixels} pixels. If the"
            " network averages them first, say so: `average=True`, `--average` at the command line."
        )
    if W.shape[1] != channels * prod(pixels):
        raise InvalidWeight(
            f"`{weight.name}` takes {W.shape[1]} numbers, but the images before it have {channels} channels of {pixels} pixels."
            " Check image size, stride and padding; pooling is read from ONNX and torch modules only."
        )
    if flatten == "chw":
        return W
    if len(pixels) != 2:
        raise InvalidWeight(
            f"`flatten` {flatten!r} is about images of two axes, but these have {len(pixels)}."
        )
    order = ORDERS[flatten]
    stored = tuple(np.array((channels, *pixels))[list(order)])
    return np.ascontiguousarray(W.reshape(len(W), *stored).transpose(0, *(1 + np.argsort(order)))).reshape(
        W.shape
    )
