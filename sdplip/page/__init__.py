"""One self-contained page about a run, a network file or a certificate: what is proven, why, and the proof to take away.

`run_report`, `network_report`, `certificate_report` compute a `Report`; `Report.write` writes the page. Names are loaded when they
are first used: the report of a certificate needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.page.certificate import certificate_report
    from sdplip.page.network import network_report
    from sdplip.page.report import MOST, Attachment, Report, Section
    from sdplip.page.run import run_report

__all__ = [
    "MOST",
    "Attachment",
    "Report",
    "Section",
    "certificate_report",
    "network_report",
    "run_report",
]

_HOMES = {
    "sdplip.page.certificate": ("certificate_report",),
    "sdplip.page.network": ("network_report",),
    "sdplip.page.report": ("MOST", "Attachment", "Report", "Section"),
    "sdplip.page.run": ("run_report",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
