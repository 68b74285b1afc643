"""Networks as plain data, and one loader a format. The loaders of torch modules and ONNX are imported by their own names."""

from sdplip.networks.chain import Chain, chain_of
from sdplip.networks.network import Activation, Affine, Network, from_weights, known_activation
from sdplip.networks.slopes import SLOPES

__all__ = [
    "SLOPES",
    "Activation",
    "Affine",
    "Chain",
    "Network",
    "chain_of",
    "from_weights",
    "known_activation",
]
