"""The figure of a result: what its method `plot` returns."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from sdplip.plot.bounds import draw_methods
from sdplip.plot.curves import draw_curves
from sdplip.plot.scalings import comparison
from sdplip.robustness.curve import curve_of_certification


def drawing(result: Any) -> Figure:
    """The figure of a result that has one."""
    return DRAWN[type(result).__name__](result)


def _run(result: Any) -> Figure:
    from sdplip.plot.training import draw_run  # loads torch, as who holds a summary has done

    return draw_run(result)


def _sweep(result: Any) -> Figure:
    from sdplip.plot.pareto import draw_front  # loads torch, as who holds a sweep has done

    return draw_front(result)


DRAWN: dict[str, Callable[[Any], Figure]] = {
    "Certification": lambda found: draw_curves([curve_of_certification("certified", found)]),
    "CertifiedRun": lambda found: draw_curves([found.curve]),
    "CompareReport": comparison,
    "Curve": lambda found: draw_curves([found]),
    "NetworkBound": draw_methods,
    "RunSummary": _run,
    "Sweep": _sweep,
}
"""Which function draws which class."""
