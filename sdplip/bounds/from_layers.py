"""The graph of a network of layers, as `sdplip.networks` had them."""

from collections.abc import Sequence
from math import prod

import numpy as np

from sdplip import network as graph
from sdplip.networks import (
    Activation,
    Affine,
    AveragePool,
    Convolution,
    Diagonal,
    GroupSort,
    MaxPool,
    Network,
    Residual,
)
from sdplip.networks.network import Layer


def graph_of(network: Network) -> graph.Network:
    """The same function as a graph."""
    builder = graph.Builder((network.inputs,))
    return builder.finish(_through(builder, network.layers, 0))


def _through(builder: graph.Builder, layers: Sequence[Layer], value: int) -> int:
    for layer in layers:
        n = prod(builder.shape(value))
        if isinstance(layer, Residual):
            branch = _through(builder, layer.branch, value)
            short = _through(builder, layer.shortcut, value)
            value = builder.add(graph.Sum((1, 1), prod(builder.shape(branch))), short, branch)
        else:
            value = builder.add(_operator(layer, n), value)
    return value


def _operator(layer: Layer, n: int) -> graph.Operator:
    if isinstance(layer, Affine):
        return graph.Dense(layer.W, layer.b)
    if isinstance(layer, Diagonal):
        return graph.Diagonal(layer.d, layer.b, layer.error)
    if isinstance(layer, GroupSort):
        return graph.Sort(layer.groups(n), n)
    if isinstance(layer, Activation):
        return _activation(layer, n)
    if isinstance(layer, Convolution):
        geometry = layer.geometry
        both = layer.reach if geometry.padding is None else tuple(2 * p for p in _tuple(geometry.padding))
        pads = tuple((p, total - p) for p, total in zip(layer.before, both, strict=True))
        stride, dilation = _tuple(geometry.stride), _tuple(geometry.dilation)
        return graph.Convolution(
            layer.K, layer.image_size, stride, pads, dilation, geometry.groups, layer.circular, layer.bias()
        )
    assert isinstance(layer, AveragePool | MaxPool)
    pads = tuple((p, p) for p in layer.padding)
    index = graph.pooling_windows(layer.channels, layer.image_size, layer.window, layer.stride, pads)
    if isinstance(layer, MaxPool):
        return graph.Maximum(index, layer.inputs)
    count = (
        np.full(len(index), float(prod(layer.window))) if layer.count_padding else (index >= 0).sum(1) * 1.0
    )
    return graph.Average(index, count, layer.inputs)


def _activation(layer: Activation, n: int) -> graph.Activation:
    alpha, beta = np.zeros(n) + layer.alpha, np.zeros(n) + layer.beta
    if layer.kind == "leaky_relu":
        slope = np.where(beta == 1, alpha, beta)
        same = not np.ptp(slope)
        parameters = {"negative_slope": float(slope[0]) if same else slope}
        return graph.Activation("leaky_relu", n, parameters, alpha, beta)
    return graph.Activation(layer.kind, n, {}, alpha, beta)


def _tuple(axes: int | tuple[int, ...]) -> tuple[int, ...]:
    assert isinstance(axes, tuple), "Geometry.expand returns tuples"
    return axes
