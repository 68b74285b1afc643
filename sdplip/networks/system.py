"""A network as the layers that the kernel expands into one system of increments: sorting, skips and biases included."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from sdplip.certificates.rounding import UNIT
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort
from sdplip.errors import InvalidProblem
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.linear import LARGEST, fits, powers_of_two
from sdplip.networks.network import Activation, Affine, Layer, Network
from sdplip.networks.pooling import AveragePool, MaxPool
from sdplip.networks.residual import Residual


def is_chain(network: Network) -> bool:
    """Whether only elementwise activations stand between linear layers."""
    return not any(isinstance(layer, GroupSort | Residual) for layer in network.layers)


def system_layers(network: Network) -> Layers:
    """The kernel's layers of `network`, bit for bit.

    Raises:
        InvalidProblem: a layer that has no exact dense matrix here.
    """
    return _layers(network.layers, network.inputs)


def _layers(layers: Sequence[Layer], width: int) -> tuple[Map | Slope | Sort | Skip, ...]:
    found = list[Map | Slope | Sort | Skip]()
    for layer in _maxima_first(layers):
        if isinstance(layer, Activation):
            zeros = np.zeros(width)
            found.append(Slope(zeros + layer.alpha, zeros + layer.beta, layer.kind))
        elif isinstance(layer, GroupSort):
            found.append(Sort(layer.groups(width)))
        elif isinstance(layer, Residual) and layer.shortcut:
            found += _projected(layer, width)
            width = layer.shortcut[-1].outputs
        elif isinstance(layer, Residual):
            found.append(Skip(_layers(layer.branch, width)))
        elif isinstance(layer, Affine):
            found.append(Map(np.asarray(layer.W, np.float64), _double(layer.b)))
            width = layer.outputs
        elif isinstance(layer, Diagonal) and layer.inputs**2 <= LARGEST:
            found.append(Map(np.diag(np.asarray(layer.d, np.float64)), _double(layer.b), layer.error))
        elif isinstance(layer, Convolution) and fits([layer]):
            found.append(Map(layer.matrix(), layer.bias()))
            width = layer.outputs
        elif isinstance(layer, AveragePool) and fits([layer]):
            found.append(Map(A := layer.matrix(), error=0.0 if powers_of_two(A) else 2 * UNIT))
            width = layer.outputs
        elif isinstance(layer, MaxPool) and layer.inputs * layer.outputs * layer.overlap <= LARGEST:
            found += _maxima(layer)
            width = layer.outputs
        else:
            raise InvalidProblem(
                f"A {type(layer).__name__} together with sorting, residual sums or a region is not covered. Bound the parts"
                " around it by themselves and multiply."
            )
    return tuple(found)


def _projected(layer: Residual, width: int) -> Iterator[Map | Skip]:
    r"""$A x + f(x)$ as $x \mapsto (A x, x)$, f of the second part added to the first, which is kept; no entry is rounded."""
    eye, rows = np.eye(width), width
    for place, part in enumerate(_layers(layer.shortcut, width)):
        assert isinstance(part, Map)
        if len(part.W) + width > LARGEST // (rows + width):
            raise InvalidProblem(
                f"A residual sum of {len(part.W)} numbers with a shortcut from {width} is too large for a dense matrix."
            )
        below = eye if place == 0 else np.concatenate([np.zeros((width, rows)), eye], 1)
        above = part.W if place == 0 else np.concatenate([part.W, np.zeros((len(part.W), width))], 1)
        b = None if part.b is None else np.concatenate([part.b, np.zeros(width)])
        yield Map(np.concatenate([above, below]), b, part.error)
        rows = len(part.W)
    both = np.eye(rows + width)
    yield Skip((Map(both[rows:]), *_layers(layer.branch, width), Map(np.ascontiguousarray(both[:, :rows]))))
    yield Map(both[:rows])


def _maxima_first(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with every nondecreasing function behind the maxima that follow it: the same network, fewer variables."""
    found = list(layers)
    for k, layer in enumerate(found[:-1]):
        if isinstance(layer, Activation) and isinstance(found[k + 1], MaxPool) and _nondecreasing(layer):
            found[k], found[k + 1] = found[k + 1], layer
    return found


def _nondecreasing(layer: Activation) -> bool:
    """Whether it is one nondecreasing function for all neurons, which maxima pass through."""
    return bool(layer.kind) and np.ndim(layer.alpha) == np.ndim(layer.beta) == 0 and bool(layer.alpha >= 0)


def _maxima(pool: MaxPool) -> Iterator[Map | Sort]:
    r"""Maxima of pairs, of pairs of these, and so on: $\max(a, b, c, d) = \max(\max(a, b), \max(c, d))$.

    Pixels of several windows are copied first. One multiplier a pair is never looser than sorting the window as one group.
    """
    pixels = pool.inputs // pool.channels
    seen = [np.flatnonzero(row) + c * pixels for c in range(pool.channels) for row in pool.windows]
    width = pool.inputs
    if len(np.unique(read := np.concatenate(seen))) < len(read):
        yield Map(np.eye(width)[read])
        ends = np.cumsum([0, *map(len, seen)])
        seen = [np.arange(a, b) for a, b in pairwise(ends)]
        width = len(read)
    while any(len(window) > 1 for window in seen):
        yield Sort(
            np.array([pair for window in seen for pair in zip(window[::2], window[1::2], strict=False)])
        )
        seen = [np.concatenate([window[1::2], window[len(window) - len(window) % 2 :]]) for window in seen]
    yield Map(np.eye(width)[np.concatenate(seen)])


def _double(b: np.ndarray | None) -> np.ndarray | None:
    return None if b is None else np.asarray(b, np.float64)
