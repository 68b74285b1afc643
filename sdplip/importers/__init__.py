"""Checkpoints of other libraries of Lipschitz layers, by the names of their arrays: the weights that run, and what is proven of them."""

from sdplip.importers.layouts import Imported, State, imported
from sdplip.importers.recertify import LayerProof, Recertification, recertify

__all__ = ["Imported", "LayerProof", "Recertification", "State", "imported", "recertify"]
