"""Networks as plain data, and one loader a format. The loaders of torch modules and ONNX are imported by their own names."""

from sdplip.networks.chain import Chain, chain_of
from sdplip.networks.convolution import Convolution
from sdplip.networks.diagonal import Diagonal, batch_norm
from sdplip.networks.images import from_kernels
from sdplip.networks.network import Activation, Affine, Network, from_weights, known_activation
from sdplip.networks.pooling import AveragePool, MaxPool
from sdplip.networks.segments import segments
from sdplip.networks.slopes import SLOPES

__all__ = [
    "SLOPES",
    "Activation",
    "Affine",
    "AveragePool",
    "Chain",
    "Convolution",
    "Diagonal",
    "MaxPool",
    "Network",
    "batch_norm",
    "chain_of",
    "from_kernels",
    "from_weights",
    "known_activation",
    "segments",
]
