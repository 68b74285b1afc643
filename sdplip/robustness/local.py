r"""Certified radii from constants of a ball around each image, instead of constants of all inputs, of torch models.

`sdplip.kernel.centred` proves the constants, one pass through the network for all classes; that of all inputs is used where it is
smaller, so no radius falls. Rounding is subtracted as `certify_accuracy` does. `sdplip.robustness.around` has the search, and the
same for graphs with a proof.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from sdplip.errors import InvalidProblem, NotProvable, RefusedModule
from sdplip.kernel.accuracy import value_constants, with_classes
from sdplip.kernel.around import Ball, Margins, Surroundings, pair_network, rows
from sdplip.kernel.centred import Around, Centre, Front, smooth
from sdplip.kernel.check import conclude
from sdplip.kernel.system import variables
from sdplip.network import Network
from sdplip.network.read.torch import read_module
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.robustness.arithmetic import device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.around import (
    BENT,
    NEURONS,
    bent_less,
    enlarge,
    largest_radius,
    own_proof,
    refined_radius,
)
from sdplip.robustness.asked import analysis_of, check_samples, run
from sdplip.robustness.certification import RADII, Certification, Progress
from sdplip.robustness.graph_accuracy import Certified, propose_margins
from sdplip.robustness.half import full
from sdplip.robustness.offsets import Offsets, offset_ball
from sdplip.robustness.radii import MarginError, certified_radius, class_logits, margins
from sdplip.verifier.claim import AccuracyClaim


@dataclass(frozen=True, eq=False)
class LocalRadii:
    """The same images certified by constants of all inputs and by those of balls.

    Attributes:
        before: by constants of all inputs.
        after: with the larger radius of both; its `constants` are still those of all inputs.
        balls: how many were tried, over all images.
        seconds: wall time.
    """

    before: Certification
    after: Certification
    balls: int
    seconds: float

    @property
    def gain(self) -> float:
        """Mean of the radius after divided by the one before, over images that are right and certified at all."""
        sure = self.before.correct & (self.before.radius > 0)
        return float(np.mean(self.after.radius[sure] / self.before.radius[sure])) if sure.any() else 1.0

    def to_json(self, radii: tuple[str, ...] = RADII) -> dict[str, Any]:
        """What `sdplip tighten --local --json` prints under `local`."""
        sides = {
            name: {
                "certified": {eps: side.certified(eps) for eps in radii},
                "mean_radius": side.mean_radius,
            }
            for name, side in (("before", self.before), ("after", self.after))
        }
        return {
            "n": self.before.n,
            "clean": self.before.clean,
            **sides,
            "gain": self.gain,
            "balls": self.balls,
            "seconds": self.seconds,
        }


def local_radii(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    certified: Certification,
    *,
    bent: int = BENT,
    curvature: bool = True,
    lines: bool = True,
    progress: Progress | None = None,
) -> LocalRadii:
    """Larger radii for images that `certify_accuracy` or `tighten` has certified, each from balls of its own.

    Images of wrong predictions and of radius 0 keep their radius.

    Args:
        model: the one that was certified, any that `read_module` reads.
        images, labels: the first ones of those that were certified, all or some.
        certified: their certification; precision and scope are taken from it.
        bent: where at most so many neurons bend, solve for multipliers of the pairs of classes that limit the radius; 0 is
            nowhere. A solve costs a cube of them: 0.1 s at 128, a second or more at 320.
        curvature: use gradient and curvature of margins where functions are smooth.
        lines: then try larger balls by lines with offsets.
        progress: called with the images done and their number.

    Raises:
        RefusedModule: a module that is not understood.
        InvalidProblem: more neurons than `NEURONS`; images that are not those that were certified.
    """
    begin = time.perf_counter()
    check_samples(images, labels)
    before = first(certified, len(images))
    if not np.array_equal(labels.cpu().numpy(), before.label):
        raise InvalidProblem(
            "These labels are not those of `certified`. Pass the images that it speaks of, from the first one."
        )
    shape = tuple(images.shape[1:])
    radius, balls = before.radius.copy(), 0
    with plain_arithmetic(device_of(model)):
        precision = full(certified.precision)
        network = network_in(model, precision)
        front = front_of(network, shape)
        offsets = _offsets(network, shape)
        analysis = analysis_of(network, lipschitz(network, input_shape=shape), precision)
        todo = np.flatnonzero(before.correct & (before.radius > 0))
        curved = curvature and smooth(front.network)
        for done, i in enumerate(todo, 1):
            x = pixels(images[i : i + 1].to(device_of(network)), precision)
            error: MarginError | None = None
            if analysis is None:
                logits = run(network, x)
            else:
                logits, lost = analysis(x)
                error = lost.here_and_around() if certified.scope == "computed" else lost.here()
            logits = torch.from_numpy(class_logits(logits))
            radius_on = _Radius(front, x, logits, error, certified.constants, bent, curved)
            radius[i], tried = largest_radius(radius_on, float(radius[i]))
            balls += tried
            if bent:
                radius[i], tried = refined_radius(radius_on.by_pairs, float(radius[i]))
                balls += tried
            if lines and not offsets.unfit:
                ball, tried = offset_ball(offsets, radius_on.point, radius_on.known, Ball(float(radius[i])))
                radius[i], balls = ball.radius, balls + tried
            if progress is not None:
                progress(done, len(todo))
    after = replace(before, radius=np.maximum(radius, before.radius))
    return LocalRadii(before, after, balls, time.perf_counter() - begin)


def local_radii_graph(
    network: Network,
    images: Shaped[np.ndarray, "n *pixels"],
    certified: Certified,
    *,
    bent: int = BENT,
    curvature: bool = True,
    progress: Progress | None = None,
) -> tuple[LocalRadii, Certified]:
    """The same of a graph by the kernel alone, with the proof of what is larger.

    Args:
        images: the first ones of those that were certified, all or some.
        certified: from `certify_graph` or `tighten_graph`.
        bent, curvature, progress: as for `local_radii`.

    Raises:
        NotProvable: matrices that are too large to be followed around an image.
    """
    begin, n = time.perf_counter(), len(images)
    claim = certified.claim
    few = AccuracyClaim(
        claim.arithmetic,
        claim.index[:n],
        claim.sha256[:n],
        claim.label[:n],
        claim.prediction[:n],
        claim.radius[:n],
    )
    known = Certified(first(certified.certification, n), few, certified.proof)
    found = enlarge(network, images, known, bent=bent, curvature=curvature, progress=progress)
    balls = 0 if found is known else len(found.proof.data["images"])
    seconds = time.perf_counter() - begin
    return LocalRadii(known.certification, found.certification, balls, seconds), found


def first(certified: Certification, n: int) -> Certification:
    """The certification of the first `n` images.

    Raises:
        InvalidProblem: it speaks of fewer.
    """
    if n > certified.n:
        raise InvalidProblem(f"{n} images were given, but only {certified.n} were certified.")
    names = ("label", "prediction", "margin", "radius")
    return replace(certified, **{name: vars(certified)[name][:n] for name in names})


def front_of(network: nn.Module, shape: tuple[int, ...]) -> Front:
    """The network as the kernel follows it around a point; one logit f is read as the two 0, f.

    Raises:
        RefusedModule: a module that is not understood.
        InvalidProblem: too many neurons.
    """
    return front_of_graph(with_classes(read_module(network, shape)))


def _offsets(network: nn.Module, shape: tuple[int, ...]) -> Offsets:
    """Lines with offsets on its balls, with the constants that norms prove."""
    graph = with_classes(read_module(network, shape))
    try:
        base = propose_margins(graph, method="product")
        return Offsets(Surroundings(graph, value_constants(graph, base, conclude)))
    except NotProvable:
        return Offsets(Surroundings(graph, {}))


def front_of_graph(graph: Network) -> Front:
    """The same of a graph."""
    count = variables(graph)
    if count > NEURONS:
        raise InvalidProblem(
            f"{count} nonlinear neurons are more than the {NEURONS} that are followed around an image, because their matrices"
            " are dense. Use constants of all inputs."
        )
    try:
        return Front.of(graph)
    except NotProvable as error:
        raise RefusedModule(f"This network cannot be followed around an image. {error}") from None


@dataclass(eq=False)
class _Radius:
    """The radius that the constants of a ball prove; it counts up to that of the ball."""

    front: Front
    x: Tensor
    logits: Tensor
    error: MarginError | None
    everywhere: Float[np.ndarray, "classes classes"]
    bent: int
    curved: bool
    centre: Centre = field(init=False)

    def __post_init__(self) -> None:
        self.centre = self.front.at(self.point)

    @property
    def point(self) -> Float[np.ndarray, " n"]:
        """The image as doubles."""
        return self.x[0].detach().to("cpu", torch.float64).numpy().reshape(-1)

    @property
    def known(self) -> Margins:
        """The margins as the kernel knows them, less what rounding takes at the image."""
        apart, slopes = margins(self.logits)[0], np.zeros(self.logits.shape[1])
        left = apart
        if self.error is not None:
            left, slopes = np.nextafter(apart - self.error.constant[0], -np.inf), self.error.slope[0]
        left = np.where(np.arange(len(left)) == self._winner, np.inf, left)
        return Margins(self._winner, float(apart.min()), left, self.everywhere[self._winner], slopes)

    def __call__(self, ball: float) -> float:
        return self._proven(self._constants(Around.of(self.centre, ball)))

    def by_pairs(self, ball: float) -> float:
        """The same with multipliers of their own for the pairs that limit it; 0 where too many neurons bend."""
        around = Around.of(self.centre, ball)
        if variables(around.network()) > self.bent:
            return 0.0
        constants, solved = self._constants(around), set[int]()
        while (value := self._proven(constants)) < ball:
            worst = self._limiting(constants)
            if worst in solved:
                break
            solved.add(worst)
            proven = own_proof(pair_network(around, self._winner, worst))
            constants[worst] = min(constants[worst], np.inf if proven is None else proven.bound)
        return value

    @property
    def _winner(self) -> int:
        return int(self.logits[0].argmax())

    def _constants(self, around: Around) -> Float[np.ndarray, " classes"]:
        found = around.gains(rows(self.logits.shape[1], self._winner))
        found = np.minimum(found, self.everywhere[self._winner])
        return bent_less(around, self._winner, found, self._limiting) if self.curved else found

    def _limiting(self, constants: Float[np.ndarray, " classes"]) -> int:
        apart = margins(self.logits)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            return int(np.argmin(np.where(constants > 0, apart / constants, np.inf)))

    def _proven(self, constants: Float[np.ndarray, " classes"]) -> float:
        square = np.zeros((len(constants), len(constants)))
        square[self._winner] = constants
        return float(certified_radius(self.logits, square, error=self.error)[0])
