"""Small networks as graphs: chains of matrices with a function between them, residual sums, their matrices."""

import itertools
from collections.abc import Sequence

import numpy as np

from sdplip.network import Activation, Builder, Dense, Network, Operator, Sort, Sum, chain

Function = str | tuple[float, float] | dict[str, float]


def weights(seed: int, *widths: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Random matrices and biases."""
    rng = np.random.default_rng(seed)
    return (
        [rng.normal(size=(m, n)) for n, m in itertools.pairwise(widths)],
        [rng.normal(size=m) for m in widths[1:]],
    )


def between(kind: Function, n: int) -> Operator:
    """A function of n entries by its name, "maxmin", "halves", "groupsort:k", or by slopes alone."""
    if isinstance(kind, tuple):
        return Activation("", n, alpha=kind[0], beta=kind[1])  # pyright: ignore[reportArgumentType]
    if isinstance(kind, dict):
        return Activation("leaky_relu", n, kind)
    name, _, size = kind.partition(":")
    if name == "halves":
        half = np.arange(n // 2)
        return Sort(np.stack([half + n // 2, half], 1), n)
    if name in ("maxmin", "groupsort"):
        return Sort(np.arange(n).reshape(-1, int(size or 2)), n)
    return Activation(kind, n)


def mlp(Ws: Sequence[np.ndarray], kind: Function = "relu", bs: Sequence[np.ndarray] | None = None) -> Network:
    """The chain of matrices with a function between them."""
    ops = list[Operator]()
    for k, W in enumerate(Ws):
        ops += [between(kind, W.shape[1])] if k else []
        ops.append(Dense(W, None if bs is None else bs[k]))
    return chain(ops)


def random_mlp(seed: int, *widths: int, kind: Function = "relu") -> Network:
    """Such a chain with random numbers."""
    Ws, bs = weights(seed, *widths)
    return mlp(Ws, kind, bs)


def matrices(network: Network) -> list[np.ndarray]:
    """Of the dense nodes."""
    return [node.op.W for node in network.nodes if isinstance(node.op, Dense)]


def residual(seed: int, width: int = 4, kind: Function = "relu") -> Network:
    """A matrix, two residual blocks with a function between them, a matrix."""
    Ws, bs = weights(seed, 5, width, 6, width, 6, width, 3)
    builder = Builder((5,))
    value = builder.add(Dense(Ws[0], bs[0]), 0)
    for k in (1, 3):
        branch = builder.add(Dense(Ws[k], bs[k]), value)
        branch = builder.add(between(kind, 6), branch)
        branch = builder.add(Dense(Ws[k + 1], bs[k + 1]), branch)
        value = builder.add(Sum((1, 1), width), value, branch)
        value = builder.add(between(kind, width), value) if k == 1 else value
    return builder.finish(builder.add(Dense(Ws[5], bs[5]), value))
