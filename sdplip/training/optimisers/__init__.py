"""Optimisers beyond torch's own: for weights that are orthogonal themselves, and around any optimiser."""

import torch

from sdplip.training.optimisers.around import AbstractAround
from sdplip.training.optimisers.average import Average
from sdplip.training.optimisers.lookahead import Lookahead
from sdplip.training.optimisers.muon import Muon, muon_groups
from sdplip.training.optimisers.schedule_free import ScheduleFree

__all__ = ["Average", "Lookahead", "Muon", "ScheduleFree", "muon_groups", "project"]


def project(optimiser: torch.optim.Optimizer) -> None:
    """Make weights that are orthogonal themselves exactly so; of an optimiser that has none, nothing."""
    if isinstance(optimiser, Muon | AbstractAround):
        optimiser.project()
