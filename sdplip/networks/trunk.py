r"""Where a network begins with convolutions of stride 1: the trunk that the kernel proves frequency by frequency."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sdplip.certificates.parts import Factor, Kernel, Matrix, certify_factors
from sdplip.certificates.rounding import up
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

    trunk: Trunk
    tail: Chain
    slack: float


def split_trunk(runs: list[list[Linear]], activations: list[Activation]) -> Split | None:
    """The longest trunk of a network; None where there is none, or what stands behind it is too large."""
    layers = list[Convolution]()
    for run, activation in zip(runs, activations, strict=False):
        layer = run[0]
        if not (isinstance(layer, Convolution) and len(run) == 1 and _stationary(layer, layers)):
            break
        if np.min(activation.alpha) < 0:
            break
        layers.append(layer)
    if not layers:
        return None
    k = len(layers)
    behind = runs[k]
    last = behind[0] if len(behind) == 1 else None
    tail_slopes = [
        (np.zeros(run[-1].outputs) + a.alpha, np.zeros(run[-1].outputs) + a.beta)
        for run, a in zip(runs[k:], activations[k:], strict=False)
    ]
    slopes = tuple(float(np.max(a.beta)) for a in activations[:k])
    ends = isinstance(last, Convolution) and k == len(runs) - 1 and _stationary(last, layers)
    every = [*layers, last] if ends else layers
    torus = tuple(
        max(max(_reads(layer, axis) for layer in every), layers[-1].output_size[axis])
        for axis in range(len(layers[0].image_size))
    )
    kernels = tuple(np.asarray(layer.K, np.float64) for layer in layers)
    dilations = tuple(_tuple(layer.geometry.dilation) for layer in layers)
    if ends:
        assert isinstance(last, Convolution)
        end = np.asarray(last.K, np.float64), _tuple(last.geometry.dilation)
        return Split(Trunk(kernels, dilations, slopes, torus, last=end), Chain((np.eye(1),), ()), 0.0)
    if behind[-1].outputs > HEAD or not all(map(fits, runs[k:])):
        return None
    pieces = [merged(run) for run in runs[k:]]
    head = pieces[0].W.reshape(len(pieces[0].W), len(kernels[-1]), *layers[-1].output_size)
    before = certify_factors(factors_of(runs[:k], activations[:k]))
    weights = tuple(piece.W for piece in pieces)
    tail = Chain(weights, tuple(tail_slopes), tuple(piece.error for piece in pieces))
    return Split(Trunk(kernels, dilations, slopes, torus, head=head), tail, up(before * tail.remainder()))


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
