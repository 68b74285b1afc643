r"""`certify_dense`: certificates of networks with an answer at every pixel, each pixel by itself and all pixels together.

>>> found = certify_dense(model, images, masks)
>>> found.radius                    # of every pixel: a picture
>>> found.accuracy(0.5)             # share of right pixels that no change of length 0.5 can lower any further
>>> found.iou(0.5)                  # the same of intersection over union, class by class
"""

# Note [pixels together]. Let the network be z = g(x), L-Lipschitz from images to the features of all pixels together, and at each
# pixel p the logits s_k(p) = <u_k, z_p> + b_k of one matrix. With L_kj = L |u_k - u_j| the signed radius
#     r_k(p) = min_j (s_k - s_j)(p) / L_kj    moves by at most    max_j |<u_k - u_j, dz_p>| / L_kj <= |dz_p| / L,
# so for any choice of a class at each pixel the vector of these radii is 1-Lipschitz: the sum of squares is at most |dz|^2 / L^2.
# Without such a matrix L_kj = sqrt 2 L of the whole network serves: |d(s_k - s_j)(p)| <= sqrt 2 |ds_p|. One constant or the other for
# all pairs, never the smaller one of both for each: at different pixels both could be attained.
# A pixel where r_y(p) > 0 keeps y unless r_y(p) becomes 0, one where r_c(p) < 0 does not become c before that: the set S of pixels
# that a change of length eps flips has sum over S of r^2 <= eps^2.
# Rounding: if computed features are off by E as one vector and computed sums of the head by d(p) in a logit, computed radii are off by
#     rho = E / L + 2 |d| / min L_kj     as one vector, and then |r_S| <= eps + rho(0), or + rho(0) + rho(eps) as it computes.

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from sdplip.arithmetic.rounding import up
from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.kernel.pixels import IGNORED, most_flips
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.pairwise import pairwise_of, pixel_head_of
from sdplip.nn.bounds.tree import Bound
from sdplip.nn.given import count, one_of
from sdplip.robustness.arithmetic import Precision, device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import SCOPES, Progress, Rounding, Scope
from sdplip.robustness.dense_error import PixelError, pixel_error
from sdplip.robustness.dense_samples import at_least, batches, check_labels, check_outputs, samples
from sdplip.robustness.flips import Sides, least_share
from sdplip.robustness.forward_error import REACH
from sdplip.robustness.radii import class_radii, joint_constant
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class DenseImage:
    """What is proven of one image.

    Attributes:
        label: class of each pixel, `IGNORED` where it does not count.
        signed: signed radii of every class at every pixel, rounded towards 0, see Note [pixels together].
        constant, slope: a change of length r reaches `constant + slope * r` with all rounding.
    """

    label: Int[np.ndarray, "*pixels"]
    signed: Float[np.ndarray, "classes *pixels"]
    constant: float
    slope: float

    __repr__ = short

    @property
    def prediction(self) -> Int[np.ndarray, "*pixels"]:
        """Class of each pixel."""
        return self.signed.argmax(0)

    @property
    def radius(self) -> Float[np.ndarray, "*pixels"]:
        """At every image strictly nearer than this the pixel keeps its class."""
        with np.errstate(invalid="ignore"):
            each = np.nextafter(
                np.nextafter(self.signed.max(0) - self.constant, -np.inf) / self.slope, -np.inf
            )
        return np.clip(np.nan_to_num(each, nan=0.0, posinf=REACH), 0.0, REACH)

    @property
    def right(self) -> Bool[np.ndarray, "*pixels"]:
        """Where the prediction is the label; where none is proven to lead, it is not."""
        return (self.prediction == self.label) & (self.signed.max(0) > 0)

    def reach(self, eps: float) -> float:
        """How far the radii of all pixels together move when the image moves by `eps`."""
        return up(up(self.slope * eps) + self.constant)

    def sides(self, k: int) -> Sides:
        """Class k on the pixels that count."""
        counts = self.label != IGNORED
        return Sides.of(self.signed[k][counts], self.label[counts] == k)


@dataclass(frozen=True, eq=False)
class DenseCertification:
    """Certificates of all pixels of some images. Radii are l2 distances of whole images, as they enter the network.

    Shares are of all pixels that count, of all images together; each image has a change of its own.

    Attributes:
        images: one by one; they may differ in size.
        bound: of the network, on this size, or on every size where there are several.
        constants: `(classes, classes)`, of the margins of a pixel, 0 on the diagonal.
        precision, rounding, scope: as of `certify_accuracy`.
        seconds: wall clock, with the proof of the bound.
    """

    images: tuple[DenseImage, ...]
    bound: Bound
    constants: Float[np.ndarray, "classes classes"]
    precision: Precision
    rounding: Rounding
    scope: Scope
    seconds: float

    __repr__ = short

    @property
    def radius(self) -> "np.ndarray | list[np.ndarray]":
        """Of every pixel, `(n, *pixels)`; a list where images differ in size."""
        return _stacked([image.radius for image in self.images])

    @property
    def prediction(self) -> "np.ndarray | list[np.ndarray]":
        """Class of every pixel, `(n, *pixels)`; a list where images differ in size."""
        return _stacked([image.prediction for image in self.images])

    @property
    def pixels(self) -> int:
        """Number of pixels that count."""
        return sum(int((image.label != IGNORED).sum()) for image in self.images)

    @property
    def clean(self) -> float:
        """Share of right pixels."""
        return sum(int(image.right.sum()) for image in self.images) / self.pixels

    def accuracy(self, eps: float | Fraction | str) -> float:
        """Share of right pixels that is left after any change of length `eps` of each image, all its pixels together."""
        r, left = at_least(eps), 0
        for image in self.images:
            costs = image.signed.max(0)[image.right]
            left += len(costs) - most_flips(costs, image.reach(r))
        return left / self.pixels

    def each_pixel(self, eps: float | Fraction | str) -> float:
        """Share of pixels that are right after any change of length `eps`, each pixel against a change of its own."""
        r = at_least(eps)
        return sum(int((image.right & (image.radius > r)).sum()) for image in self.images) / self.pixels

    def iou(self, eps: float | Fraction | str) -> Float[np.ndarray, " classes"]:
        """Intersection over union of each class after any change of length `eps` of each image; NaN of classes no mask has."""
        r = at_least(eps)
        found = np.full(len(self.constants), np.nan)
        for k in range(len(found)):
            if any((image.label == k).any() for image in self.images):
                reaches = [image.reach(r) for image in self.images]
                found[k] = least_share([image.sides(k) for image in self.images], reaches)
        return found

    def mean_iou(self, eps: float | Fraction | str) -> float:
        """Mean of `iou` over the classes that masks have: not above what any single change leaves."""
        return float(np.nanmean(self.iou(eps)))

    def dice(self, eps: float | Fraction | str) -> Float[np.ndarray, " classes"]:
        r"""Dice coefficient of each class, $2 I / (1 + I)$ of its `iou` I."""
        share = self.iou(eps)
        return 2 * share / (1 + share)


