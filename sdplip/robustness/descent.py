r"""`minimise`: the smallest value of any margin that projected gradient descent finds near given inputs.

The objective is yours: a margin of classes, a scalar output, an angle of embeddings, pixels of a mask. What it finds bounds the truth
from above; certificates bound it from below.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.errors import InvalidProblem
from sdplip.nn.given import count, floats, number, tensor
from sdplip.shapes import said, short

Box = tuple[float, float] | None
"""Between which numbers inputs lie, attacked ones too; None is without limits."""

UNIT: Box = (0.0, 1.0)
"""Where the pixels of images lie."""

INSIDE = 1 - 1e-6
"""Share of the radius that is used, so that rounding does not carry a point over it."""

Margin = Callable[[Tensor], Float[Tensor, " n"]]
"""One differentiable number a sample, of all samples in their order."""


@dataclass(frozen=True, eq=False)
class Minimised:
    """What an attack on a margin found.

    Attributes:
        x: `(n, ...)`, within the radius and the box.
        margin: `(n,)`, at `x`.
    """

    x: Float[Tensor, "n *shape"]
    margin: Float[Tensor, " n"]

    __repr__ = short


def minimise(
    margin: Margin,
    x: Float[Tensor, "n *shape"],
    eps: Float[Tensor, " n"] | float,
    *,
    steps: int = 50,
    restarts: int = 4,
    box: Box = None,
    seed: int = 0,
) -> Minimised:
    r"""The points within `eps` of `x` (l2) where `margin` is smallest, as far as projected gradient descent finds.

    Steps along the normalised gradient, from eps down to eps / steps along a cosine; the first start is `x` itself, the others are
    uniform in the ball. The same seed gives the same points on the same machine.

    Args:
        margin: called with all samples, moved; its value at one sample must not depend on the others.
        x: floating point.
        eps: radius, one for all samples or one for each.
        box: limits of every number, which `x` must keep.

    Raises:
        InvalidProblem: `x` outside of the box or not finite, a radius that is negative or NaN, a margin that is not one number a
            sample.
    """
    x, steps, restarts = tensor("x", x), count("steps", steps, 0), count("restarts", restarts)
    check_box(x, box)
    r = radii_of(eps, x) * INSIDE
    generator = torch.Generator().manual_seed(seed)
    if not callable(margin):
        raise InvalidProblem(f"`margin` must be a function of the samples, but is {said(margin)}.")
    with torch.enable_grad():
        value = margin(x.detach().requires_grad_())
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise InvalidProblem(
            f"`margin` must return a tensor that torch can differentiate by its argument, but returned {said(value)}."
        )
    if value.shape != (len(x),):
        raise InvalidProblem(
            f"`margin` must return one number a sample, ({len(x)},), but returned {tuple(value.shape)}."
        )
    best, least = x.detach().clone(), value.detach()
    for restart in range(restarts):
        start = best_start(x, r, restart, generator, box)
        found, value = descend(margin, start, x, r, steps, box)
        best, least = kept(best, least, found, value)
    return Minimised(best, least)


@dataclass(frozen=True, eq=False)
class Nearest:
    """The smallest changes that were found.

    Attributes:
        x: `(n, ...)`, where the margin is 0 or less; the input itself where no such point was found.
        distance: `(n,)`, to the input; infinite where none was found.
    """

    x: Float[Tensor, "n *shape"]
    distance: Float[Tensor, " n"]

    __repr__ = short


def smallest_change(
    margin: Margin,
    x: Float[Tensor, "n *shape"],
    reach: float,
    *,
    halvings: int = 9,
    steps: int = 20,
    restarts: int = 1,
    box: Box = None,
) -> Nearest:
    """The nearest points with a margin of 0 or less that `minimise` finds, by bisection of its radius up to `reach`.

    Raises:
        InvalidProblem: as `minimise`.
    """
    x, reach, halvings = tensor("x", x), number("reach", reach), count("halvings", halvings, 0)
    check_box(x, box)
    best, distance = x.clone(), torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
    low, eps = torch.zeros_like(distance), radii_of(reach, x)
    for _ in range(halvings + 1):
        found = minimise(margin, x, eps, steps=steps, restarts=restarts, box=box)
        away = (found.x - x).flatten(1).norm(dim=1)
        turned = found.margin <= 0
        nearer = turned & (away < distance)
        best, distance = torch.where(column(nearer, x), found.x, best), torch.where(nearer, away, distance)
        low = torch.where(turned, low, eps)
        eps = (low + distance.clamp_max(reach)) / 2
    return Nearest(best, distance)


def radii_of(eps: Tensor | float, x: Tensor) -> Float[Tensor, " n"]:
    """One radius a sample, in the format of `x`.

    Raises:
        InvalidProblem: negative, NaN, or of another shape.
    """
    r = torch.tensor(floats("eps", eps))
    if r.ndim > 1 or (r.ndim == 1 and len(r) != len(x)) or not bool((r >= 0).all()):
        raise InvalidProblem(f"`eps` must be one number, or {len(x)} of them, and not negative or NaN.")
    return r.to(x).expand(len(x))


def check_box(x: Tensor, box: Box) -> None:
    """Refuses inputs outside of the limits that attacked ones must keep: the ball around such a one need not meet the box.

    Raises:
        InvalidProblem: they lie outside, or are not finite.
    """
    if x.ndim < 2 or not x.numel():
        raise InvalidProblem(
            f"There is nothing to attack: `x` must have the shape (n, ...), but has {tuple(x.shape)}."
        )
    if not x.is_floating_point():
        raise InvalidProblem(f"`x` must be floating point, but is {x.dtype}. Divide bytes by 255.")
    if box is not None and not (isinstance(box, tuple | list) and len(box) == 2):
        raise InvalidProblem(f"`box` must be None or (low, high), but is {said(box)}.")
    box = None if box is None else (number("box", box[0]), number("box", box[1]))
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidProblem("The inputs to attack must be finite numbers.")
    if box is not None and not box[0] <= low <= high <= box[1]:
        raise InvalidProblem(
            f"The inputs lie between {low:.6g} and {high:.6g}, outside of the limits {box[0]:g} and {box[1]:g} that an attack has to"
            " keep. Pass `box=(low, high)` of your data, or `box=None` for inputs without limits."
        )


def best_start(x: Tensor, r: Tensor, restart: int, generator: torch.Generator, box: Box) -> Tensor:
    """The sample itself first, then uniform points of the ball."""
    if restart == 0:
        return x
    return project(x + column(r, x) * in_ball(x, generator), x, r, box)


def descend(
    margin: Margin, start: Tensor, center: Tensor, r: Float[Tensor, " n"], steps: int, box: Box
) -> tuple[Tensor, Tensor]:
    """The point of the least margin on one path of projected gradient descent, and that margin."""
    x, best, least = start, start, torch.full_like(r, torch.inf)
    for step in range(steps):
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            value = margin(point)
            (gradient,) = torch.autograd.grad(value.sum(), point)
        best, least = kept(best, least, x, value.detach())
        length = column(gradient.flatten(1).norm(dim=1), x)
        rate = np.cos(np.pi / 2 * step / steps) + 1 / steps
        x = project(x - rate * column(r, x) * gradient / (length + (length == 0)), center, r, box)
    with torch.no_grad():
        return kept(best, least, x, margin(x))


def kept(best: Tensor, least: Tensor, x: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Of each sample the point with the smaller margin, and that margin."""
    gain = value < least
    return torch.where(column(gain, x), x, best), torch.where(gain, value, least)


def project(x: Tensor, center: Tensor, r: Float[Tensor, " n"], box: Box) -> Tensor:
    """Into the ball, then into the box: that contains the center, so the second step leads no farther from it."""
    d = x - center
    length = column(d.flatten(1).norm(dim=1), x)
    moved = center + d * (column(r, x) / length.clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
    return moved if box is None else moved.clamp(*box)


def in_ball(x: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform points of the unit ball, drawn on the CPU so that every device starts alike."""
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    size = torch.rand(len(x), generator=generator, dtype=torch.float64) ** (1 / x[0].numel())
    return (direction * column(size / direction.flatten(1).norm(dim=1), direction)).to(x)


def column(values: Tensor, like: Tensor) -> Tensor:
    """One number a sample, shaped to multiply samples."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
