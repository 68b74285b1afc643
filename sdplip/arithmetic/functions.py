r"""The elementwise functions of networks, one table for all uses: values, slopes, ranges on intervals, all rounded outward."""

from collections.abc import Mapping

from sdplip.arithmetic.elementwise import Function
from sdplip.arithmetic.piecewise import PIECEWISE
from sdplip.arithmetic.smooth import SMOOTH
from sdplip.arithmetic.waves import WAVES

FUNCTIONS: Mapping[str, Function] = {**PIECEWISE, **SMOOTH, **WAVES}
"""By name. A new function is one entry of `PIECEWISE`, `SMOOTH` or `WAVES`; the laws of the tests apply to it by themselves."""

__all__ = ["FUNCTIONS", "Function"]
