"""Tables for people. Intervals are printed rounded outward, so that what one reads is still proven."""

from sdplip.cli.render.curves import RADII, curves
from sdplip.cli.render.frame import above, below, open_console, open_table, say, say_command
from sdplip.cli.render.layers import check, compare, scale
from sdplip.cli.render.networks import bound

__all__ = [
    "RADII",
    "above",
    "below",
    "bound",
    "check",
    "compare",
    "curves",
    "open_console",
    "open_table",
    "say",
    "say_command",
    "scale",
]
