"""A network as the layers that the kernel expands into one system of increments: sorting, skips and biases included."""

from collections.abc import Sequence

import numpy as np

from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort
from sdplip.errors import InvalidProblem
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.linear import fits
from sdplip.networks.network import Activation, Affine, Layer, Network
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
    for layer in layers:
        if isinstance(layer, Activation):
            zeros = np.zeros(width)
            found.append(Slope(zeros + layer.alpha, zeros + layer.beta, layer.kind))
        elif isinstance(layer, GroupSort):
            found.append(Sort(layer.groups(width)))
        elif isinstance(layer, Residual):
            found.append(Skip(_layers(layer.branch, width)))
        elif isinstance(layer, Affine):
            found.append(Map(np.asarray(layer.W, np.float64), _double(layer.b)))
            width = layer.outputs
        elif isinstance(layer, Diagonal) and not layer.error:
            found.append(Map(np.diag(np.asarray(layer.d, np.float64)), _double(layer.b)))
        elif isinstance(layer, Convolution) and fits([layer]):
            found.append(Map(layer.matrix(), layer.bias()))
            width = layer.outputs
        else:
            raise InvalidProblem(
                f"A {type(layer).__name__} together with sorting, residual sums or a region is not covered. Bound the parts"
                " around it by themselves and multiply."
            )
    return tuple(found)


def _double(b: np.ndarray | None) -> np.ndarray | None:
    return None if b is None else np.asarray(b, np.float64)
