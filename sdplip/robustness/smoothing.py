r"""Randomized smoothing, the baseline: certificates that hold with a probability, of a classifier that can only be sampled.

The smoothed classifier answers with the class that a base network gives most often at $x + \sigma \epsilon$, Gaussian noise. What
is certified about it rests on samples, so every certificate fails with probability at most `alpha` over the noise drawn. Nothing
here is a proof, and nothing here is ever mixed with one.
"""

# Note [smoothing]. n samples, n_0 others that select the class y.
# Cohen (Cohen, Rosenfeld, Kolter 2019, Theorem 1): p = the Clopper-Pearson lower bound, at confidence 1 - alpha, of the probability
#   of y; radius sigma Phi^-1(p) if p > 1/2. Any base. Never above sigma Phi^-1(alpha^(1/n)), what n hits in n samples give.
# Lipschitz score (after Delattre et al. 2024, "The Lipschitz-variance-margin tradeoff", arXiv 2309.16883; here with signed radii as
#   the margin): s_k(x) = clip(1/2 + a r_k(x), 0, 1) with r_k of `class_radii`, which is 1-Lipschitz, and r_k + r_j <= 0. So
#   s_k + s_j <= 1, and E s_y > 1/2 makes y the class of the largest mean score. E s_y from below: empirical Bernstein (Maurer and
#   Pontil 2009, Theorem 4), mean - sqrt(2 V log(2 / alpha) / n) - 7 log(2 / alpha) / (3 (n - 1)) with the sample variance V.
#   With p that bound, the larger of two radii holds, since both follow from the one event E s_y >= p:
#   sigma Phi^-1(p), because Phi^-1(E s) is 1 / sigma-Lipschitz for every score in [0, 1] (Salman et al. 2019, Lemma 2), and
#   (p - 1/2) / K with K = a erf(1 / (2 sqrt2 a sigma)): E s' = int s' phi with 0 <= |s'| <= a and int |s'| <= 1 along a line is largest
#   for the slope a on the middle interval of length 1 / a. The slope a is chosen by the n_0 other samples, so no choice is paid for.

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import betainc, erf
from scipy.stats import beta, norm
from torch import Tensor, nn

from sdplip.errors import InvalidProblem
from sdplip.robustness.arithmetic import Precision, device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import Progress, beyond, check_samples, run
from sdplip.robustness.radii import Constants, class_radii, predictions
from sdplip.shapes import short

Method = Literal["cohen", "lipschitz"]
SLOPES = (0.5, 1.0, 2.0, 4.0)
"""Slopes of scores that are tried, times 1 / sigma."""

BLOCK = 256
"""Samples that are drawn at once, so that the noise does not depend on the batch."""

SLACK = 1 - 1e-9
"""Covers the rounding of quantiles and special functions."""


