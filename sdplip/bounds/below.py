"""Lower estimates: the largest norm of a Jacobian that was found, anywhere or on a region. The true constant is not below it."""

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from jaxtyping import Float

from sdplip.kernel.proof import Norm
from sdplip.kernel.reach.linear import Linear
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.network import (
    INPUT,
    AbstractLinear,
    Activation,
    Dense,
    Equilibrium,
    Grouped,
    Maximum,
    Network,
    Norms,
    Sort,
)
from sdplip.network.jacobian import Derivative, derivative, is_known

Vector = Float[np.ndarray, " n"]
Points = Float[np.ndarray, "points n"]
Matrix = Float[np.ndarray, "m n"]
DENSE = 64
"""Rows or columns up to which a Jacobian is formed in any case; larger ones only where the network is small."""
SIZE = 10**6
"""Numbers on the smaller side times all values of the network, up to which larger Jacobians are formed."""
BATCH = 2 * 10**5
"""Numbers of all Jacobians and values that are held at once: what stays near the processor."""
TRIALS = 6
"""Points that are tried at once around the best ones."""
KEPT = 3
"""The best points, around which others are tried."""
EACH, MORE = 200, 2
"""For so many points that can be looked at at once, once more as many are; at most so many times."""
WORK = 8e6
"""Products for a Jacobian up to which none of the points are left out."""
SOLVED = 2000
"""Rows and columns up to which a first matrix is factored."""
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
    points: Points | None = None,
) -> float:
    r"""The largest norm of $J(x)$ at random points and uphill of the best; 0.0 where no Jacobian can be computed.

    `points` are looked at first, moved into the region where they are outside: Jacobians are often larger where data lies.

    Far out along $\pm(1, \dots, 1)$ a ReLU network with nonnegative weights has every neuron on, so that its exact constant is
    found; so it is where a solution of $W_1 x = \pm(1, \dots, 1)$ does that. Reproducible, up to `deadline` (of `time.monotonic`):
    the points come from a fixed seed. Large networks get fewer, small ones more. The search ends where it reaches `enough`.
    """
    if not is_known(network):
        return 0.0
    given = _into(np.empty((0, network.inputs)) if points is None else points, region)
    if region is None:
        network, given = _narrowed(network, given)
    rng, forms = np.random.default_rng(0), _forms(network)
    batch = _batch(network) if forms else 1
    more = int(np.clip(batch // EACH, 1, MORE))
    share = more * min(1.0, WORK / _cost(network)) if forms else 1 / 10
    samples, ascents = max(10, int(share * samples)), max(10, int(share * ascents))
    points = np.concatenate([given, _points(rng, network, region, samples)])
    best = _Best(points[:1], np.zeros(1))
    for k in range(0, len(points), batch):
        best = _better(network, points[k : k + batch], norm, best)
        if best.most >= enough or time.monotonic() > deadline:
            return best.most
    at_once = min(batch, more * TRIALS)
    for step in np.geomspace(1.0, 0.01, -(-ascents // at_once)):
        around = best.points[np.arange(at_once) % len(best.points)]
        moves = step * _size(region, around) * rng.normal(size=around.shape) / np.sqrt(network.inputs)
        best = _better(network, _into(around + moves, region), norm, best)
        if best.most >= enough or time.monotonic() > deadline:
            break
    return best.most


@dataclass(frozen=True, eq=False)
class _Best:
    """The points of the largest Jacobians so far, and their norms, the largest first."""

    points: Float[np.ndarray, "kept n"]
    norms: Float[np.ndarray, " kept"]

    @property
    def most(self) -> float:
        return float(self.norms[0])


def _better(network: Network, points: Float[np.ndarray, "points n"], norm: Norm, best: _Best) -> _Best:
    """The best of these points too."""
    points = np.concatenate([best.points, points])
    norms = np.concatenate([best.norms, jacobian_norms(network, points[len(best.points) :], norm)])
    order = np.argsort(-norms, kind="stable")[:KEPT]
    return _Best(points[order], norms[order])


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
        elif isinstance(op, Equilibrium):
            D = np.diag(op.activation.beta if upper else op.activation.alpha)
            kept[k] = np.linalg.solve(np.eye(len(D)) - D @ op.W, D)
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


def _cost(network: Network) -> float:
    """About how many products a Jacobian takes, as fast as those of dense matrices are."""
    ops = [node.op for node in network.nodes if isinstance(node.op, AbstractLinear)]
    return min(network.inputs, network.outputs) * float(sum(Linear(op).cost for op in ops))


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


def _points(rng: np.random.Generator, network: Network, region: Region | None, samples: int) -> Points:
    n = network.inputs
    if region is None:
        far = np.array([1e6, -1e6, 1.0, -1.0, 1e-3])[:, None] * np.ones(n)
        scale = np.array([0.1, 1.0, 10.0])[np.arange(samples) % 3, None]
        # not 0 itself, where a network without biases has all of its kinks
        return np.concatenate([far, *_all_on(network), scale * rng.normal(size=(samples, n))])
    if isinstance(region, Box):
        return region.lower + rng.uniform(size=(samples, n)) * (region.upper - region.lower)
    ball = region.ball if isinstance(region, Cut) else region
    v = rng.normal(size=(samples, n))
    share = rng.uniform(size=(samples, 1)) ** (1 / n) / np.linalg.norm(v, axis=1, keepdims=True)
    points = ball.center + v * (ball.radius * share)
    return _into(points, region) if isinstance(region, Cut) else points


def _all_on(network: Network) -> Iterator[Points]:
    """Least solutions of $W_1 x = \\pm(1, \\dots, 1)$, for which all neurons of the first layer have the same sign."""
    op = network.nodes[0].op
    if not isinstance(op, Dense) or max(op.W.shape) > SOLVED or op.inputs > op.outputs:
        return
    with suppress(np.linalg.LinAlgError):
        ones = np.ones(op.outputs)
        square = op.inputs == op.outputs
        x = np.linalg.solve(op.W, ones) if square else np.linalg.lstsq(op.W, ones)[0]
        if np.isfinite(x).all():
            yield np.array([10.0 * x, -10.0 * x])


def _narrowed(network: Network, points: Points) -> tuple[Network, Points]:
    r"""With a first matrix $W = R^\top Q^\top$ that is wide replaced by $R^\top$, and $Q^\top x$ of the points x: there
    $J(x) = J'(Q^\top x) Q^\top$ has the same norm."""
    first = network.nodes[0]
    op = first.op
    if not isinstance(op, Dense) or len(network.users[INPUT]) > 1 or op.inputs <= op.outputs:
        return network, points
    if max(op.W.shape) > SOLVED:
        return network, points
    Q, R = np.linalg.qr(op.W.T)
    narrow = replace(first, op=Dense(R.T, op.b))
    return replace(network, nodes=(narrow, *network.nodes[1:]), input_shape=(op.outputs,)), points @ Q


def _size(region: Region | None, points: Points) -> Float[np.ndarray, "points 1"]:
    """How far moves from these points may be worth while."""
    if region is None:
        return np.linalg.norm(points, axis=1, keepdims=True)
    if isinstance(region, Cut):
        return np.minimum(region.ball.radius, _size(region.box, points))
    size = np.linalg.norm(region.upper - region.lower) if isinstance(region, Box) else region.radius
    return np.full((len(points), 1), float(size))


def _into(points: Points, region: Region | None) -> Points:
    """The nearest points of the region, up to rounding; of a ball in a box ones that are near."""
    if isinstance(region, Cut):
        return np.array([_into_cut(x, region) for x in points]).reshape(points.shape)  # also of no points
    if isinstance(region, Box):
        return np.clip(points, region.lower, region.upper)
    if isinstance(region, Ball):
        away = points - region.center
        far = np.linalg.norm(away, axis=1, keepdims=True)
        return region.center + away * np.minimum(1.0, region.radius / np.maximum(far, 1e-300))
    return points


def _into_cut(x: Vector, region: Cut) -> Vector:
    inside = np.clip(region.ball.center, region.box.lower, region.box.upper)
    x = np.clip(_into(x[None], region.ball)[0], region.box.lower, region.box.upper)
    for _ in range(40):  # towards a point of both, as far as it takes
        if np.linalg.norm(x - region.ball.center) <= region.ball.radius:
            return x
        x = x / 2 + inside / 2
    return inside
