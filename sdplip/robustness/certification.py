r"""`certify_accuracy`: predictions, certified radii and accuracy of a network on labelled images."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sdplip.display import brief, equal, figure, hashed, html
from sdplip.errors import InvalidProblem
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.tree import Bound, best
from sdplip.nn.given import one_of, tensor
from sdplip.robustness.arithmetic import DTYPES, Precision, device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.asked import analysis_of, check_samples, margin_constants, run
from sdplip.robustness.forward_error import REACH, Analysis
from sdplip.robustness.half import HALVES, Half, HalfPass, half_network, half_pass
from sdplip.robustness.radii import certified_radius, class_logits, joint_constant, margins, predictions
from sdplip.robustness.twin import Measured
from sdplip.shapes import short

RADII = ("36/255", "72/255", "108/255", "1")
"""The radii of the literature."""

Rounding = Literal["proven", "float64"]
"""What stands behind the logits: "proven" subtracts a proven bound of all rounding errors from the margins; "float64" means
computed in double precision, with nothing subtracted."""

SCOPES = ("computed", "exact")
Scope = Literal["computed", "exact"]
"""Whose prediction is certified: that of the network as it computes, at every image around, or that of exact arithmetic."""

Progress = Callable[[int, int], None]
"""Called with the images done and their number."""


@dataclass(frozen=True, eq=False)
class Certification:
    """Certified radii of a network on labelled images. Radii are l2 distances of images in [0, 1].

    Attributes:
        label, prediction: classes.
        margin: predicted logit minus the runner-up, as computed.
        radius: at every image strictly nearer than this the same class is predicted; 0 if nothing is proven, and finite:
            at most `REACH`, farther than any image.
        bound: the tree of the Lipschitz bound of the network in the precision that was certified.
        constants: `(classes, classes)`, of the margins, 0 on the diagonal.
        precision: in which the network ran.
        rounding: what stands behind the logits.
        scope: whose prediction is certified.
        seconds: wall clock, with the proof of the bound.
    """

    label: Int[np.ndarray, " n"]
    prediction: Int[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]
    radius: Float[np.ndarray, " n"]
    bound: Bound
    constants: Float[np.ndarray, "classes classes"]
    precision: Precision | Half
    rounding: Rounding
    scope: Scope
    seconds: float = field(compare=False)

    __repr__ = brief("n", "clean", "mean_radius", "margin_constant", "precision", "scope")
    __eq__ = equal
    __hash__ = hashed
    _repr_html_ = html
    plot = figure

    @property
    def margin_constant(self) -> float:
        """The largest of the constants of the margins."""
        return float(self.constants.max())

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.label)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        return self.label == self.prediction

    @property
    def clean(self) -> float:
        """Fraction of right predictions."""
        return float(self.correct.mean())

    def certified(self, eps: float | Fraction | str) -> float:
        """Fraction predicted right at every image within `eps`: right, and the radius strictly larger.

        A `Fraction` or a text such as "36/255" is compared exactly, without rounding it to a double first.
        """
        return float(self.certified_at(eps).mean())

    def certified_at(self, eps: float | Fraction | str) -> Bool[np.ndarray, " n"]:
        """Which images are certified at `eps`."""
        return self.correct & beyond(self.radius, eps)

    @property
    def mean_radius(self) -> float:
        """Mean certified radius, where wrong predictions count 0."""
        return float(np.where(self.correct, self.radius, 0.0).mean())

    def gaps(self, left: Mapping[str, float]) -> dict[str, float]:
        """What lies between an attack and the certificate at each radius: the share of images of which nothing is known there.

        Args:
            left: accuracy that the attack leaves by radius, from `sdplip.robustness.attacks.attack_at`.
        """
        return {eps: accuracy - self.certified(eps) for eps, accuracy in left.items()}

    def to_json(
        self,
        *,
        file: str,
        data: str,
        radii: Sequence[str] = RADII,
        empirical: dict[str, dict[str, float]] | None = None,
    ) -> dict[str, Any]:
        """What `sdplip certify --json` prints."""
        return {
            "file": file,
            "data": data,
            "n": self.n,
            "clean": self.clean,
            "bound": self.bound.value,
            "margin_constant": self.margin_constant,
            "certified": {eps: self.certified(eps) for eps in radii},
            "mean_radius": self.mean_radius,
            "empirical": empirical or {},
            "gaps": {attack: self.gaps(left) for attack, left in (empirical or {}).items()},
            "rounding": self.rounding,
            "precision": self.precision,
            "scope": self.scope,
            "tree": str(self.bound).splitlines(),
            "seconds": self.seconds,
        }


def beyond(radius: Float[np.ndarray, " n"], eps: float | Fraction | str) -> Bool[np.ndarray, " n"]:
    """Which radii are strictly larger than `eps`, compared exactly.

    Raises:
        InvalidProblem: no number, or a negative one.
    """
    try:
        exact = Fraction(eps)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError):
        raise InvalidProblem(
            f"A radius must be a number or a fraction such as '36/255', but is {eps!r}."
        ) from None
    if exact < 0:
        raise InvalidProblem(f"A radius must not be negative, but is {eps}.")
    threshold = float(exact)  # the nearest double; radii are doubles
    return radius > threshold if Fraction(threshold) >= exact else radius >= np.nextafter(threshold, 2)


@dataclass(frozen=True, eq=False)
class Tighter:
    """Proven constants of a network from elsewhere than `lipschitz`.

    Attributes:
        network: of the whole network, None if there is none.
        margins: `(classes, classes)`, of all margins.
    """

    network: Bound | None
    margins: Float[np.ndarray, "classes classes"]

    __repr__ = short


def certify_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    precision: Precision | Half = "float64",
    batch: int = 256,
    scope: Scope = "computed",
    whole: Bound | None = None,
    tighter: Callable[[nn.Module, np.ndarray], Tighter] | None = None,
    progress: Progress | None = None,
) -> Certification:
    r"""Certify `model` at labelled images.

    The constants of the margins are those of pairs of classes if the model ends in a linear head, else $\sqrt 2$ times the bound
    of the network. A network of one logit decides by its sign, labels 0 and 1, and the constant is its own.

    Args:
        model: any that `lipschitz` accepts with the shape of these images, modules with a forward of their own included; a copy
            in eval mode and in that precision is certified, see `network_in`.
        images: `(n, channels, *pixels)`, uint8 (divided by 255), or floating point as they enter the network: any numbers, and radii
            are lengths in their unit. `sdplip.certify_accuracy` refuses those outside of its `limits`.
        labels: `(n,)` whole numbers.
        precision: "float64", or "float32": the rounding error that is subtracted is then some hundred million times larger. "bfloat16"
            and "float16" certify the network whose weights are rounded to that format, with the predictions of its pass in it; only
            with scope "exact".
        scope: "computed" counts rounding at the image and at every image around it, "exact" at the image alone.
        whole: another proven bound of the network with these very numbers, which may be smaller; `sdplip.bounds` has such.
        tighter: asked once, with the very network that is certified and the constants so far, for further ones that are proven
            for its numbers; one logit f is then read as the two 0, f.

    Raises:
        RefusedModule: the model has no Lipschitz bound; or float32, and a module has no proven rounding error.
        RefusedArithmetic: this process or its device multiplies in an arithmetic whose rounding has no bound.
        InvalidProblem: images and labels that do not fit together or do not fit the model; no module; an unknown word.
    """
    start = time.perf_counter()
    one_of("scope", scope, SCOPES)
    one_of("precision", precision, (*DTYPES, *HALVES))
    images, labels = tensor("images", images), tensor("labels", labels)
    check_samples(images, labels)
    shape = tuple(images.shape[1:])
    with plain_arithmetic(device_of(model)):
        entering: Precision = "float32" if precision == "float32" else "float64"
        if precision == "bfloat16" or precision == "float16":
            half, network = half_network(model, precision, scope)
        else:
            half, network = None, network_in(model, precision)
        classes = run(network, pixels(images[:1].to(device_of(network)), entering)).shape[1]
        single, classes = classes == 1, max(classes, 2)
        if not 0 <= int(labels.min()) <= int(labels.max()) < classes:  # all refused before the long proof
            raise InvalidProblem(
                f"`labels` lie between {int(labels.min())} and {int(labels.max())}, but the network has {classes} classes"
                f"{': 0 and 1, the sign of its one logit' if single else ''}."
            )
        bound = layers = lipschitz(network, input_shape=shape)
        constants = margin_constants(network, bound, single=single)
        if whole is not None:
            constants = np.minimum(constants, whole.value if single else joint_constant(whole))
        if tighter is not None:
            better = tighter(network, _square(constants, classes))
            constants = np.minimum(constants, better.margins)
            bound = bound if better.network is None else best(better.network, bound)
        analysis = (
            analysis_of(network, layers, entering) if half is None else half_pass(half, network, layers)
        )
        parts = []
        for x in images.split(batch):
            x = pixels(x.to(device_of(network)), entering)
            parts.append(_certified(network, x, _square(constants, classes), analysis, scope))
            if progress:
                progress(sum(len(part[0]) for part in parts), len(images))
    prediction, margin, radius = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Certification(
        labels.cpu().numpy().astype(np.int64),
        prediction,
        margin,
        radius,
        bound if whole is None else best(whole, bound),
        _square(constants, classes),
        precision,
        "proven" if analysis else "float64",
        scope,
        time.perf_counter() - start,
    )


def _certified(
    network: nn.Module,
    x: Tensor,
    constants: np.ndarray,
    analysis: Analysis | Measured | HalfPass | None,
    scope: Scope,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, margins and radii of a batch."""
    if analysis is None:
        logits, error = run(network, x), None
    else:
        logits, lost = analysis(x)
        error = lost.here_and_around() if scope == "computed" else lost.here()
    logits = class_logits(logits)
    radius = np.minimum(certified_radius(logits, constants, error=error), REACH)
    return predictions(logits), margins(logits).min(-1), radius


def _square(constants: np.ndarray, classes: int) -> Float[np.ndarray, "classes classes"]:
    """Constants of all pairs, 0 on the diagonal."""
    return np.where(np.eye(classes, dtype=bool), 0.0, constants)
