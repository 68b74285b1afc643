"""Checkpoints of other libraries of Lipschitz layers, by the names of their arrays: the weights that run, the network, and what is proven of them."""

from sdplip.importers.architecture import load_network, network_of
from sdplip.importers.fixed import Fixed
from sdplip.importers.layer import Imported, State
from sdplip.importers.layouts import imported
from sdplip.importers.parts import ImportedNetwork
from sdplip.importers.recertify import LayerProof, NetworkProof, Recertification, recertify

__all__ = [
    "Fixed",
    "Imported",
    "ImportedNetwork",
    "LayerProof",
    "NetworkProof",
    "Recertification",
    "State",
    "imported",
    "load_network",
    "network_of",
    "recertify",
]
