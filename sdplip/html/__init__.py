"""Results as HTML: fragments for notebooks (`_repr_html_`), parts of the report page. No script, no network, no font to load."""

from typing import Any

from sdplip.html.elements import tag, text
from sdplip.html.style import SHEET

FRAGMENTS = {
    "Bound": "bound_tree",
    "Certificate": "certificate",
    "Certification": "certification",
    "CertifiedRun": "certified_run",
    "CheckReport": "check_report",
    "CompareReport": "compare_report",
    "Curve": "curve",
    "DataSet": "data_set",
    "Interval": "interval_of",
    "NetworkBound": "network_bound",
    "RunSummary": "run_summary",
    "Solution": "solution",
    "Sweep": "sweep",
    "Verification": "verification",
}
"""Which function of `sdplip.html.results` draws which class."""


def fragment(result: Any) -> str:
    """The result as a piece of HTML with its sheet: what `_repr_html_` of the classes above returns."""
    from sdplip.html import results

    drawn = vars(results)[FRAGMENTS[type(result).__name__]](result)
    return text(tag("div", tag("style", SHEET), drawn, class_="sdplip"))


__all__ = ["FRAGMENTS", "SHEET", "fragment"]
