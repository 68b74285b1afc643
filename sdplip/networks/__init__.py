"""Networks as plain data, and one loader a format. The loaders of torch modules and ONNX are imported by their own names."""

from sdplip.networks.chain import Chain, chain_of
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal, batch_norm
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.images import from_kernels
from sdplip.networks.network import (
    Activation,
    Affine,
    Network,
    between_layers,
    from_weights,
    known_activation,
)
from sdplip.networks.pooling import AveragePool, MaxPool
from sdplip.networks.residual import Residual
from sdplip.networks.segments import segments
from sdplip.networks.slopes import SLOPES
from sdplip.networks.system import is_chain, system_layers

__all__ = [
    "SLOPES",
    "Activation",
    "Affine",
    "AveragePool",
    "Chain",
    "Convolution",
    "Diagonal",
    "GroupSort",
    "MaxPool",
    "Network",
    "Residual",
    "batch_norm",
    "between_layers",
    "chain_of",
    "from_kernels",
    "from_weights",
    "is_chain",
    "known_activation",
    "segments",
    "system_layers",
]
