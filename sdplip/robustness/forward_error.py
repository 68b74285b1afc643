"""`forward_error(model, bound)` with all of its rules: see `sdplip.robustness.rounding_flow`."""

import sdplip.robustness.rounding_blocks
import sdplip.robustness.rounding_graphs
import sdplip.robustness.rounding_implicit
import sdplip.robustness.rounding_products
import sdplip.robustness.rounding_rules
import sdplip.robustness.rounding_sphere  # noqa: F401  (each registers its rules)
from sdplip.robustness.rounding_flow import (
    REACH,
    Affine,
    Analysis,
    RoundingContext,
    Step,
    forward_error,
    output_error,
)

__all__ = ["REACH", "Affine", "Analysis", "RoundingContext", "Step", "forward_error", "output_error"]
