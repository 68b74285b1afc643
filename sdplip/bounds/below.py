"""Lower estimates: the largest norm of a Jacobian that was found, anywhere or on a region. The true constant is not below it."""

import time
from collections.abc import Iterator
from math import inf

import numpy as np
from jaxtyping import Float

from sdplip.kernel.proof import Norm
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.network import Activation, Grouped, Maximum, Network, Norms, Sort
from sdplip.network.jacobian import Derivative, derivative, is_known

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "m n"]
DENSE = 64
"""Rows or columns up to which a Jacobian is formed in any case; larger ones only where the network is small."""
SIZE = 10**6
"""Numbers on the smaller side times all values of the network, up to which larger Jacobians are formed."""
BATCH = 2 * 10**6
"""Numbers of all Jacobians and values that are held at once."""
TRIALS = 6
"""Points that are tried around the best one at once."""
STEPS = 12
"""Of the power iteration."""


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is left out
def estimate_lower(
    network: Network,
    region: Region | None = None,
    *,
    samples: int = 200,
    ascents: int = 60,
    norm: Norm = "l2",
    deadline: float = inf,
    enough: float = inf,
) -> float:
    r"""The largest norm of $J(x)$ at random points and uphill of them; 0.0 where no Jacobian can be computed.

    Far out along $\pm(1, \dots, 1)$ a ReLU network with nonnegative weights has every neuron on, so that its exact constant is
    found. Reproducible, up to `deadline` (of `time.monotonic`): the points come from a fixed seed. Large networks get a tenth of
    them. The search ends where it reaches `enough`.
    """
    if not is_known(network):
        return 0.0
    rng, forms = np.random.default_rng(0), _forms(network)
    if not forms:
        samples, ascents = samples // 10, ascents // 6
    best, most = np.zeros(network.inputs), 0.0
    batch = _batch(network) if forms else 1
    points = list(_points(rng, network.inputs, region, samples))
    for k in range(0, len(points), batch):
        best, most = _better(network, np.array(points[k : k + batch]), norm, best, most)
        if most >= enough or time.monotonic() > deadline:
            return most
    at_once = min(batch, TRIALS)
    for step in np.geomspace(1.0, 0.01, -(-ascents // at_once)) * _size(region, best):
        moves = step * rng.normal(size=(at_once, len(best))) / np.sqrt(len(best))
        trials = np.array([_into(best + move, region) for move in moves])
        best, most = _better(network, trials, norm, best, most)
        if most >= enough or time.monotonic() > deadline:
            break
    return most


def _better(
    network: Network, points: Float[np.ndarray, "points n"], norm: Norm, best: Vector, most: float
) -> tuple[Vector, float]:
    """The point of the largest Jacobian so far, and its norm."""
    found = jacobian_norms(network, points, norm)
    k = int(np.argmax(found))
    return (points[k], float(found[k])) if found[k] > most else (best, most)


def jacobian(network: Network, x: Vector) -> Float[np.ndarray, "out in"]:
    """The Jacobian at `x`; a kink counts as its right side."""
    return derivative(network, x).matrix()


def jacobian_norms(
    network: Network, points: Float[np.ndarray, "points n"], norm: Norm = "l2"
) -> Float[np.ndarray, " points"]:
    """The norms of Jacobians, from Euclidean lengths to `norm`; 0.0 where one overflows. Floating point."""
    if norm == "l2" and not _forms(network):
        return np.array([_by_iteration(derivative(network, x)) for x in points])
    if not _forms(network):
        rows = [derivative(network, x).backward(np.eye(network.outputs)) for x in points]
        return np.array([operator_norm(J, norm) if np.isfinite(J).all() else 0.0 for J in rows])
    J = derivative(network, points).matrix()
    finite = np.asarray(np.isfinite(J).all((-2, -1)))
    return np.where(finite, operator_norms(np.where(finite[:, None, None], J, 0.0), norm), 0.0)


def extreme_jacobian(network: Network, *, upper: bool) -> Derivative:
    """A linear map that the inequalities of a network allow: every slope at its lower or upper end, sorted groups turned around.

    Maxima take their first entry, lengths of groups that too, functions of groups their constant.
    """
    kept = dict[int, np.ndarray]()
    for k, node in enumerate(network.nodes, 1):
        op = node.op
        if isinstance(op, Activation):
            kept[k] = op.beta if upper else op.alpha
        elif isinstance(op, Sort):
            kept[k] = np.arange(op.length)
            if upper:
                kept[k][op.groups] = op.groups[:, ::-1]
        elif isinstance(op, Maximum):
            kept[k] = op.index[np.arange(len(op.index)), (op.index >= 0).argmax(1)]
        elif isinstance(op, Norms):
            kept[k] = np.tile(np.eye(1, op.groups.shape[1]), (len(op.groups), 1))
        elif isinstance(op, Grouped):
            kept[k] = np.tile(np.eye(op.groups.shape[1]) * op.constant, (len(op.groups), 1, 1))
    return Derivative(network, kept)


def operator_norm(J: Matrix, norm: Norm = "l2") -> float:
    """Of a Jacobian from Euclidean lengths to `norm`: its spectral norm, or its longest row. Floating point."""
    return float(operator_norms(J[None], norm)[0])


def operator_norms(J: Float[np.ndarray, "points m n"], norm: Norm = "l2") -> Float[np.ndarray, " points"]:
    """The same of several."""
    if norm == "linf":
        return np.linalg.norm(J, axis=-1).max(-1)
    if min(J.shape[-2:]) == 1:
        return np.linalg.norm(J, axis=(-2, -1))
    if max(J.shape[-2:]) > 4 * min(J.shape[-2:]):
        J = np.asarray(np.linalg.qr(J if J.shape[-2] > J.shape[-1] else J.mT, "r"))
    return np.linalg.norm(J, 2, axis=(-2, -1))


def _forms(network: Network) -> bool:
    """Whether Jacobians are formed."""
    side = min(network.inputs, network.outputs)
    return side <= DENSE or side * (network.inputs + sum(node.op.outputs for node in network.nodes)) <= SIZE


def _batch(network: Network) -> int:
    """How many points are looked at once."""
    side, widest = min(network.inputs, network.outputs), max(node.op.outputs for node in network.nodes)
    return max(1, BATCH // (side * max(widest, network.inputs)))


def _by_iteration(at: Derivative) -> float:
    r"""$\lVert J v \rVert$ for the unit vector `v` that a few power iterations end at."""
    v, stretch = np.random.default_rng(0).normal(size=at.network.inputs), 0.0
    for _ in range(STEPS):
        v = v / np.linalg.norm(v)
        y = at.forward(v)
        stretch = float(np.linalg.norm(y))
        if not (np.isfinite(stretch) and stretch > 0):
            return 0.0
        v = at.backward(y)
    return stretch


def _points(rng: np.random.Generator, n: int, region: Region | None, samples: int) -> Iterator[Vector]:
    if region is None:  # not 0 itself, where a network without biases has all of its kinks
        yield from (np.full(n, far) for far in (1e6, -1e6, 1.0, -1.0, 1e-3))
    for k in range(samples):
        if region is None:
            yield (0.1, 1.0, 10.0)[k % 3] * rng.normal(size=n)
        elif isinstance(region, Box):
            yield region.lower + rng.uniform(size=n) * (region.upper - region.lower)
        else:
            ball = region.ball if isinstance(region, Cut) else region
            v = rng.normal(size=n)
            x = ball.center + v * (ball.radius * rng.uniform() ** (1 / n) / np.linalg.norm(v))
            yield _into(x, region) if isinstance(region, Cut) else x


def _size(region: Region | None, x: Vector) -> float:
    if region is None:
        return float(np.linalg.norm(x))
    if isinstance(region, Cut):
        return min(region.ball.radius, _size(region.box, x))
    return float(np.linalg.norm(region.upper - region.lower)) if isinstance(region, Box) else region.radius


def _into(x: Vector, region: Region | None) -> Vector:
    """The nearest point of the region, up to rounding; of a ball in a box one that is near."""
    if isinstance(region, Cut):
        inside = np.clip(region.ball.center, region.box.lower, region.box.upper)
        x = np.clip(_into(x, region.ball), region.box.lower, region.box.upper)
        for _ in range(40):  # towards a point of both, as far as it takes
            if np.linalg.norm(x - region.ball.center) <= region.ball.radius:
                return x
            x = x / 2 + inside / 2
        return inside
    if isinstance(region, Box):
        return np.clip(x, region.lower, region.upper)
    if isinstance(region, Ball):
        away = x - region.center
        return region.center + away * min(1.0, region.radius / max(float(np.linalg.norm(away)), 1e-300))
    return x
