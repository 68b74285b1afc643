"""Files of bare weights as networks: what such a file does not say is asked, or said in the line that says "proven"."""

from sdplip.network.read.weights.assumptions import Assumptions
from sdplip.network.read.weights.between import between
from sdplip.network.read.weights.build import network_of
from sdplip.network.read.weights.chain import Chain, Layer, read_chain
from sdplip.network.read.weights.geometry import read_geometry
from sdplip.network.read.weights.read import read_weights_network, weights_network

__all__ = [
    "Assumptions",
    "Chain",
    "Layer",
    "between",
    "network_of",
    "read_chain",
    "read_geometry",
    "read_weights_network",
    "weights_network",
]
