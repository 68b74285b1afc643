"""Certified radii and accuracy of trained networks, certificates of other outputs, attacks, curves as data.

Names are loaded when they are first used, so that what needs no torch does not load it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.robustness.attacks import empirical_accuracy, empirical_robust, pgd
    from sdplip.robustness.certification import certify_accuracy
    from sdplip.robustness.conformal import calibrate, robust_sets, worst_coverage
    from sdplip.robustness.consistency import margin_consistency
    from sdplip.robustness.decisions import brittleness, class_scores, decide
    from sdplip.robustness.dense import certify_dense
    from sdplip.robustness.descent import minimise
    from sdplip.robustness.embedding import anchor_head, embed
    from sdplip.robustness.inversion import inverse
    from sdplip.robustness.radii import certified_radius, class_radii
    from sdplip.robustness.similarity import anchored_radius, angle_radius, half_space_radius

__all__ = [
    "anchor_head",
    "anchored_radius",
    "angle_radius",
    "brittleness",
    "calibrate",
    "certified_radius",
    "certify_accuracy",
    "certify_dense",
    "class_radii",
    "class_scores",
    "decide",
    "embed",
    "empirical_accuracy",
    "empirical_robust",
    "half_space_radius",
    "inverse",
    "margin_consistency",
    "minimise",
    "pgd",
    "robust_sets",
    "worst_coverage",
]

_HOMES = {
    "attacks": ("empirical_accuracy", "empirical_robust", "pgd"),
    "certification": ("certify_accuracy",),
    "conformal": ("calibrate", "robust_sets", "worst_coverage"),
    "consistency": ("margin_consistency",),
    "decisions": ("brittleness", "class_scores", "decide"),
    "dense": ("certify_dense",),
    "descent": ("minimise",),
    "embedding": ("anchor_head", "embed"),
    "inversion": ("inverse",),
    "radii": ("certified_radius", "class_radii"),
    "similarity": ("anchored_radius", "angle_radius", "half_space_radius"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