def certify_dense(
    model: nn.Module,
    images: Tensor | Sequence[Tensor],
    masks: Tensor | Sequence[Tensor],
    *,
    precision: Precision = "float64",
    batch: int = 16,
    scope: Scope = "computed",
    ignore: int | None = None,
    progress: Progress | None = None,
) -> DenseCertification:
    r"""Certify a network that answers at every pixel.

    The constants are those of pairs of classes where the model ends in a 1 x 1 convolution, else $\sqrt 2$ times its bound. One logit
    a pixel decides by its sign, classes 0 and 1.

    Args:
        model: `(n, channels, *pixels)` to `(n, classes, *pixels)`; a copy in eval mode and in that precision is certified.
        images: `(n, channels, *pixels)`, uint8 (divided by 255) or floating point as they enter the network; or a sequence of
            `(channels, *pixels)` of any sizes, for which the bound is proven for every size.
        masks: `(n, *pixels)`, or a sequence of `(*pixels)`, whole numbers: the class of each pixel.
        ignore: a label of pixels that do not count, such as 255.
        scope: "computed" counts rounding at the image and at every image around it, "exact" at the image alone.

    Raises:
        RefusedModule: the model has no Lipschitz bound; or float32, and a module has no proven rounding error.
        InvalidProblem: images, masks and outputs that do not fit together, no pixel that counts.
    """
    start = time.perf_counter()
    one_of("scope", scope, SCOPES)
    count("batch", batch)
    x, y = samples(images, masks)
    sizes = {tuple(image.shape) for image in x}
    with plain_arithmetic(device_of(model)), torch.no_grad():
        network = network_in(model, precision)
        classes = check_outputs(network, x, y, precision)
        bound = lipschitz(network, input_shape=next(iter(sizes)) if len(sizes) == 1 else None)
        constants, error = _constants(network, bound, classes), _error(network, bound, precision)
        found = list[DenseImage]()
        for some in batches(x, batch):
            z = pixels(torch.stack([x[i] for i in some]).to(device_of(network)), precision)
            logits, lost = (network(z), None) if error is None else error(z)
            for row, i in enumerate(some):
                c, e = (0.0, 0.0) if lost is None else (float(lost.constant[row]), lost.slope)
                constant, slope = (up(2 * c), up(1 + e)) if scope == "computed" else (c, 1.0)
                label = y[i].cpu().numpy().astype(np.int64)
                label = np.where(label == ignore, IGNORED, label) if ignore is not None else label
                check_labels(label, max(classes, 2), allowed=ignore is not None)
                found.append(DenseImage(label, _signed(logits[row], constants), constant, slope))
            if progress:
                progress(len(found), len(x))
    if not any((image.label != IGNORED).any() for image in found):
        raise InvalidProblem("No pixel counts: `ignore` leaves none. Pass masks with classes.")
    square = np.where(np.eye(max(classes, 2), dtype=bool), 0.0, constants)
    rounding: Rounding = "float64" if error is None else "proven"
    return DenseCertification(
        tuple(found), bound, square, precision, rounding, scope, time.perf_counter() - start
    )


def _signed(logits: Tensor, constants: np.ndarray) -> Float[np.ndarray, "classes *pixels"]:
    """Signed radii of the classes at every pixel of one image, rounded towards 0."""
    s = logits.flatten(1).T
    low, high = class_radii(s, constants), class_radii(s, constants, above=True)
    signed = np.where(low > 0, low, np.where(high < 0, high, 0.0))
    return signed.T.reshape(-1, *logits.shape[1:])


def _constants(network: nn.Module, bound: Bound, classes: int) -> Float[np.ndarray, "..."]:
    if classes == 1:
        return np.asarray(bound.value)
    head = pixel_head_of(network, bound)
    return np.asarray(joint_constant(bound)) if head is None else pairwise_of(head, bound).values


def _error(network: nn.Module, bound: Bound, precision: Precision) -> PixelError | None:
    """The proven rounding error; None in double precision if a module has none."""
    try:
        return pixel_error(network, bound)
    except RefusedModule:
        if precision == "float32":
            raise
        return None


def _stacked(parts: list[np.ndarray]) -> "np.ndarray | list[np.ndarray]":
    return np.stack(parts) if len({part.shape for part in parts}) == 1 else parts
