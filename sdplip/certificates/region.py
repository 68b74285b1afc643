r"""What a network's layers are on a region of inputs: slopes of each neuron, proven.

Values are followed forward as zonotopes and intervals (`zonotope`) and bounded backward by lines (`crown`); the narrowest counts.
A neuron whose argument does not change its sign is linear; smooth activations get the range of their derivative. Sorted pairs
whose order is fixed are linear too. `docs/rounding-systems.md`, section 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from sdplip.certificates import crown, zonotope
from sdplip.certificates.bands import band
from sdplip.certificates.functions import PIECES
from sdplip.certificates.increments import halved
from sdplip.certificates.regions import Ball, Box, Cut, Region
from sdplip.certificates.rounding import TINY, UNIT
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort
from sdplip.certificates.zonotope import Zonotope

__all__ = ["Ball", "Box", "Cut", "Region", "linear_share", "localise", "preactivations"]
Vector = Float[np.ndarray, " n"]


def localise(layers: Layers, region: Region) -> tuple[Map | Slope | Sort | Skip, ...]:
    """Layers that agree with `layers` on `region` and have the slopes that occur there.

    Raises:
        InvalidProblem: an activation of which only the slopes are known, or values that leave the range of doubles.
    """
    found, _ = _walked(layers, region)
    return found


def preactivations(layers: Layers, region: Region) -> tuple[Vector, Vector]:
    """Proven lower and upper bounds of the outputs of `layers` on `region`."""
    return _walked(layers, region)[1]


@np.errstate(over="ignore", invalid="ignore")
def _walked(
    layers: Layers, region: Region
) -> tuple[tuple[Map | Slope | Sort | Skip, ...], tuple[Vector, Vector]]:
    """The layers on the region, and the ends of the outputs: forward alone first, then with backward bounds too."""
    plain = [_Walk(region)]
    if isinstance(region, Cut):
        plain.append(_Walk(Box(*region.ends())))
    for walk in plain:
        walk.all_through(layers)
    known = iter([_both(*ends) for ends in zip(*(walk.ends for walk in plain), strict=True)])
    last = _Walk(region, backward=True, known=known)
    return last.all_through(layers), last.ends[-1]


def _both(*ends: tuple[Vector, Vector]) -> tuple[Vector, Vector]:
    low, high = np.max([a for a, _ in ends], 0), np.min([b for _, b in ends], 0)
    return np.minimum(low, high), np.maximum(low, high)


@dataclass(eq=False)
class _Walk:
    """One pass through the network; `ends` collects the intervals in front of what is not linear, and those of the outputs."""

    region: Region
    backward: bool = False
    known: Iterator[tuple[Vector, Vector]] | None = None
    ends: list[tuple[Vector, Vector]] = field(default_factory=list)

    def all_through(self, layers: Layers) -> tuple[Map | Slope | Sort | Skip, ...]:
        found, z, steps = self.through(layers, zonotope.start(self.region), [])
        self.narrowed(z, steps, np.ones(len(z.low), bool))
        return found

    def through(
        self, layers: Layers, z: Zonotope, before: list[crown.Step]
    ) -> tuple[tuple[Map | Slope | Sort | Skip, ...], Zonotope, list[crown.Step]]:
        """The layers, the values behind them, and the steps from the input to there."""
        found, steps = list[Map | Slope | Sort | Skip](), list(before)
        for layer in layers:
            if isinstance(layer, Map):
                found.append(layer)
                steps.append(crown.Linear(layer, _size(z)))
                z = zonotope.affine(layer, z)
            elif isinstance(layer, Slope):
                z = self.narrowed(z, steps, _open(layer, z))
                here, around = band(layer, z.low, z.high)
                found.append(here)
                steps.append(crown.lines(around, z.low, z.high))
                z = zonotope.elementwise(around, z)
            elif isinstance(layer, Sort):
                z = self.narrowed(z, steps, np.isin(np.arange(len(z.low)), layer.groups))
                apart = self.differences(layer, z, steps)
                sorted_layers, after = zonotope.sort(layer, z, apart)
                found += sorted_layers
                steps += _sorting(sorted_layers, z, after, apart)
                z = after
            else:
                branch, after, inside = self.through(layer.branch, z, steps)
                found.append(Skip(branch))
                steps.append(crown.Beside(tuple(inside[len(steps) :]), _size(z)))
                z = zonotope.added(z, after)
        return tuple(found), z, steps

    def differences(self, layer: Sort, z: Zonotope, steps: Sequence[crown.Step]) -> zonotope.Apart:
        """Backward bounds of the differences in pairs."""
        groups = np.asarray(layer.groups)
        if not self.backward or not groups.size or groups.shape[1] != 2:
            return {}
        rows = np.eye(len(z.low))[groups[:, 0]] - np.eye(len(z.low))[groups[:, 1]]
        most, least = np.split(crown.above(steps, self.region, np.concatenate([rows, -rows])), 2)
        found = dict[tuple[int, int], tuple[float, float]]()
        for (a, b), high, low in zip(groups.tolist(), most.tolist(), least.tolist(), strict=True):
            found[a, b], found[b, a] = (-low, high), (-high, low)
        return found

    def narrowed(self, z: Zonotope, steps: Sequence[crown.Step], wanted: np.ndarray) -> Zonotope:
        """`z` within what is known of it."""
        if self.known is not None:
            low, high = _both((z.low, z.high), next(self.known))
            z = replace(z, low=low, high=high)
        if self.backward and not all(isinstance(step, crown.Linear) for step in steps):
            low, high = crown.between(steps, self.region, z.low, z.high, wanted)
            z = replace(z, low=low, high=high)
        self.ends.append((z.low, z.high))
        return z


def _size(z: Zonotope) -> Vector:
    return np.maximum(abs(z.low), abs(z.high))


def _open(layer: Slope, z: Zonotope) -> np.ndarray:
    """Where a narrower interval matters: not where a piecewise linear function has one slope already."""
    return (z.low < 0) & (z.high > 0) if layer.kind in PIECES else np.ones(len(z.low), bool)


def _sorting(
    layers: Sequence[Map | Sort], before: Zonotope, after: Zonotope, apart: zonotope.Apart
) -> Iterator[crown.Step]:
    """The permutation of what is sorted already; pairs as half sums and differences; of larger groups intervals are known."""
    for layer in layers:
        if isinstance(layer, Map):
            yield crown.Linear(layer, _size(before))
        elif layer.groups.shape[1] == 2:
            yield from _halves(layer, before, after, apart)
        else:
            yield crown.Forgotten(after.low, after.high, np.unique(layer.groups))


def _halves(layer: Sort, before: Zonotope, after: Zonotope, apart: zonotope.Apart) -> Iterator[crown.Step]:
    """Minimum and maximum: half the sum minus and plus half the absolute difference. Entries outside of `layer` are in place."""
    into, together, left = halved(layer, len(after.low))
    low, high = after.low.copy(), after.high.copy()
    for a, b in np.asarray(layer.groups):
        ends = zonotope.difference(before, b, a, apart)
        low[b], high[b] = ends[0] / 2 - TINY, ends[1] / 2 + TINY
        low[a], high[a] = after.low[a] / 2 + after.low[b] / 2, after.high[a] / 2 + after.high[b] / 2
        pad = 2 * UNIT * max(abs(low[a]), abs(high[a])) + TINY
        low[a], high[a] = low[a] - pad, high[a] + pad
    _, around = band(Slope(np.minimum(left, 1.0), np.ones(len(left)), "leaky_relu"), low, high)
    size = np.maximum(abs(low), abs(high))
    yield crown.Linear(into, np.maximum(_size(after), _size(before)))
    yield crown.lines(around, low, high)
    yield crown.Linear(together, size)


def linear_share(layers: Sequence[Map | Slope | Sort | Skip]) -> tuple[int, int]:
    """How many neurons of the elementwise layers have a single slope, and how many there are."""
    fixed = total = 0
    for layer in layers:
        if isinstance(layer, Slope):
            fixed, total = fixed + int((layer.alpha == layer.beta).sum()), total + len(layer.alpha)
        elif isinstance(layer, Skip):
            some, of = linear_share(layer.branch)
            fixed, total = fixed + some, total + of
    return fixed, total
