r"""Distances to a surface that a learned field proves, from samples of the surface: collision margins, safe steps.

A scalar field $f$ with proven constant $L$, and points $p_i$ of a surface of which every place has one within $h$ (the covering
radius). Let $\mathrm{low} = \min f(p_i) - L h$ and $\mathrm{high} = \max f(p_i) + L h$. Every place $s$ of the surface then has
$\mathrm{low} \le f(s) \le \mathrm{high}$, and for every $x$ with nearest place $s$::

    f(x) - high <= f(x) - f(s) <= L |x - s|   and   low - f(x) <= f(s) - f(x) <= L |x - s|,

so no place of the surface is nearer to $x$ than $\max(f(x) - \mathrm{high}, \mathrm{low} - f(x)) / L$. How $f$ was trained does
not matter; a good field has $\mathrm{high}$ and $\mathrm{low}$ near 0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.arithmetic.rounding import GENEROUS
from sdplip.errors import InvalidProblem, RefusedModule
from sdplip.nn.bounds.dispatch import lipschitz
from sdplip.nn.bounds.tree import Bound, product_above
from sdplip.nn.given import number, tensor
from sdplip.robustness.arithmetic import device_of, network_in, plain_arithmetic
from sdplip.robustness.certification import Rounding
from sdplip.robustness.forward_error import Affine, output_error
from sdplip.robustness.rounding_flow import Flow
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class SafeMargin:
    r"""What a field proves about the surface that its samples cover.

    Attributes:
        low, high: the field lies between them on the whole surface; `high` is the $\delta$ that a positive outside needs.
        bound: of the field, whose copy in double precision is meant.
        rounding: "proven" if all rounding errors of evaluations are counted, "float64" if a module has no proven one.
    """

    low: float
    high: float
    bound: Bound
    rounding: Rounding
    _network: nn.Module
    _flow: Flow | None

    __repr__ = short

    def clearance(self, points: Tensor) -> Float[np.ndarray, " n"]:
        """No place of the surface is nearer to a point than this; 0 where nothing is proven.

        Args:
            points: `(n, dimensions)`.

        Raises:
            InvalidProblem: as `safe_margin`.
        """
        f, lost = _values(self._network, self._flow, _points("points", points))
        with np.errstate(divide="ignore", invalid="ignore"):
            ahead = np.maximum(f - self.high, self.low - f) - lost
            distance = np.nextafter(np.nextafter(ahead, -np.inf) / self.bound.value, -np.inf)
        return np.where(ahead > 0, np.maximum(distance, 0.0), 0.0)


def safe_margin(field: nn.Module, surface: Tensor, covering_radius: float) -> SafeMargin:
    """The values that a field can take on a surface, from samples of it, and with them proven distances to it.

    Args:
        field: `(n, dimensions)` to one number each; a copy in eval mode and double precision is meant.
        surface: `(n, dimensions)`, points of the surface.
        covering_radius: every place of the surface has one of these points within this distance. That is for you to know: half
            of the longest edge for the middles of the edges of a polygon, for example.

    Raises:
        InvalidProblem: no points, another number of outputs than one, a negative radius, numbers that are not finite.
        RefusedModule: the field has no Lipschitz bound.
    """
    covering_radius, surface = number("covering_radius", covering_radius), _points("surface", surface)
    if not 0 <= covering_radius < np.inf:
        raise InvalidProblem(f"`covering_radius` must be a number of at least 0, but is {covering_radius}.")
    with plain_arithmetic(device_of(field)):
        network = network_in(field, "float64")
        bound = lipschitz(network, input_shape=tuple(surface.shape[1:]))
    try:
        flow = output_error(network, bound)
    except RefusedModule:
        flow = None
    f, lost = _values(network, flow, surface)
    reach = product_above((bound.value, float(covering_radius)))
    low, high = float((f - lost).min()), float((f + lost).max())
    low = float(np.nextafter(np.nextafter(low, -np.inf) - reach, -np.inf))
    high = float(np.nextafter(np.nextafter(high, np.inf) + reach, np.inf))
    return SafeMargin(low, high, bound, "float64" if flow is None else "proven", network, flow)


def _points(name: str, points: Tensor) -> Tensor:
    found = tensor(name, points)
    if found.ndim != 2 or not found.numel():
        raise InvalidProblem(
            f"`{name}` must hold points, (n, dimensions), but has shape {tuple(found.shape)}."
        )
    return found


def _values(network: nn.Module, flow: Flow | None, points: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Values of the field, and how far they may be from exact ones."""
    x = points.to(device_of(network), torch.float64)
    if not bool(x.isfinite().all()):
        raise InvalidProblem("The points hold NaN or infinity.")
    with plain_arithmetic(x.device), torch.no_grad():
        try:
            y = network(x)
        except (RuntimeError, ValueError, IndexError) as error:
            raise InvalidProblem(
                f"The field cannot run on points of {x.shape[1]} dimensions: {error}."
            ) from None
        lost = np.zeros(len(x))
        if flow is not None:
            y, error, _ = flow(x, Affine(np.zeros(len(x)), 0.0))
            lost = error.constant * GENEROUS
    if y.shape not in ((len(x),), (len(x), 1)):
        raise InvalidProblem(
            f"A field must return one number a point, ({len(x)}, 1), but returns {tuple(y.shape)}."
        )
    return y.reshape(-1).cpu().numpy(), lost
