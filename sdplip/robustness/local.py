r"""Certified radii from constants of a ball around each image, instead of constants of all inputs.

A margin $f_y - f_j$ that moves by at most $L_j |x' - x|$ for $|x' - x| \le R$ leaves class y the winner up to
$\min(R, \min_j (f_y - f_j)(x) / L_j)$. A smaller ball has smaller constants, so the best R lies where both are equal; a few balls
find it. `sdplip.certificates.centred` proves the constants, one pass through the network for all classes; that of all
inputs is used where it is smaller, so no radius falls. Rounding is subtracted as `certify_accuracy` does.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.bounds.margins import own_constant
from sdplip.bounds.systems import SYSTEM_ORDER
from sdplip.certificates.centred import Front, centred_gains, secant_layers
from sdplip.certificates.narrow import narrowed
from sdplip.certificates.system import Map, expand, variables
from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.networks import system_layers
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.robustness.arithmetic import device_of, network_in, pixels, plain_arithmetic
from sdplip.robustness.certification import RADII, Certification, Progress, analysis_of, check_samples, run
from sdplip.robustness.forward_error import REACH
from sdplip.robustness.radii import MarginError, certified_radius, margins
from sdplip.robustness.tighten import as_network

BALLS = 8
"""At most so many balls are tried around an image."""
CLOSE = 0.005
"""The search ends when no other ball can make the radius larger by more than this share."""
BENT = 128
"""Up to this number of neurons that bend on a ball, pairs of classes get multipliers of their own there."""
STEP = 1.12
"""How much larger the first ball for such multipliers is than the radius so far."""


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
    progress: Progress | None = None,
) -> LocalRadii:
    """Larger radii for images that `certify_accuracy` or `tighten` has certified, each from balls of its own.

    Images of wrong predictions and of radius 0 keep their radius.

    Args:
        model: the one that was certified: linear and residual layers, convolutions of small images, ReLU, leaky ReLU, absolute
            values, tanh, sigmoid, softplus, softsign, MaxMin and maxima over windows of two, in an `nn.Sequential`.
        images, labels: the first ones of those that were certified, all or some.
        certified: their certification; precision and scope are taken from it.
        bent: where at most so many neurons bend, solve for multipliers of the pairs of classes that limit the radius; 0 is
            nowhere. A solve costs a cube of them: 0.1 s at 128, a second or more at 320.
        progress: called with the images done and their number.

    Raises:
        RefusedModule: a layer that cannot be followed around a point.
        InvalidProblem: more neurons than `SYSTEM_ORDER`; images that are not those that were certified.
    """
    begin = time.perf_counter()
    check_samples(images, labels)
    before = first(certified, len(images))
    if not np.array_equal(labels.cpu().numpy(), before.label):
        raise InvalidProblem(
            "These labels are not those of `certified`. Pass the images that it speaks of, from the first one."
        )
    network, shape = network_in(model, certified.precision), tuple(images.shape[1:])
    front = front_of(network, shape)
    radius, balls = before.radius.copy(), 0
    with plain_arithmetic():
        analysis = analysis_of(network, lipschitz(network, input_shape=shape), certified.precision)
        todo = np.flatnonzero(before.correct & (before.radius > 0))
        for done, i in enumerate(todo, 1):
            x = pixels(images[i : i + 1].to(device_of(network)), certified.precision)
            error: MarginError | None = None
            if analysis is None:
                logits = run(network, x)
            else:
                logits, lost = analysis(x)
                error = lost.here_and_around() if certified.scope == "computed" else lost.here()
            radius_on = _Radius(front, x, logits, error, certified.constants, bent)
            radius[i], tried = largest_radius(radius_on, float(radius[i]))
            balls += tried
            if bent:
                radius[i], tried = refined_radius(radius_on.by_pairs, float(radius[i]))
                balls += tried
            if progress is not None:
                progress(done, len(todo))
    after = replace(before, radius=np.maximum(radius, before.radius))
    return LocalRadii(before, after, balls, time.perf_counter() - begin)


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
    """The network as the kernel follows it around a point.

    Raises:
        RefusedModule, InvalidProblem: a layer that is not covered, too many neurons.
    """
    plain = as_network(network, shape)
    try:
        layers = system_layers(plain)
        found = Front.of(layers, plain.inputs)
        if variables(layers) <= SYSTEM_ORDER:
            centred_gains(
                found, np.zeros(plain.inputs), 0.0, np.eye(1, plain.outputs)
            )  # refuses what it does not know
    except InvalidProblem as error:
        raise RefusedModule(f"This network cannot be followed around an image. {error}") from None
    if variables(layers) > SYSTEM_ORDER:
        raise InvalidProblem(
            f"{variables(layers)} nonlinear neurons are more than the {SYSTEM_ORDER} that are followed around an image, because"
            " their matrices are dense. Use constants of all inputs."
        )
    return found


@dataclass(frozen=True, eq=False)
class _Radius:
    """The radius that the constants of a ball prove; it counts up to that of the ball."""

    front: Front
    x: Tensor
    logits: Tensor
    error: MarginError | None
    everywhere: Float[np.ndarray, "classes classes"]
    bent: int

    def __call__(self, ball: float) -> float:
        return self._proven(self._constants(ball))

    def by_pairs(self, ball: float) -> float:
        """The same with multipliers of their own for the pairs that limit it; 0 where too many neurons bend."""
        layers = secant_layers(self.front, self._center, ball)
        if variables(layers) > self.bent:
            return 0.0
        constants, solved = self._constants(ball), set[int]()
        apart = margins(self.logits)[0]
        while (value := self._proven(constants)) < ball:
            with np.errstate(divide="ignore", invalid="ignore"):
                worst = int(np.argmin(np.where(constants > 0, apart / constants, np.inf)))
            if worst in solved:
                break
            solved.add(worst)
            margin = narrowed((*layers, Map(self._rows[worst : worst + 1])))
            inputs = margin[0].W.shape[1] if isinstance(margin[0], Map) else len(self._center)
            system = expand(margin, inputs)
            constants[worst] = min(constants[worst], own_constant(system, "auto"))
        return value

    @property
    def _winner(self) -> int:
        return int(self.logits[0].argmax())

    @property
    def _rows(self) -> Float[np.ndarray, "classes classes"]:
        """The margins of the winner as rows."""
        eye = np.eye(self.logits.shape[1])
        return eye[self._winner] - eye

    @property
    def _center(self) -> Float[np.ndarray, " n"]:
        return self.x[0].detach().to("cpu", torch.float64).numpy().reshape(-1)

    def _constants(self, ball: float) -> Float[np.ndarray, " classes"]:
        found = centred_gains(self.front, self._center, ball, self._rows)
        return np.minimum(found, self.everywhere[self._winner])

    def _proven(self, constants: Float[np.ndarray, " classes"]) -> float:
        square = np.zeros((len(constants), len(constants)))
        square[self._winner] = constants
        return float(certified_radius(self.logits, square, error=self.error)[0])


def _counted(ball: float, value: float) -> float:
    """The smaller of both; 0 where `value` is no number."""
    return ball if value >= ball else value if value > 0 else 0.0


def refined_radius(radius_on: Callable[[float], float], start: float) -> tuple[float, int]:
    """As `largest_radius` for a `radius_on` that costs a solve: from `start` up, in few steps."""
    best, low, high, tried = start, start, np.inf, 0
    while tried < BALLS // 2 and high > low * (1 + 2 * CLOSE):
        ball = min(low * STEP, REACH) if high == np.inf else (low * high) ** 0.5
        value = radius_on(ball)
        tried += 1
        best = max(best, _counted(ball, value))
        if value >= ball:
            low = ball
        else:
            low, high = max(low, _counted(ball, value)), ball
            if low <= start:
                break
    return min(best, REACH), tried


def largest_radius(radius_on: Callable[[float], float], start: float) -> tuple[float, int]:
    """The largest of `start` and min(R, radius_on(R)) over the balls R that are tried, and their number.

    `radius_on` falls with R, so the best R is where both are equal: bracketed and interpolated. Nothing depends on that being so.
    """
    low, low_value = start, radius_on(start)
    best, high, high_value, tried = max(start, _counted(low, low_value)), np.inf, 0.0, 1
    while tried < BALLS and min(low_value, high) > best * (1 + CLOSE):
        if high == np.inf:
            ball = min(low + 0.75 * (low_value - low), 4 * low)
        else:
            rise, fall = low_value - low, high - high_value
            ball = low + (high - low) * np.clip(rise / (rise + fall), 0.05, 0.95)
        ball = min(float(ball), REACH)
        value = radius_on(ball)
        tried += 1
        best = max(best, _counted(ball, value))
        if value >= ball:
            low, low_value = ball, value
        else:
            high, high_value = ball, value
    return min(best, REACH), tried
