r"""Conformal sets that hold under attack: with probability $1 - \alpha$ the right class is in the set, at *every* input within eps.

    >>> q = calibrate(class_scores(model, images), labels, alpha=0.05)     # one number
    >>> robust_sets(class_scores(model, new), q, eps=0.5)                   # (n, classes)

Split conformal prediction (Vovk et al. 2005) with the signed radius of a class as its score; Lipschitz scores make it robust, as in
Massena et al. 2025 (lip-rcp, arXiv 2506.05434).
"""

# Note [robust sets]. r_k is 1-Lipschitz, below <= r <= above. Let q be the k-th smallest of the n values below_y at the calibration
# data, k = floor(alpha (n + 1)). If these and a new pair (x, y) are exchangeable, below_y(x) >= q with probability >= 1 - alpha. Then at
# every x' within eps of x: above_y(x') >= r_y(x') >= r_y(x) - eps >= below_y(x) - eps >= q - eps, so y is in the set
# {k: above_k(x') >= q - eps}. The attacker may know everything; calibration data are clean.

from fractions import Fraction
from math import floor

import numpy as np
from jaxtyping import Bool, Int
from torch import Tensor

from sdplip.errors import InvalidProblem
from sdplip.nn.given import number
from sdplip.robustness.decisions import Scores, check_labels, check_radius, lower, upper


def calibrate(
    scores: Scores, labels: Int[np.ndarray, " n"] | Int[Tensor, " n"], *, alpha: float = 0.05
) -> float:
    r"""The threshold q of sets that miss the right class with probability at most `alpha`.

    -inf where $n$ is below $1 / \alpha - 1$: so few data promise nothing short of all classes.

    Args:
        scores: of n calibration inputs, which neither training nor the choice of the model has seen.
        labels: their classes.

    Raises:
        InvalidProblem: labels that do not fit, `alpha` outside of (0, 1).
    """
    r = lower(scores)
    alpha = number("alpha", alpha)
    if not 0 < alpha < 1:
        raise InvalidProblem(f"`alpha` must lie between 0 and 1, but is {alpha}.")
    own = np.sort(r[np.arange(len(r)), check_labels(labels, r)])
    k = floor(Fraction(alpha) * (len(r) + 1))
    return float(own[k - 1]) if k else -np.inf


def robust_sets(scores: Scores, threshold: float, eps: float = 0.0) -> Bool[np.ndarray, "n classes"]:
    r"""The classes with $r_k \ge q - \epsilon$ at each input, which an attacker may have moved by `eps`.

    The right class is among them with probability $1 - \alpha$ at least, wherever within `eps` of a clean input they are asked.

    Args:
        scores: of the inputs as they arrive.
        threshold: from `calibrate`.

    Raises:
        InvalidProblem: a threshold that is NaN, a radius that is negative or NaN.
    """
    threshold = number("threshold", threshold)
    if np.isnan(threshold):
        raise InvalidProblem("`threshold` is NaN. Use that of `calibrate`.")
    return upper(scores) >= np.nextafter(threshold - check_radius(eps), -np.inf)


def worst_coverage(
    scores: Scores, labels: Int[np.ndarray, " n"] | Int[Tensor, " n"], threshold: float, eps: float
) -> float:
    """Share of clean inputs whose set keeps the right class after every change of length `eps`, where sets are made without
    thinking of one (`robust_sets` with eps 0): what an attack does to ordinary conformal sets, at most.

    Raises:
        InvalidProblem: labels that do not fit, a radius that is negative or NaN.
    """
    r = lower(scores)
    own, q = r[np.arange(len(r)), check_labels(labels, r)], number("threshold", threshold)
    return float((own >= np.nextafter(q + check_radius(eps), np.inf)).mean())
