"""Moved to `sdplip.kernel.condition.validate`."""

from sdplip.kernel.condition.validate import as_scaling, as_weight

__all__ = ["as_scaling", "as_weight"]
