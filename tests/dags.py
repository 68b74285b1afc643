"""Random small networks of every operator, as graphs: branches, sums, values side by side, maxima, sorting, lengths of groups."""

import numpy as np

from sdplip.arithmetic.groups import GROUPED
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
    pooling_windows,
)

NAMES = ("relu", "tanh", "identity")


def random_graph(seed: int, nodes: int = 8, width: int = 6, *, groups: bool = True) -> Network:
    """A network of about so many nodes; a residual sum or a concatenation now and then."""
    rng = np.random.default_rng(seed)
    builder = Builder((width,))
    values = [0]
    for _ in range(nodes):
        value = int(rng.choice(values[-3:]))
        n = int(np.prod(builder.shape(value)))
        values.append(_add(rng, builder, values, value, n, groups=groups))
    return builder.finish(values[-1])


def _add(
    rng: np.random.Generator, builder: Builder, values: list[int], value: int, n: int, *, groups: bool
) -> int:
    kinds = [
        "dense",
        "slopes",
        "name",
        "diagonal",
        "gather",
        "scatter",
        "sort",
        "maximum",
        "average",
        "sum",
        "side",
    ]
    kinds += ["axis", "convolution", "transposed", *(["norms", "grouped"] if groups else [])]
    kind = rng.choice(kinds, p=_weights(kinds))
    if kind == "dense":
        m = int(rng.integers(2, 7))
        return builder.add(Dense(rng.normal(size=(m, n)) / np.sqrt(n)), value)
    if kind == "slopes":
        alpha = rng.uniform(-0.5, 0.5, n)
        beta = np.where(rng.uniform(size=n) < 0.2, alpha, alpha + rng.uniform(0, 1, n))
        return builder.add(Activation("", n, alpha=alpha, beta=beta), value)
    if kind == "name":
        return builder.add(Activation(str(rng.choice(NAMES)), n), value)
    if kind == "diagonal":
        return builder.add(Diagonal(rng.normal(size=n), error=float(rng.choice([0.0, 2.0**-50]))), value)
    if kind == "gather":
        return builder.add(Gather(rng.integers(-1, n, size=int(rng.integers(2, 7))), n), value)
    if kind == "scatter":
        m = int(rng.integers(2, 7))
        return builder.add(Scatter(rng.integers(-1, m, size=n), m), value)
    if kind in ("sort", "norms") or (kind == "grouped" and not GROUPED):
        size = int(rng.integers(1, min(n, 4) + 1))
        members = rng.permutation(n)[: n // size * size].reshape(-1, size)
        return builder.add((Norms if kind == "norms" else Sort)(members, n), value)
    if kind == "grouped":
        size = int(rng.choice([d for d in range(1, n + 1) if n % d == 0]))
        return builder.add(Grouped("softmax", rng.permutation(n).reshape(-1, size), n), value)
    if kind in ("maximum", "average"):
        size, count = int(rng.integers(1, 4)), int(rng.integers(2, 6))
        index = np.stack([rng.choice(n, min(size, n), replace=False) for _ in range(count)])
        index[rng.uniform(size=index.shape) < 0.2] = -1
        index[:, 0] = np.where(index[:, 0] < 0, int(rng.integers(n)), index[:, 0])
        if kind == "maximum":
            return builder.add(Maximum(index, n), value)
        return builder.add(Average(index, np.full(count, float(index.shape[1])), n), value)
    if kind == "sum":
        others = [v for v in [0, *values] if int(np.prod(builder.shape(v))) == n and v != value]
        other = int(rng.choice(others)) if others else value
        return builder.add(Sum((1, int(rng.choice([-1, 1]))), n), value, other)
    if kind == "side":
        other = int(rng.choice([0, *values]))
        return builder.add(Concatenate((n, int(np.prod(builder.shape(other))))), value, other)
    if kind == "axis":
        before = int(rng.choice([d for d in (1, 2, 3) if n % d == 0]))
        return builder.add(OnAxis(rng.normal(size=(2, n // before)) / 2, before, 1), value)
    conv = Convolution(rng.normal(size=(2, 1, 3)) / 2, (n,), (1,), ((1, 1),), (1,))
    if kind == "convolution":
        return builder.add(conv, value)
    half = Convolution(rng.normal(size=(1, 1, 3)) / 2, (2 * n,), (2,), ((1, 1),), (1,))
    return builder.add(Transposed(half), value)


def _weights(kinds: list[str]) -> np.ndarray:
    weight = np.array([4.0 if kind in ("dense", "name", "slopes", "sum") else 1.0 for kind in kinds])
    return weight / weight.sum()


def image_network(seed: int, side: int = 6) -> Network:
    """Convolutions, maxima over overlapping windows, a residual block with a projected shortcut, a dense head."""
    rng = np.random.default_rng(seed)
    builder = Builder((1, side, side))
    size, one, pad = (side, side), (1, 1), ((1, 1), (1, 1))
    first = builder.add(Convolution(rng.normal(size=(2, 1, 3, 3)) / 3, size, one, pad, one), 0)
    bent = builder.add(Activation("relu", 2 * side * side), first)
    pooled = builder.add(Maximum(pooling_windows(2, size, (3, 3), (2, 2), pad), 2 * side * side), bent)
    half = ((side + 1) // 2, (side + 1) // 2)
    pixels = half[0] * half[1]
    branch = builder.add(Convolution(rng.normal(size=(3, 2, 3, 3)) / 3, half, one, pad, one), pooled)
    branch = builder.add(Activation("tanh", 3 * pixels), branch)
    branch = builder.add(Convolution(rng.normal(size=(3, 3, 3, 3)) / 3, half, one, pad, one), branch)
    short = builder.add(Convolution(rng.normal(size=(3, 2, 1, 1)), half, one, ((0, 0), (0, 0)), one), pooled)
    total = builder.add(Sum((1, 1), 3 * pixels), branch, short)
    last = builder.add(Activation("relu", 3 * pixels), total)
    return builder.finish(builder.add(Dense(rng.normal(size=(4, 3 * pixels)) / 5), last))
