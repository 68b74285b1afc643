"""Optimisers beyond torch's own: for weights that are orthogonal themselves, and around any optimiser."""

from sdplip.training.optimisers.muon import Muon, muon_groups

__all__ = ["Muon", "muon_groups"]
