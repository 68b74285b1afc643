"""How far margins fall on a ball around an input: rows carried backward, with one scalar a layer that couples its entries."""

from sdplip.kernel.spread.fall import RULES, falls, spread_of
from sdplip.kernel.spread.walk import Front, Spread

__all__ = ["RULES", "Front", "Spread", "falls", "spread_of"]
