r"""Margin consistency: do margins order the distances to the nearest change of class? (Ngnawe et al., NeurIPS 2024, arXiv 2406.18451)

Of a network with a proven bound it is a theorem that the distance is at least the certified radius; the report says how near they come.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sdplip.errors import InvalidProblem, SdplipError
from sdplip.robustness.arithmetic import device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.asked import run
from sdplip.robustness.attacks import own_margin, two_logits
from sdplip.robustness.decisions import class_scores
from sdplip.robustness.descent import UNIT, Box, smallest_change
from sdplip.shapes import short

Score = Literal["radius", "margin"]


@dataclass(frozen=True, eq=False)
class MarginConsistency:
    """Scores of decisions beside the smallest change that an attack found.

    Attributes:
        radius: `(n,)`, certified: no change below it turns the decision; 0 of a network without a bound.
        margin: `(n,)`, predicted logit minus the next.
        attacked: `(n,)`, length of the smallest change found that turns it; infinite where none was.
    """

    radius: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    attacked: Float[np.ndarray, " n"]

    __repr__ = short

    def order(self, score: Score = "radius") -> float:
        """Kendall's tau of a score and the attacked distance: 1 if the one orders the other."""
        return float(stats.kendalltau(self._score(score), self.attacked)[0])  # pyright: ignore[reportArgumentType]

    def detection(self, eps: float, score: Score = "radius") -> tuple[float, float]:
        """How well a low score finds decisions that were turned within `eps`: area under the ROC curve, and share of false alarms
        where 95 % are found; NaN where all or none were turned."""
        s, brittle = self._score(score), self.attacked <= eps
        if brittle.all() or not brittle.any():
            return float("nan"), float("nan")
        ranks = stats.rankdata(s)
        n, k = len(s), int(brittle.sum())
        area = (ranks[~brittle].sum() - (n - k) * (n - k + 1) / 2) / (k * (n - k))
        return float(area), float((s[~brittle] <= np.quantile(s[brittle], 0.95)).mean())

    @property
    def tightness(self) -> Float[np.ndarray, " n"]:
        """Certified radius over attacked distance, at most 1; 0 where no change was found."""
        return self.radius / self.attacked

    def _score(self, score: Score) -> np.ndarray:
        if score not in ("radius", "margin"):
            raise InvalidProblem(f"`score` must be radius or margin, but is {score!r}.")
        return self.radius if score == "radius" else self.margin


def margin_consistency(
    model: nn.Module,
    images: Tensor,
    *,
    reach: float = 4.0,
    steps: int = 15,
    halvings: int = 9,
    box: Box = UNIT,
) -> MarginConsistency:
    """Scores of the decisions of a network, and the smallest change that turns each, by descent and bisection.

    Args:
        model: any; without a proven bound its radii are 0, so that networks can be compared.
        images: `(n, ...)`, uint8 (divided by 255) or floating point as they enter the network.
        reach: no change above this is tried.

    Raises:
        InvalidProblem: images that do not fit the model, or outside of the box.
    """
    with plain_arithmetic(device_of(model)):
        network = network_in(model, "float64").requires_grad_(False)
        x = pixels(torch.as_tensor(images).to(device_of(network)), "float64")
        logits = two_logits(run(network, x))
        labels = logits.argmax(1)
        with parametrize.cached():
            found = smallest_change(
                lambda z: own_margin(network(z), labels), x, reach, halvings=halvings, steps=steps, box=box
            )
    try:
        radius = np.maximum(class_scores(model, images).below.max(1), 0.0)
    except SdplipError:
        radius = np.zeros(len(x))
    attacked = found.distance.cpu().numpy()
    assert (radius <= attacked).all(), "a certificate was broken: please report this"
    return MarginConsistency(radius, own_margin(logits, labels).cpu().numpy(), attacked)
