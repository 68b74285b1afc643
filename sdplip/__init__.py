"""sdplip: certify, tighten and train Lipschitz-bounded networks from one inequality, $W^T W <= T$ with T diagonal.

Names are loaded when they are first used, so `import sdplip` costs nothing; the folder listing is the architecture.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.condition import gram, rescale, residual
    from sdplip.errors import SdplipError
    from sdplip.geometry import Geometry
    from sdplip.kernel.condition import Certificate, Verdict
    from sdplip.proposals import certify, certify_convolution
    from sdplip.reports import check, compare, scale
    from sdplip.solvers import solve
    from sdplip.weights import Weight, read

__all__ = [
    "Certificate",
    "Geometry",
    "SdplipError",
    "Verdict",
    "Weight",
    "certify",
    "certify_convolution",
    "check",
    "compare",
    "gram",
    "read",
    "rescale",
    "residual",
    "scale",
    "solve",
]

_HOMES = {
    "sdplip.kernel.condition": ("Certificate", "Verdict"),
    "sdplip.proposals": ("certify", "certify_convolution"),
    "sdplip.condition": ("gram", "rescale", "residual"),
    "sdplip.errors": ("SdplipError",),
    "sdplip.geometry": ("Geometry",),
    "sdplip.reports": ("check", "compare", "scale"),
    "sdplip.solvers": ("solve",),
    "sdplip.weights": ("Weight", "read"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("sdplip")
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__, "__version__"]
