r"""Where a network begins with convolutions: the trunk that is proven frequency by frequency, or row by row as a strip."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdplip.certificates.parts import Factor, Kernel, Matrix, certify_factors
from sdplip.certificates.rounding import up
from sdplip.certificates.strip import Layer, Strip
from sdplip.certificates.trunk import Trunk
from sdplip.networks.chain import Chain
from sdplip.networks.convolution import Convolution
from sdplip.networks.linear import fits, merged
from sdplip.networks.network import Activation, Linear

HEAD = 256
"""Rows of the matrix behind the trunk up to which its gain is computed."""


@dataclass(frozen=True, eq=False)
class Split:
    """A trunk, and the chain behind it whose first matrix is the head; `slack` is what merging the head rounded off."""

    trunk: Trunk | Strip
    tail: Chain
    slack: float


@dataclass(frozen=True, eq=False)
class TrunkSplit(Split):
    """One of convolutions of stride 1."""

    trunk: Trunk


@dataclass(frozen=True, eq=False)
class StripSplit(Split):
    """One of convolutions on images with a first and a last row."""

    trunk: Strip


def split_trunk(runs: list[list[Linear]], activations: list[Activation]) -> TrunkSplit | None:
    """The longest trunk of stride 1; None where there is none, or what stands behind it is too large."""
    layers = _leading(runs, activations, _stationary)
    if not layers:
        return None
    last = _last(runs, layers, _stationary)
    every = layers if last is None else [*layers, last]
    torus = tuple(
        max(max(_reads(layer, axis) for layer in every), layers[-1].output_size[axis])
        for axis in range(len(layers[0].image_size))
    )
    kernels = tuple(np.asarray(layer.K, np.float64) for layer in layers)
    dilations = tuple(_tuple(layer.geometry.dilation) for layer in layers)
    slopes = _slopes(activations, layers)
    if last is not None:
        end = np.asarray(last.K, np.float64), _tuple(last.geometry.dilation)
        return TrunkSplit(Trunk(kernels, dilations, slopes, torus, last=end), NOTHING, 0.0)
    behind = _behind(runs, activations, len(layers))
    if behind is None:
        return None
    tail, slack = behind
    head = tail.weights[0].reshape(-1, len(kernels[-1]), *layers[-1].output_size)
    return TrunkSplit(Trunk(kernels, dilations, slopes, torus, head=head), tail, slack)


def split_strip(runs: list[list[Linear]], activations: list[Activation]) -> StripSplit | None:
    """The longest strip, of any stride and groups; None where there is none, or what stands behind it is too large."""
    layers = _leading(runs, activations, _has_rows)
    if not layers:
        return None
    last, slopes = _last(runs, layers, _has_rows), _slopes(activations, layers)
    rows = tuple(map(_row_layer, layers))
    if last is not None:
        return StripSplit(Strip(rows, slopes, last=_row_layer(last)), NOTHING, 0.0)
    behind = _behind(runs, activations, len(layers))
    if behind is None:
        return None
    tail, slack = behind
    return StripSplit(Strip(rows, slopes, head=tail.weights[0]), tail, slack)


NOTHING = Chain((np.eye(1),), ())
"""What stands behind a trunk that ends in a convolution."""
Joins = Callable[[Convolution, list[Convolution]], bool]


def _leading(runs: list[list[Linear]], activations: list[Activation], joins: Joins) -> list[Convolution]:
    layers = list[Convolution]()
    for run, activation in zip(runs, activations, strict=False):
        layer = run[0]
        if not (isinstance(layer, Convolution) and len(run) == 1 and joins(layer, layers)):
            break
        if np.min(activation.alpha) < 0:
            break
        layers.append(layer)
    return layers


def _last(runs: list[list[Linear]], layers: list[Convolution], joins: Joins) -> Convolution | None:
    """The convolution behind the last activation, where the network ends with one that joins."""
    behind = runs[len(layers)]
    layer = behind[0] if len(behind) == 1 and len(layers) == len(runs) - 1 else None
    return layer if isinstance(layer, Convolution) and joins(layer, layers) else None


def _slopes(activations: list[Activation], layers: list[Convolution]) -> tuple[float, ...]:
    return tuple(float(np.max(a.beta)) for a in activations[: len(layers)])


def _behind(runs: list[list[Linear]], activations: list[Activation], k: int) -> tuple[Chain, float] | None:
    """The chain behind k layers, and what merging its matrices rounded off; None where it is too large."""
    if runs[k][-1].outputs > HEAD or not all(map(fits, runs[k:])):
        return None
    pieces = [merged(run) for run in runs[k:]]
    slopes = [
        (np.zeros(run[-1].outputs) + a.alpha, np.zeros(run[-1].outputs) + a.beta)
        for run, a in zip(runs[k:], activations[k:], strict=False)
    ]
    tail = Chain(tuple(p.W for p in pieces), tuple(slopes), tuple(p.error for p in pieces))
    before = certify_factors(factors_of(runs[:k], activations[:k]))
    return tail, up(before * tail.remainder())


def _has_rows(layer: Convolution, before: list[Convolution]) -> bool:  # noqa: ARG001
    """Whether the layer may join a strip: images that do not close to a circle."""
    return not layer.circular and bool(layer.K.any())


def _row_layer(layer: Convolution) -> Layer:
    return Layer(np.asarray(layer.K, np.float64), layer.geometry.expand(layer.K.shape))


def _stationary(layer: Convolution, before: list[Convolution]) -> bool:
    """Whether the layer may join the trunk: stride 1, one group, and padded like those before."""
    if layer.geometry.groups != 1 or set(_tuple(layer.geometry.stride)) != {1} or not layer.K.any():
        return False
    if layer.circular:
        return all(b.circular and b.image_size == layer.image_size for b in before) and (
            layer.output_size == layer.image_size
        )
    return not any(b.circular for b in before)


def _reads(layer: Convolution, axis: int) -> int:
    """Pixels of the image with the padding that the layer reads on the worse side; of circular layers the image."""
    h, out = layer.image_size[axis], layer.output_size[axis]
    if layer.circular:
        return h
    first = layer.before[axis]
    return max(h + max(first, out + layer.reach[axis] - first - h), out)


def factors_of(runs: Sequence[Sequence[Linear]], activations: Sequence[Activation]) -> Iterator[Factor]:
    """The layers one by one: kernels as they are, the others as dense matrices, and the largest slopes."""
    for layer in (layer for run in runs for layer in run):
        if isinstance(layer, Convolution):
            yield Kernel(layer.K, layer.geometry)
        else:
            piece = merged([layer])
            yield Matrix(piece.W, piece.error)
    for activation in activations:
        yield float(np.maximum(abs(activation.alpha), abs(activation.beta)).max())


def _tuple(axes: int | tuple[int, ...]) -> tuple[int, ...]:
    assert isinstance(axes, tuple), "a Convolution expands its geometry"
    return axes
