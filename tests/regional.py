"""Small networks of every kind of node, regions, and points of them in exact arithmetic: for the tests of region rules."""

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from sdplip.arithmetic.functions import FUNCTIONS
from sdplip.kernel.regions import Ball, Box, Cut, Region
from sdplip.network import (
    Activation,
    Average,
    Builder,
    Concatenate,
    Convolution,
    Dense,
    Diagonal,
    Gather,
    Grouped,
    Maximum,
    Network,
    Norms,
    OnAxis,
    Scatter,
    Sort,
    Sum,
    Transposed,
    chain,
    pooling_windows,
)

N = 4


def dense(rng: np.random.Generator, n: int, m: int) -> Dense:
    return Dense(rng.normal(size=(m, n)) / np.sqrt(n), 0.5 * rng.normal(size=m))


def plain(between: Callable[[int], object], *widths: int, seed: int = 0) -> Network:
    """Dense layers with something between."""
    rng, steps = np.random.default_rng(seed), [*itertools.pairwise(widths or (N, 8, 6, 6, 2))]
    ops = [op for n, m in steps[:-1] for op in (dense(rng, n, m), between(m))]
    return chain([*ops, dense(rng, *steps[-1])])


def groups(size: int) -> Callable[[int], Sort]:
    return lambda n: Sort(np.arange(n - n % size).reshape(-1, size), n)


def residual(between: Callable[[int], object]) -> Network:
    rng, b = np.random.default_rng(1), Builder((N,))
    first = b.add(dense(rng, N, 6), 0)
    skip = b.add(dense(rng, 6, 6), b.add(between(6), b.add(dense(rng, 6, 6), first)))
    after = b.add(between(6), b.add(Sum((1, 1), 6), first, skip))
    far = b.add(dense(rng, N, 6), 0)
    last = b.add(Sum((1, -1, 1), 6), after, far, skip)
    return b.finish(b.add(dense(rng, 6, 2), b.add(between(6), last)))


def branches() -> Network:
    rng, b = np.random.default_rng(2), Builder((N,))
    ways = [b.add(Activation(name, 3), b.add(dense(rng, N, 3), 0)) for name in ("relu", "tanh", "abs")]
    side = b.add(Concatenate((3, 3, 3)), *ways)
    mixed = b.add(Gather(np.array([8, 0, 3, 3, -1, 5]), 9), side)
    return b.finish(b.add(dense(rng, 6, 2), b.add(Activation("relu", 6), mixed)))


def image(between: Callable[[int], object]) -> Network:
    rng = np.random.default_rng(3)
    K, L = rng.normal(size=(3, 1, 3, 3)) / 2, rng.normal(size=(2, 3, 2, 2)) / 2
    shift = np.repeat(rng.normal(size=3) * 0.3, 16)
    ops = [
        Gather(np.arange(16) % N, N),
        Convolution(K, (4, 4), (1, 1), ((1, 1), (1, 1)), (1, 1), b=shift),
        between(48),
        Maximum(pooling_windows(3, (4, 4), (3, 3), (1, 1), ((1, 0), (1, 0))), 48),
        Convolution(L, (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1)),
        between(8),
        Average(pooling_windows(2, (2, 2), (2, 1), (1, 1), ((0, 0), (0, 0))), np.full(4, 2.0), 8),
        Transposed(dense(rng, 3, 4)),
        Diagonal(np.array([1.5, -2.0, 0.25]), np.array([0.1, 0.2, 0.3]), 2.0**-50, np.full(3, 1e-15)),
        Scatter(np.array([1, 0, 1]), 2),
    ]
    return chain(ops)


def functions() -> Network:
    """Functions of groups, lengths, a matrix on an axis."""
    rng = np.random.default_rng(4)
    pairs = np.arange(8).reshape(-1, 2)
    angle = rng.uniform(0, 6, size=4)
    ops = [
        dense(rng, N, 8),
        Grouped("layer_norm", np.arange(8).reshape(2, 4), 8, {"eps": 1e-2}),
        OnAxis(rng.normal(size=(4, 4)) / 2, 2, 1),
        Grouped("householder", pairs, 8, {"a": np.cos(angle), "b": np.sin(angle)}),
        Norms(pairs, 8),
        Grouped("softmax", np.arange(4)[None], 4),
        Activation("gelu", 4),
        dense(rng, 4, 2),
    ]
    return chain(ops)


def unknown() -> Network:
    """An activation of which only the slopes are known; behind it a known one."""
    rng = np.random.default_rng(5)
    slopes = Activation("", 6, {}, np.zeros(6), np.full(6, 2.0))
    return chain(
        [
            dense(rng, N, 6),
            slopes,
            dense(rng, 6, 6),
            Activation("tanh", 6),
            dense(rng, 6, 6),
            Activation("relu", 6),
        ]
    )