@dataclass(frozen=True)
class Smoothing:
    """How a network is smoothed and sampled.

    Attributes:
        sigma: standard deviation of the noise on every pixel in [0, 1].
        samples: of each image, from which its certificate follows.
        alpha: probability, over the noise drawn, that the certificate of an image is wrong.
        selection: further samples that select the class.
        seed: of the noise; image k always gets the same.

    Raises:
        InvalidProblem: a value outside of its range, or too few samples to certify anything.
    """

    sigma: float
    samples: int = 1000
    alpha: float = 0.001
    selection: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.sigma < np.inf and 0 < self.alpha < 1):
            raise InvalidProblem(
                f"Smoothing needs `sigma` > 0 and 0 < `alpha` < 1, but they are {self.sigma} and {self.alpha}. Use 0.25 and 0.001."
            )
        least = math.floor(math.log2(1 / self.alpha)) + 1
        if self.samples < max(2, least) or self.selection < 1:
            raise InvalidProblem(
                f"With alpha = {self.alpha:g} at least {max(2, least)} `samples` and one for the `selection` are needed to certify"
                f" anything, but they are {self.samples} and {self.selection}. Use 1000 and 100."
            )

    @property
    def probability(self) -> float:
        """With which the certificate of one image holds, at least."""
        return 1 - self.alpha

    @property
    def evaluations(self) -> int:
        """Of the network for one image."""
        return self.samples + self.selection

    @property
    def ceiling(self) -> float:
        """The largest radius that Cohen's certificate can give."""
        return self.sigma * float(norm.ppf(self.alpha ** (1 / self.samples)))


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Certificates of a smoothed classifier, each of which holds with a probability.

    Attributes:
        method: "cohen" or "lipschitz", see Note [smoothing].
        smoothing: how it was sampled.
        label: classes of the images.
        prediction: classes of the smoothed classifier; -1 where it abstains.
        radius: the smoothed classifier keeps its class at every image nearer than this, with at least `probability`, image by
            image; 0 where it abstains.
        precision: in which the network ran. Its scores are taken as computed.
        seconds: wall clock of all images, of both methods together.
    """

    method: Method
    smoothing: Smoothing
    label: Int[np.ndarray, " n"]
    prediction: Int[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]
    precision: Precision
    seconds: float

    __repr__ = short

    @property
    def probability(self) -> float:
        """With which the certificate of one image holds, at least."""
        return self.smoothing.probability

    @property
    def evaluations(self) -> int:
        """Of the network for one image."""
        return self.smoothing.evaluations

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.label)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        return self.label == self.prediction

    @property
    def clean(self) -> float:
        """Fraction of right predictions of the smoothed classifier; abstentions are wrong."""
        return float(self.correct.mean())

    def certified(self, eps: float | str) -> float:
        """Fraction predicted right with a radius beyond `eps`; every certificate counted holds with `probability`."""
        return float((self.correct & beyond(self.radius, eps)).mean())

    def to_json(self, radii: tuple[str, ...]) -> dict[str, Any]:
        """What `sdplip certify --smoothing --json` prints of this method."""
        return {
            "clean": self.clean,
            "abstained": float((self.prediction < 0).mean()),
            "certified_with_probability": {eps: self.certified(eps) for eps in radii},
            "mean_radius": float(np.where(self.correct, self.radius, 0.0).mean()),
        }


def certify_smoothed(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    smoothing: Smoothing,
    *,
    constants: Constants | None = None,
    precision: Precision = "float64",
    batch: int = 256,
    progress: Progress | None = None,
) -> tuple[Smoothed, ...]:
    """Cohen's certificate of the smoothed network and, with `constants`, that of the Lipschitz score, on the same samples.

    Args:
        model: any network of logits; a copy in eval mode is sampled.
        images, labels: as for `certify_accuracy`.
        constants: proven constants of the margins, such as `Certification.constants`.
        precision: in which the network runs.
        batch: noisy images at a time, at most `BLOCK`.

    Raises:
        InvalidProblem: images and labels that do not fit together or do not fit the model.
    """
    begin = time.perf_counter()
    check_samples(images, labels)
    network = network_in(model, precision)
    if isinstance(constants, np.ndarray) and constants.ndim:
        constants = np.maximum(constants, constants.T)  # r_k + r_j <= 0 needs one constant for both
    rows = list[list[tuple[int, float]]]()
    with plain_arithmetic(device_of(network)):
        for k in range(len(images)):
            x = pixels(images[k : k + 1].to(device_of(network)), precision)
            logits = _sampled(network, x, smoothing, k, batch)
            first, rest = logits[: smoothing.selection], logits[smoothing.selection :]
            y = _mode(predictions(first))
            found = [_cohen(predictions(rest), y, smoothing)]
            if constants is not None:
                before, after = (class_radii(part, constants)[:, y] for part in (first, rest))
                found.append(_score(before, after, y, smoothing))
            rows.append(found)
            if progress:
                progress(k + 1, len(images))
    methods: tuple[Method, ...] = ("cohen", "lipschitz")
    label, seconds = labels.cpu().numpy().astype(np.int64), time.perf_counter() - begin
    return tuple(
        Smoothed(
            methods[m],
            smoothing,
            label,
            np.array([row[m][0] for row in rows]),
            np.array([row[m][1] for row in rows]),
            precision,
            seconds,
        )
        for m in range(len(rows[0]))
    )


def proportion_below(hits: int, samples: int, alpha: float) -> float:
    """The exact lower bound of a proportion by Clopper and Pearson (1934): above it with probability at most `alpha`."""
    if hits == 0:
        return 0.0
    p = float(beta.ppf(alpha, hits, samples - hits + 1)) * SLACK
    assert betainc(hits, samples - hits + 1, p) <= alpha  # P(at least so many hits | p)
    return p


def mean_below(scores: Float[np.ndarray, " n"], alpha: float) -> float:
    """The lower bound of the mean of scores in [0, 1] by empirical Bernstein: above it with probability at most `alpha`."""
    n, log = len(scores), math.log(2 / alpha)
    return float(
        (scores.mean() - math.sqrt(2 * scores.var(ddof=1) * log / n) - 7 * log / (3 * (n - 1))) * SLACK
    )


def score_constant(slope: float, sigma: float) -> float:
    """The constant of a smoothed score in [0, 1] that has the constant `slope` itself, see Note [smoothing]."""
    return slope * float(erf(1 / (2 * math.sqrt(2) * slope * sigma))) / SLACK


def _sampled(
    network: nn.Module, x: Tensor, smoothing: Smoothing, image: int, batch: int
) -> Float[np.ndarray, "samples classes"]:
    """Logits at noisy copies of one image, those of the selection first."""
    seed = int(np.random.SeedSequence([smoothing.seed, image]).generate_state(1)[0])  # torch takes 32 bits
    generator = torch.Generator(x.device).manual_seed(seed)
    parts = list[Tensor]()
    for start in range(0, smoothing.evaluations, BLOCK):
        count = min(BLOCK, smoothing.evaluations - start)
        noise = torch.randn(count, *x.shape[1:], generator=generator, device=x.device, dtype=x.dtype)
        parts += [run(network, x + smoothing.sigma * part) for part in noise.split(batch)]
    return torch.cat(parts).double().cpu().numpy()


def _mode(classes: Int[np.ndarray, " n"]) -> int:
    return int(np.bincount(classes).argmax())


def _cohen(classes: Int[np.ndarray, " n"], y: int, smoothing: Smoothing) -> tuple[int, float]:
    p = proportion_below(int((classes == y).sum()), len(classes), smoothing.alpha)
    return (y, smoothing.sigma * float(norm.ppf(p)) * SLACK) if p > 0.5 else (-1, 0.0)


def _score(
    first: Float[np.ndarray, " m"], rest: Float[np.ndarray, " n"], y: int, smoothing: Smoothing
) -> tuple[int, float]:
    """The certificate of the Lipschitz score with the slope that the first samples choose."""
    slopes = [factor / smoothing.sigma for factor in SLOPES]
    chosen = max(slopes, key=lambda a: _reach(float(_scores(first, a).mean()), a, smoothing.sigma))
    p = mean_below(_scores(rest, chosen), smoothing.alpha)
    return (y, _reach(p, chosen, smoothing.sigma)) if p > 0.5 else (-1, 0.0)


def _scores(signed: Float[np.ndarray, " n"], slope: float) -> Float[np.ndarray, " n"]:
    return np.clip(0.5 + slope * signed, 0, 1)


def _reach(p: float, slope: float, sigma: float) -> float:
    """The larger of the two radii of a mean score of at least `p`."""
    if p <= 0.5:
        return 0.0
    return max(sigma * float(norm.ppf(min(p, SLACK))), (p - 0.5) / score_constant(slope, sigma)) * SLACK
