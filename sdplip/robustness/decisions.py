r"""Decisions with their signed radii: which ones are brittle, where to abstain, and whether margins tell.

>>> scores = class_scores(model, images)        # signed radii of all classes, enclosed
>>> brittleness(scores, 0.5, labels)            # "14 % of the decisions are brittle ..."
>>> decide(scores, 0.5)                         # the class, or ABSTAIN where none is certified at 0.5
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sdplip.errors import InvalidProblem
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.given import floats, number, tensor
from sdplip.robustness.arithmetic import Precision, device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.asked import analysis_of, margin_constants, run
from sdplip.robustness.certification import Rounding
from sdplip.robustness.radii import class_radii
from sdplip.shapes import array, said, short

ABSTAIN = -1
"""The decision that is none."""


@dataclass(frozen=True, eq=False)
class ClassScores:
    r"""Signed radii $r_k$ of all classes at some inputs, for the network in exact arithmetic.

    Attributes:
        below, above: `(n, classes)`, proven ends of $r_k$; each $r_k$ is 1-Lipschitz in the input.
        bound: of the network.
        constants: of the margins, `(classes, classes)` or one number.
        rounding: as of `certify_accuracy`.
    """

    below: Float[np.ndarray, "n classes"]
    above: Float[np.ndarray, "n classes"]
    bound: Bound
    constants: Float[np.ndarray, "..."]
    rounding: Rounding

    __repr__ = short


Scores = ClassScores | Float[np.ndarray, "n classes"]
"""Signed radii with their ends, or those of `class_radii`, taken as they are."""


@dataclass(frozen=True, eq=False)
class Brittleness:
    """Decisions that are not certified at a radius.

    Attributes:
        eps: the radius.
        radius: `(n,)`, certified.
        brittle: `(n,)`, where the radius is not above `eps`.
        right: `(n,)`, whether the prediction is the label; None where no labels are known.
    """

    eps: float
    radius: Float[np.ndarray, " n"]
    brittle: Bool[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"] | None

    __repr__ = short

    @property
    def share(self) -> float:
        """Of brittle decisions."""
        return float(self.brittle.mean())

    @property
    def accuracy(self) -> tuple[float, float, float]:
        """Of all decisions, of those that are certified, of the brittle ones; NaN where there are none.

        Raises:
            InvalidProblem: no labels are known.
        """
        if self.right is None:
            raise InvalidProblem("Accuracy needs labels. Pass them to `brittleness`.")
        parts = (self.right, self.right[~self.brittle], self.right[self.brittle])
        return tuple(float(part.mean()) if len(part) else float("nan") for part in parts)  # type: ignore[return-value]

    def __str__(self) -> str:
        text = (
            f"{100 * self.share:.1f} % of {len(self.brittle)} decisions are brittle: a change of length {self.eps:g} may turn them, as"
            " far as is proven. No such change turns any other."
        )
        if self.right is not None:
            every, kept, lost = self.accuracy
            text += f" Right are {100 * every:.1f} % of all, {100 * kept:.1f} % of the certified, {100 * lost:.1f} % of the brittle."
        return text


def class_scores(
    model: nn.Module, images: Tensor, *, precision: Precision = "float64", batch: int = 256
) -> ClassScores:
    """Signed radii of all classes with proven ends: rounding of the forward pass included, where its modules have a rule.

    Args:
        model: as for `certify_accuracy`.
        images: `(n, ...)`, uint8 (divided by 255) or floating point as they enter the network.

    Raises:
        RefusedModule: the model has no Lipschitz bound; or float32, and a module has no proven rounding error.
        InvalidProblem: images that do not fit the model.
    """
    x = tensor("images", images)
    if x.ndim < 2 or not len(x):
        raise InvalidProblem(f"`images` must have the shape (n, ...), n > 0, but have {tuple(x.shape)}.")
    with plain_arithmetic(device_of(model)):
        network = network_in(model, precision)
        first = run(network, pixels(x[:1].to(device_of(network)), precision))
        bound = lipschitz(network, input_shape=tuple(x.shape[1:]))
        constants = margin_constants(network, bound, single=first.shape[1] == 1)
        analysis = analysis_of(network, bound, precision)
        ends = list[tuple[np.ndarray, np.ndarray]]()
        for some in x.split(batch):
            z = pixels(some.to(device_of(network)), precision)
            logits, lost = (run(network, z), 0.0) if analysis is None else analysis.everywhere(z)
            ends.append(
                (
                    class_radii(logits, constants, lost=lost),
                    class_radii(logits, constants, lost=lost, above=True),
                )
            )
    below, above = (np.concatenate(part) for part in zip(*ends, strict=True))
    return ClassScores(below, above, bound, constants, "float64" if analysis is None else "proven")


def decide(scores: Scores, eps: float) -> Int[np.ndarray, " n"]:
    """The class that is certified at `eps`, `ABSTAIN` where none is: wrong answers within `eps` of a right one become none.

    Raises:
        InvalidProblem: a radius that is negative or NaN.
    """
    r = lower(scores)
    return np.where(r.max(1) > check_radius(eps), r.argmax(1), ABSTAIN)


def brittleness(
    scores: Scores, eps: float, labels: Int[np.ndarray, " n"] | Int[Tensor, " n"] | None = None
) -> Brittleness:
    """Which decisions a change of length `eps` may turn, as far as is proven; with `labels`, and how often they are right.

    Raises:
        InvalidProblem: labels that do not fit, a radius that is negative or NaN.
    """
    r = lower(scores)
    radius = np.maximum(r.max(1), 0.0)
    right = None if labels is None else r.argmax(1) == check_labels(labels, r)
    return Brittleness(float(eps), radius, ~(radius > check_radius(eps)), right)


def lower(scores: Scores) -> Float[np.ndarray, "n classes"]:
    """Signed radii from below.

    Raises:
        InvalidProblem: no matrix.
    """
    return _matrix(scores.below if isinstance(scores, ClassScores) else scores)


def upper(scores: Scores) -> Float[np.ndarray, "n classes"]:
    """Signed radii from above; the same where only one side is known.

    Raises:
        InvalidProblem: no matrix.
    """
    return _matrix(scores.above if isinstance(scores, ClassScores) else scores)


def _matrix(values: np.ndarray) -> Float[np.ndarray, "n classes"]:
    found = floats("scores", values)
    if found.ndim != 2 or found.shape[1] < 2 or not len(found) or np.isnan(found).any():
        raise InvalidProblem(
            f"Scores must be signed radii (n, classes) of `class_radii` or `class_scores`, but have the shape {found.shape}."
        )
    return found


def check_radius(eps: float) -> float:
    """The radius.

    Raises:
        InvalidProblem: negative or NaN.
    """
    eps = number("eps", eps)
    if not eps >= 0:
        raise InvalidProblem(f"`eps` must not be negative or NaN, but is {eps}.")
    return eps


def check_labels(labels: Int[np.ndarray, " n"] | Int[Tensor, " n"], r: np.ndarray) -> Int[np.ndarray, " n"]:
    """The labels as an array.

    Raises:
        InvalidProblem: not one whole number a row of `r`, between 0 and its number of columns.
    """
    try:
        y = array(labels)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidProblem(f"`labels` must be whole numbers, but are {said(labels)}.") from None
    if y.shape != (len(r),) or y.dtype.kind not in "iu" or not ((y >= 0) & (y < r.shape[1])).all():
        raise InvalidProblem(f"`labels` must be {len(r)} whole numbers between 0 and {r.shape[1] - 1}.")
    return y.astype(np.int64)