ACTIVATIONS = {name: plain(lambda n, name=name: Activation(name, n)) for name in FUNCTIONS}
NETWORKS: dict[str, Network] = ACTIVATIONS | {
    "maxmin": plain(groups(2)),
    "threes": plain(groups(3)),
    "sorted": plain(lambda n: Sort(np.arange(n)[None], n)),
    "sorted wide": plain(lambda n: Sort(np.arange(n)[None], n), N, 80, 6, 2),
    "prelu": plain(lambda n: Activation("prelu", n, {"slope": np.linspace(-0.5, 2.0, n)})),
    "softplus 10": plain(lambda n: Activation("softplus", n, {"beta": 10.0})),
    "deep": plain(lambda n: Activation("relu", n), N, *(6,) * 6, 2, seed=2),
    "residual": residual(lambda n: Activation("relu", n)),
    "residual maxmin": residual(groups(2)),
    "residual tanh": residual(lambda n: Activation("tanh", n)),
    "branches": branches(),
    "image": image(lambda n: Activation("relu", n)),
    "image silu": image(lambda n: Activation("silu", n)),
    "functions": functions(),
    "shared": plain(lambda n: Grouped("shared_logsumexp", np.arange(n)[None], n)),
    "log": plain(lambda n: Grouped("log_softmax", np.arange(n)[None], n)),
    "one layer": plain(lambda n: Activation("relu", n), N, 3),
    "activation first": chain([Activation("relu", N), dense(np.random.default_rng(6), N, 2)]),
}
REGIONS: dict[str, Callable[[np.ndarray], Region]] = {
    "ball": lambda x: Ball(x, 0.4),
    "box": lambda x: Box(x - 0.2, x + 0.3),
    "cut": lambda x: Cut(Ball(x, 0.4), Box(x - 0.2, x + 0.3)),
    "cut off centre": lambda x: Cut(Ball(x, 0.4), Box(x + 0.1, x + 0.5)),
    "cut that is a ball": lambda x: Cut(Ball(x, 0.2), Box(x - 1, x + 1)),
    "point": lambda x: Ball(x, 0.0),
}


def points(region: Region, rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """Points of the region in exact arithmetic: corners of boxes, ends of balls, and some between."""
    ball = region if isinstance(region, Ball) else region.ball if isinstance(region, Cut) else None
    box = region if isinstance(region, Box) else region.box if isinstance(region, Cut) else None
    low, high = region.ends()
    found = [*itertools.product(*zip(low, high, strict=True))] if box is not None else []
    found += [*(low + rng.uniform(size=(count, len(low))) * (high - low))]
    if ball is not None:
        v = rng.normal(size=(count, len(low)))
        v = v / np.linalg.norm(v, axis=1, keepdims=True) * rng.choice([1.0, 0.7], size=(count, 1))
        found += [ball.center, *np.clip(ball.center + ball.radius * v * (1 - 1e-12), low, high)]
    for x in map(np.asarray, found):
        inside = box is None or ((box.lower <= x) & (x <= box.upper)).all()
        if inside and (ball is None or _square(x, ball.center) <= Fraction(ball.radius) ** 2):
            yield x


def _square(x: np.ndarray, y: np.ndarray) -> Fraction:
    return sum(
        ((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True)), Fraction()
    )


def exact(network: Network, x: np.ndarray) -> list[list[Fraction]]:
    """All values of dense networks with relu, leaky relu, abs, sorting, sums in rational arithmetic."""
    values = [[Fraction(v) for v in x.tolist()]]
    for node in network.nodes:
        z, op = [values[i] for i in node.inputs], node.op
        if isinstance(op, Dense):
            b = op.shift().tolist()
            made = [
                sum((Fraction(w) * v for w, v in zip(row, z[0], strict=True)), Fraction(c))
                for row, c in zip(op.W.tolist(), b, strict=True)
            ]
        elif isinstance(op, Sum):
            made = [
                sum((s * v for s, v in zip(op.signs, entry, strict=True)), Fraction())
                for entry in zip(*z, strict=True)
            ]
        elif isinstance(op, Sort):
            made = list(z[0])
            for row in op.groups.tolist():
                for place, value in zip(row, sorted(z[0][i] for i in row), strict=True):
                    made[place] = value
        elif isinstance(op, Maximum):
            made = [max(z[0][i] for i in row if i >= 0) for row in op.index.tolist()]
        else:
            assert isinstance(op, Activation)
            left = {"relu": 0, "abs": -1, "leaky_relu": Fraction(0.01)}[op.name]
            made = [v if v >= 0 else left * v for v in z[0]]
        values.append(made)
    return values


HOSTILE: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "plain": lambda W, b: (W, b),
    "tiny": lambda W, b: (W * 1e-60, b * 1e-60),
    "huge": lambda W, b: (W * 1e40, b * 1e40),
    "cancelling": lambda W, b: (np.round(W, 1) + np.where(np.arange(W.shape[1]) % 2, -1e8, 1e8), b),
    "opposite rows": lambda W, b: (W[:1] * np.where(np.arange(len(W)) % 2, -1, 1)[:, None], b * 0),
    "mixed sizes": lambda W, b: (W * 10.0 ** np.linspace(-9, 9, len(W))[:, None], b),
    "to the edge": lambda W, b: (W * 2.0**-250, b * 2.0**-500),
    "up and down": lambda W, b: (W * np.where(np.arange(W.shape[1]) % 2, 2.0**-500, 2.0**240), b),
    "subnormal": lambda W, b: (W * np.where(np.arange(len(W)) % 2, 1e-310, 1e3)[:, None], b * 1e-312),
}


def hostile(name: str, between: Callable[[int], object], *widths: int, seed: int = 0) -> Network:
    """A dense network whose numbers are hard to round."""
    rng, ops = np.random.default_rng(seed), []
    for n, m in itertools.pairwise(widths):
        W, b = HOSTILE[name](rng.normal(size=(m, n)), rng.normal(size=m))
        ops += [Dense(W, b), between(m)] if len(ops) < 2 * (len(widths) - 2) else [Dense(W, b)]
    return chain(ops)
