"""Figures of data objects. Nothing is computed here, and pyplot is not used: a `Figure` needs no display."""

from sdplip.plot.bounds import draw_bounds
from sdplip.plot.curves import draw_curves
from sdplip.plot.drawing import drawing
from sdplip.plot.scalings import comparison
from sdplip.plot.style import DASHES, INK, MARKS, PALE, PALETTE, save

__all__ = [
    "DASHES",
    "INK",
    "MARKS",
    "PALE",
    "PALETTE",
    "comparison",
    "draw_bounds",
    "draw_curves",
    "drawing",
    "save",
]
