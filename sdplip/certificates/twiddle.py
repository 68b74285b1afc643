"""Moved to `sdplip.arithmetic.twiddle`."""

from sdplip.arithmetic.twiddle import ERROR, table

__all__ = ["ERROR", "table"]
