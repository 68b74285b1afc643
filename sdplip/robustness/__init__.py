"""Certified radii and accuracy of trained networks, certificates of other outputs, attacks, curves as data.

Names are loaded when they are first used, so that what needs no torch does not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.robustness.attacks import empirical_accuracy, empirical_robust, pgd
    from sdplip.robustness.certification import certify_accuracy
    from sdplip.robustness.dense import certify_dense
    from sdplip.robustness.descent import minimise
    from sdplip.robustness.radii import certified_radius, class_radii

__all__ = [
    "certified_radius",
    "certify_accuracy",
    "certify_dense",
    "class_radii",
    "empirical_accuracy",
    "empirical_robust",
    "minimise",
    "pgd",
]

_HOMES = {
    "attacks": ("empirical_accuracy", "empirical_robust", "pgd"),
    "certification": ("certify_accuracy",),
    "dense": ("certify_dense",),
    "descent": ("minimise",),
    "radii": ("certified_radius", "class_radii"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
