"""sdplip: certify, tighten and train Lipschitz-bounded networks from one inequality, $W^T W <= T$ with T diagonal.

Names are loaded when they are first used, so `import sdplip` costs nothing; the folder listing is the architecture.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.condition import gram, rescale, residual
    from sdplip.errors import SdplipError
    from sdplip.front import bound, certify_accuracy, check, compare, lipschitz, load, solve, train
    from sdplip.geometry import Geometry
    from sdplip.kernel.condition import Certificate, Verdict
    from sdplip.proposals import certify, certify_convolution
    from sdplip.reports import scale
    from sdplip.robustness import (
        anchored_radius,
        angle_radius,
        certify_dense,
        class_radii,
        minimise,
        robust_sets,
    )
    from sdplip.verifier.verify import verify
    from sdplip.weights import Weight, read

__version__ = "0.2.0"
"""Said here alone: both wheels and the citation have it from here."""

__all__ = [
    "Certificate",
    "Geometry",
    "SdplipError",
    "Verdict",
    "Weight",
    "anchored_radius",
    "angle_radius",
    "bound",
    "certify",
    "certify_accuracy",
    "certify_convolution",
    "certify_dense",
    "check",
    "class_radii",
    "compare",
    "gram",
    "lipschitz",
    "load",
    "minimise",
    "read",
    "rescale",
    "residual",
    "robust_sets",
    "scale",
    "solve",
    "train",
    "verify",
]

_HOMES = {
    "sdplip.kernel.condition": ("Certificate", "Verdict"),
    "sdplip.proposals": ("certify", "certify_convolution"),
    "sdplip.condition": ("gram", "rescale", "residual"),
    "sdplip.errors": ("SdplipError",),
    "sdplip.front": ("bound", "certify_accuracy", "check", "compare", "lipschitz", "load", "solve", "train"),
    "sdplip.geometry": ("Geometry",),
    "sdplip.reports": ("scale",),
    "sdplip.robustness": (
        "anchored_radius",
        "angle_radius",
        "certify_dense",
        "class_radii",
        "minimise",
        "robust_sets",
    ),
    "sdplip.verifier.verify": ("verify",),
    "sdplip.weights": ("Weight", "read"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
