r"""Regression: how far predictions can move, and which stay near their targets, at every row within a radius.

With a proven constant $L$ of the network, $|f(x') - f(x)| \le L |x' - x|$: the outputs at all rows within $r$ lie in an interval
of half-width $L r$ around the prediction (a ball, of several outputs). A prediction with error $e = |f(x) - y|$ below a tolerance
$\tau$ keeps its error below $\tau$ at every row nearer than $(\tau - e) / L$.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS, down
from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.tree import Bound, product_above
from sdplip.robustness.absolute import FLOOR
from sdplip.robustness.arithmetic import Precision, device_of, network_in, plain_arithmetic
from sdplip.robustness.certification import Rounding, beyond
from sdplip.robustness.forward_error import REACH, Affine, output_error
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class Regression:
    r"""Certified predictions of numbers. Lengths are l2; rows and targets are those that the network was trained with.

    Attributes:
        target, prediction: `(n, outputs)`.
        error: distance of each prediction from its target, rounded up, with the rounding of the network at the row.
        moves: `(n, 2)`, $(c, s)$ of each row: at rows within r the outputs as computed lie within $c + s r$ of the prediction.
        tolerance: errors below it count as right.
        radius: at every row strictly nearer than this the error stays below `tolerance`; 0 if nothing is proven, at most `REACH`.
        bound: of the network in the precision that was certified.
        precision: in which the network ran.
        rounding: "proven" if all rounding errors are counted, "float64" if a module has no proven one.
        seconds: wall clock, with the proof of the bound.
    """

    target: Float[np.ndarray, "n outputs"]
    prediction: Float[np.ndarray, "n outputs"]
    error: Float[np.ndarray, " n"]
    moves: Float[np.ndarray, "n 2"]
    tolerance: float
    radius: Float[np.ndarray, " n"]
    bound: Bound
    precision: Precision
    rounding: Rounding
    seconds: float

    __repr__ = short

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.error)

    @property
    def correct(self) -> Bool[np.ndarray, " n"]:
        """Which predictions have an error below `tolerance`."""
        return self.error < self.tolerance

    @property
    def clean(self) -> float:
        """Fraction of predictions with an error below `tolerance`."""
        return float(self.correct.mean())

    def certified(self, eps: float | str) -> float:
        """Fraction with an error below `tolerance` at every row within `eps`."""
        return float((self.correct & beyond(self.radius, eps)).mean())

    def interval(self, eps: float) -> Float[np.ndarray, " n"]:
        """Half-widths: at every row within `eps` each output lies within this of its prediction.

        Raises:
            InvalidProblem: `eps` is negative.
        """
        if not eps >= 0:
            raise InvalidProblem(f"A radius must not be negative, but is {eps}.")
        return np.nextafter(np.nextafter(self.moves[:, 1] * eps, np.inf) + self.moves[:, 0], np.inf)

    def mean_square(self, eps: float = 0.0) -> float:
        """At least the mean squared error when every row is moved by up to `eps`; with 0 that of the rows themselves."""
        worst = self.error + (self.interval(eps) if eps else 0.0)
        return float((worst * worst).mean()) * GENEROUS

    def r2(self, eps: float = 0.0) -> float:
        """At most the coefficient of determination when every row is moved by up to `eps`; with 0 that of the rows themselves."""
        spread = ((self.target - self.target.mean(0)) ** 2).sum(-1).mean()
        return down(1 - self.mean_square(eps) / float(spread) * GENEROUS) if spread > 0 else -np.inf

    def to_json(self, radii: tuple[str, ...], unit: float) -> dict[str, Any]:
        """What `sdplip certify --json` prints under `regression`; `unit` is what 1 of a target is worth."""
        from fractions import Fraction

        at = {eps: float(Fraction(eps)) for eps in radii}
        return {
            "tolerance": self.tolerance,
            "unit": unit,
            "r2": self.r2(),
            "r2_at": {eps: self.r2(r) for eps, r in at.items()},
            "rmse": unit * self.mean_square() ** 0.5,
            "interval": {eps: unit * float(self.interval(r).max()) for eps, r in at.items()},
        }


def certify_regression(
    model: nn.Module,
    rows: Float[Tensor, "n features"],
    targets: Float[Tensor, "n outputs"],
    *,
    tolerance: float = 1.0,
    precision: Precision = "float64",
) -> Regression:
    """Certify the predictions of `model` on rows with known targets.

    Args:
        model: any that `lipschitz` accepts; a copy in eval mode and that precision is certified.
        rows: as they enter the network, such as the standardised ones of `sdplip.training.data.load`.
        targets: `(n, outputs)`, or `(n,)` of one output.
        tolerance: errors below it count as right; in the unit of the targets.

    Raises:
        InvalidProblem: shapes that do not fit, numbers that are not finite, no positive tolerance.
        RefusedModule: the model has no Lipschitz bound; or float32, and a module has no proven rounding error.
    """
    begin = time.perf_counter()
    if not 0 < tolerance < np.inf:
        raise InvalidProblem(f"`tolerance` must be a positive number, but is {tolerance}.")
    y = targets[:, None] if targets.ndim == 1 else targets
    if not len(rows) or len(rows) != len(y) or y.ndim != 2:
        raise InvalidProblem(
            f"`targets` must hold one row of numbers for each of the {len(rows)} rows, but have shape {tuple(targets.shape)}."
        )
    if not (rows.is_floating_point() and bool(rows.isfinite().all()) and bool(y.double().isfinite().all())):
        raise InvalidProblem("`rows` and `targets` must be finite floating-point numbers.")
    network = network_in(model, precision)
    x = rows.to(device_of(network)).to(torch.float32 if precision == "float32" else torch.float64)
    with plain_arithmetic(), torch.no_grad():
        bound = lipschitz(network, input_shape=tuple(rows.shape[1:]))
        try:
            f, lost, _ = output_error(network, bound)(x, Affine(np.zeros(len(x)), 1.0))
        except RefusedModule:
            if precision == "float32":
                raise
            f, lost = network(x), None
    if f.shape != y.shape:
        raise InvalidProblem(
            f"The network must return {tuple(y.shape)} numbers, but returns {tuple(f.shape)}."
        )
    prediction, target = f.double().cpu().numpy(), y.double().cpu().numpy()
    here = np.zeros(len(x)) if lost is None else lost.constant
    slope = 0.0 if lost is None else lost.slope
    error = _length(prediction - target) + here
    steep = np.full(len(x), np.nextafter(product_above((bound.value, 1.0)) + slope, np.inf))
    with np.errstate(divide="ignore", invalid="ignore"):
        # At x' the computed error is at most |f(x) - y| + L r + (slope r + here): once more what is lost there.
        left = np.nextafter(np.nextafter(tolerance - error, -np.inf) - here, -np.inf)
        radius = np.where(left > 0, np.minimum(np.nextafter(left / steep, -np.inf), REACH), 0.0)
    return Regression(
        target,
        prediction,
        error,
        np.stack([2 * here, steep], 1),
        tolerance,
        np.where(np.isfinite(error), np.maximum(radius, 0.0), 0.0),
        bound,
        precision,
        "float64" if lost is None else "proven",
        time.perf_counter() - begin,
    )


def _length(v: Float[np.ndarray, "n outputs"]) -> Float[np.ndarray, " n"]:
    """Euclidean lengths of differences that were rounded once, rounded up; a single number exactly but for that."""
    if v.shape[1] == 1:
        return np.nextafter(abs(v[:, 0]), np.inf)
    return np.linalg.norm(v, axis=1) * GENEROUS + FLOOR
