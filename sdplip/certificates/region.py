r"""Boxes and balls of inputs, and what a network's layers are on them: slopes of each neuron, proven.

Every set of values is held as $\{c + G \xi + e\}$ (a zonotope): the first columns of G belong to the input, with
$\lVert \xi \rVert_2 \le 1$ of a ball and $\lVert \xi \rVert_\infty \le 1$ of a box; the other columns are numbers in $[-1, 1]$
that stand for nonlinear neurons; $|e| \le$ `slop` takes what rounding left out. Beside it runs plain interval arithmetic, and the
narrower of the two counts. A neuron whose argument does not change its sign is linear; smooth activations get the range of
their derivative. Sorted pairs whose order is fixed are linear too. `docs/rounding-systems.md`, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from sdplip.certificates.functions import FUNCTIONS, PIECES
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma
from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort
from sdplip.errors import InvalidProblem, InvalidWeight

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Box:
    r"""All x with `lower` $\le x \le$ `upper`."""

    lower: Vector
    upper: Vector

    def __post_init__(self) -> None:
        if np.shape(self.lower) != np.shape(self.upper) or np.ndim(self.lower) != 1:
            raise InvalidProblem("A box needs as many lower as upper ends, one for each input.")
        if not (np.isfinite(self.lower).all() and np.isfinite(self.upper).all()) or np.any(
            self.lower > self.upper
        ):
            raise InvalidProblem("The ends of a box must be finite, the lower ones not above the upper ones.")

    @property
    def inputs(self) -> int:
        return len(self.lower)


@dataclass(frozen=True, eq=False)
class Ball:
    r"""All x with $\lVert x -$ `center` $\rVert_2 \le$ `radius`."""

    center: Vector
    radius: float

    def __post_init__(self) -> None:
        if np.ndim(self.center) != 1 or not np.isfinite(self.center).all():
            raise InvalidProblem("The center of a ball must be finite numbers, one for each input.")
        if not (np.isfinite(self.radius) and self.radius >= 0):
            raise InvalidProblem(
                f"The radius of a ball must be finite and not negative, but is {self.radius}."
            )

    @property
    def inputs(self) -> int:
        return len(self.center)


Region = Box | Ball


@np.errstate(over="ignore", invalid="ignore")
def localise(layers: Layers, region: Region) -> tuple[Map | Slope | Sort | Skip, ...]:
    """Layers that agree with `layers` on `region` and have the slopes that occur there.

    Raises:
        InvalidProblem: an activation of which only the slopes are known, or values that leave the range of doubles.
    """
    found, _ = _through(layers, _start(region))
    return found


def preactivations(layers: Layers, region: Region) -> tuple[Vector, Vector]:
    """Proven lower and upper bounds of the outputs of `layers` on `region`."""
    _, after = _through(layers, _start(region))
    return after.low, after.high


@dataclass(frozen=True, eq=False)
class _Set:
    center: Vector
    G: Matrix
    slop: Vector
    low: Vector
    high: Vector
    round_inputs: int  # the columns in front that obey the Euclidean norm together; 0 of a box

    def reach(self, G: Matrix) -> Vector:
        """How far $G \\xi$ goes, rounded up."""
        n = self.round_inputs
        euclid = np.sqrt((G[:, :n] ** 2).sum(1)) * (1 + gamma(n + 4)) + n * 2.0**-500 if n else 0.0
        return (euclid + abs(G[:, n:]).sum(1) * (1 + gamma(G.shape[1] + 2))) * GENEROUS

    def narrowed(self) -> "_Set":
        """With intervals that respect the zonotope."""
        far = (self.reach(self.G) + self.slop) * GENEROUS
        low, high = self.center - far, self.center + far
        pad = 4 * UNIT * (abs(self.center) + far) + TINY
        low, high = np.maximum(self.low, low - pad), np.minimum(self.high, high + pad)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidProblem(
                "The values of the network on this region leave the range of double precision."
            )
        return replace(self, low=low, high=high)


def _start(region: Region) -> _Set:
    n = region.inputs
    if isinstance(region, Ball):
        center = np.asarray(region.center, np.float64)
        far = np.full(n, float(region.radius))
        slop, count = np.zeros(n), n
    else:
        lower, upper = (np.asarray(v, np.float64) for v in (region.lower, region.upper))
        center = lower / 2 + upper / 2
        far = np.maximum(upper - center, center - lower) * (1 + 4 * UNIT) + TINY
        slop, count = np.zeros(n), 0
    pad = 4 * UNIT * (abs(center) + far) + TINY
    return _Set(center, np.diag(far), slop, center - far - pad, center + far + pad, count)


def _through(layers: Layers, z: _Set) -> tuple[tuple[Map | Slope | Sort | Skip, ...], _Set]:
    found = list[Map | Slope | Sort | Skip]()
    for layer in layers:
        if isinstance(layer, Map):
            found.append(layer)
            z = _map(layer, z)
        elif isinstance(layer, Slope):
            layer, z = _slope(layer, z)
            found.append(layer)
        elif isinstance(layer, Sort):
            sorted_layers, z = _sort(layer, z)
            found += sorted_layers
        else:
            branch, after = _through(layer.branch, z)
            found.append(Skip(branch))
            z = _sum(z, after)
    return tuple(found), z


def _map(layer: Map, z: _Set) -> _Set:
    W = np.asarray(layer.W, np.float64)
    if W.shape[1] != len(z.center):
        raise InvalidWeight(f"A weight of shape {W.shape} is given {len(z.center)} numbers.")
    b = np.zeros(len(W)) if layer.b is None else np.asarray(layer.b, np.float64)
    if layer.error and b.any():
        raise InvalidProblem(
            "The shift of a batch normalisation is known up to its rounding only, so it is not covered on a region. Fold it into"
            " the weights and biases of the layer before."
        )
    A, n = abs(W), W.shape[1]
    middle, half = z.low / 2 + z.high / 2, (z.high / 2 - z.low / 2) * (1 + 4 * UNIT) + TINY
    size = abs(z.center) + abs(z.G).sum(1)
    lost = 4 * (n + z.G.shape[1]) * TINY * (1 + float(A.max()))
    relative = gamma(n + 6) + layer.error * (1 + gamma(n + 6))
    slop = (A @ z.slop * (1 + layer.error) + relative * (A @ size + abs(b)) + lost) * GENEROUS
    around = W @ middle + b
    far = (
        A @ half + relative * (A @ (abs(middle) + half) + abs(b)) + abs(around) * 4 * UNIT + lost
    ) * GENEROUS
    after = _Set(W @ z.center + b, W @ z.G, slop, around - far, around + far, z.round_inputs)
    return after.narrowed()


def _slope(layer: Slope, z: _Set) -> tuple[Slope, _Set]:
    """The slopes on the region, and the values after the layer."""
    alpha, beta = (np.zeros(len(z.center)) + v for v in (layer.alpha, layer.beta))
    if layer.kind in PIECES:
        left = PIECES[layer.kind](alpha, beta)
        on, off = z.low >= 0, z.high <= 0
        slope = np.where(on, 1.0, left)
        alpha, beta = np.where(on | off, slope, alpha), np.where(on | off, slope, beta)
        values = _pieces(z, left, on, off)
    elif layer.kind in FUNCTIONS:
        function = FUNCTIONS[layer.kind]
        least, most = function.derivatives(z.low, z.high)
        alpha, beta = np.maximum(alpha, least), np.minimum(beta, most)
        values = _smooth(z, function.value, alpha, beta)
    else:
        raise InvalidProblem(
            f"What an activation of kind {layer.kind!r} does on a region is not known. Use one of"
            f" {', '.join([*PIECES, *FUNCTIONS])}, or the bound of all inputs."
        )
    return Slope(alpha, beta, layer.kind), values


def _pieces(z: _Set, left: Vector, on: np.ndarray, off: np.ndarray) -> _Set:
    """After $x$ for $x \\ge 0$ and `left` $x$ below; $f - \\lambda x$ lies between 0 and its value at an end of the interval."""
    low, high = z.low, z.high
    with np.errstate(divide="ignore", invalid="ignore"):
        chord = np.where(on, 1.0, np.where(off, left, (high - left * low) / (high - low)))
    chord = np.clip(chord, np.minimum(left, 1.0), np.maximum(left, 1.0))
    bent = ~(on | off)
    ends = np.stack([(1 - chord) * high, (left - chord) * low])
    pad = 8 * UNIT * (1 + abs(left) + abs(chord)) * np.maximum(abs(low), abs(high)) + TINY
    convex = left <= 1
    top = np.where(bent, np.where(convex, ends.max(0), 0.0) + np.where(convex, pad, 0.0), 0.0)
    bottom = np.where(bent, np.where(convex, 0.0, ends.min(0)) - np.where(convex, 0.0, pad), 0.0)
    at_ends = np.stack([np.where(v >= 0, v, left * v) for v in (low, high)])
    least, most = at_ends.min(0), at_ends.max(0)
    least = np.where(bent, np.minimum(least, 0.0), least) - pad
    most = np.where(bent, np.maximum(most, 0.0), most) + pad
    return _linear_plus(z, chord, np.zeros_like(chord), bottom, top, least, most)


def _smooth(z: _Set, value, alpha: Vector, beta: Vector) -> _Set:
    r"""$f(x) \in f(m) + \lambda (x - m) \pm (\beta - \alpha) / 2 \cdot |x - m|$, mean slope and middle of the interval."""
    low, high = z.low, z.high
    m = low / 2 + high / 2
    slope = alpha / 2 + beta / 2
    far = np.maximum(high - m, m - low) * (1 + 4 * UNIT)
    at, error = value(m)
    spread = (beta - alpha) * (0.5 + 4 * UNIT) * far + error
    spread += 8 * UNIT * (abs(at) + abs(slope * m) + abs(slope) * far) + TINY
    ends = [value(v) for v in (low, high)]
    reach = np.maximum(abs(alpha), abs(beta)) * far * (1 + 8 * UNIT) + error + 8 * UNIT * abs(at) + TINY
    least, most = at - reach, at + reach
    monotone = alpha >= 0
    least = np.where(monotone, np.maximum(least, ends[0][0] - ends[0][1]), least)
    most = np.where(monotone, np.minimum(most, ends[1][0] + ends[1][1]), most)
    return _linear_plus(z, slope, at - slope * m, -spread, spread, least, most)


def _linear_plus(
    z: _Set, slope: Vector, shift: Vector, bottom: Vector, top: Vector, least: Vector, most: Vector
) -> _Set:
    """The set of `slope` z + `shift` + [bottom, top], one new column a neuron with bottom < top, within [least, most]."""
    middle, half = bottom / 2 + top / 2, (top / 2 - bottom / 2) * (1 + 4 * UNIT)
    center = slope * z.center + shift + middle
    G = slope[:, None] * z.G
    size = abs(slope) * (abs(z.center) + abs(z.G).sum(1)) + abs(shift) + abs(middle) + half
    slop = (abs(slope) * z.slop + 8 * UNIT * size + (4 + z.G.shape[1]) * TINY) * GENEROUS
    new = np.flatnonzero(half > 0)
    extra = np.zeros((len(center), len(new)))
    extra[new, np.arange(len(new))] = half[new]
    return _Set(center, np.concatenate([G, extra], 1), slop, least, most, z.round_inputs).narrowed()


def _sort(layer: Sort, z: _Set) -> tuple[list[Map | Sort], _Set]:
    """The groups whose order is not fixed, then the permutation of the others; and the values."""
    groups = np.asarray(layer.groups)
    order = np.argsort(z.center[groups], 1) if groups.size else groups
    fixed = np.array([_fixed(z, row[by]) for row, by in zip(groups, order, strict=True)], bool)
    place = np.arange(len(z.center))
    for row, by in zip(groups[fixed], order[fixed], strict=True):
        place[row] = row[by]
    loose = groups[~fixed]
    after = replace(
        z, center=z.center[place], G=z.G[place], slop=z.slop[place], low=z.low[place], high=z.high[place]
    )
    if len(loose):
        after = _pairs(after, loose) if loose.shape[1] == 2 else _ranks(after, loose)
    permutation = np.eye(len(place))[place]
    layers = list[Map | Sort]([Map(permutation)] if (place != np.arange(len(place))).any() else [])
    return [*layers, *([Sort(loose)] if len(loose) else [])], after


def _fixed(z: _Set, ascending: np.ndarray) -> bool:
    """Whether the values stand in this order everywhere."""
    return all(_difference(z, a, b)[1] <= 0 for a, b in pairwise(ascending))


def _difference(z: _Set, a: int, b: int) -> tuple[float, float]:
    """Bounds of entry a minus entry b."""
    row = (z.G[a] - z.G[b])[None]
    far = float(z.reach(row)[0]) + 2 * UNIT * float((abs(z.G[a]) + abs(z.G[b])).sum()) + z.slop[a] + z.slop[b]
    middle = z.center[a] - z.center[b]
    far = (far + 4 * UNIT * (abs(z.center[a]) + abs(z.center[b]) + far)) * GENEROUS + TINY
    pad = 2 * UNIT * (abs(z.low[a]) + abs(z.high[a]) + abs(z.low[b]) + abs(z.high[b]))
    return max(middle - far, z.low[a] - z.high[b] - pad), min(middle + far, z.high[a] - z.low[b] + pad)


def _pairs(z: _Set, groups: np.ndarray) -> _Set:
    r"""Minimum and maximum as $(a + b \mp |a - b|) / 2$, with the chord of $|a - b|$ and a new column for what is above it."""
    center, slop, low, high = z.center.copy(), z.slop.copy(), z.low.copy(), z.high.copy()
    G = np.concatenate([z.G, np.zeros((len(center), len(groups)))], 1)
    for column, (a, b) in enumerate(groups, z.G.shape[1]):
        least, most = _difference(z, a, b)
        chord = min(1.0, max(-1.0, (most + least) / (most - least))) if most > least else 0.0
        top = (
            max((1 - chord) * most, (-1 - chord) * least, 0.0) + 16 * UNIT * max(abs(least), abs(most)) + TINY
        )
        for place, sign in ((a, -1.0), (b, 1.0)):
            wa, wb = (1 + sign * chord) / 2, (1 - sign * chord) / 2
            center[place] = wa * z.center[a] + wb * z.center[b] + sign * top / 4
            G[place, :column] = 0.0
            G[place, : z.G.shape[1]] = wa * z.G[a] + wb * z.G[b]
            G[place, column] = sign * top / 4
            size = sum(abs(z.center[i]) + abs(z.G[i]).sum() for i in (a, b)) + top
            slop[place] = (
                wa * z.slop[a] + wb * z.slop[b] + 16 * UNIT * size + z.G.shape[1] * TINY
            ) * GENEROUS
        low[a], low[b] = min(z.low[a], z.low[b]), max(z.low[a], z.low[b])
        high[a], high[b] = min(z.high[a], z.high[b]), max(z.high[a], z.high[b])
    return _Set(center, G, slop, low, high, z.round_inputs).narrowed()


def _ranks(z: _Set, groups: np.ndarray) -> _Set:
    """Sorted values by the sorted ends of their intervals; the zonotope forgets how they came about."""
    low, high = z.low.copy(), z.high.copy()
    for row in groups:
        low[row], high[row] = np.sort(z.low[row]), np.sort(z.high[row])
    rows = groups.reshape(-1)
    zero = np.zeros(len(low))
    slope, shift, bottom, top = np.ones(len(low)), zero, zero.copy(), zero.copy()
    slope[rows], bottom[rows], top[rows] = 0.0, low[rows], high[rows]
    return _linear_plus(z, slope, shift, bottom, top, low, high)


def _sum(z: _Set, after: _Set) -> _Set:
    """A residual sum: columns of the branch that the input does not have count as zero there."""
    more = after.G.shape[1] - z.G.shape[1]
    G = np.concatenate([z.G, np.zeros((len(z.G), more))], 1) + after.G
    center = z.center + after.center
    size = abs(center) + abs(G).sum(1) + abs(after.center) + abs(after.G).sum(1)
    slop = (z.slop + after.slop + 2 * UNIT * size) * GENEROUS
    low, high = z.low + after.low, z.high + after.high
    pad = 2 * UNIT * (abs(low) + abs(high)) + TINY
    return _Set(center, G, slop, low - pad, high + pad, z.round_inputs).narrowed()


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
