"""Moved to `sdplip.kernel.condition` and `sdplip.proposals`."""

from sdplip.kernel.condition.powers import root_above, square_below
from sdplip.proposals.dense import certify

__all__ = ["certify", "root_above", "square_below"]
