"""What activations do on an interval: values with their error, and the range of the derivative, rounded outward.

NumPy's elementary functions are within a few units in the last place; `PAD` allows them thousands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Vector = Float[np.ndarray, " n"]
PAD = 2.0**-40
"""Relative and absolute error allowed to every computed function value or derivative."""


@dataclass(frozen=True)
class Function:
    """`value(x)` is the value and its error; `derivatives(l, u)` the range of the derivative on [l, u]."""

    value: Callable[[Vector], tuple[Vector, Vector]]
    derivatives: Callable[[Vector, Vector], tuple[Vector, Vector]]


def _padded(f: Callable[[Vector], Vector]) -> Callable[[Vector], tuple[Vector, Vector]]:
    def value(x: Vector) -> tuple[Vector, Vector]:
        y = f(x)
        return y, PAD * (1 + abs(y))

    return value


def _bell(f: Callable[[Vector], Vector]) -> Callable[[Vector, Vector], tuple[Vector, Vector]]:
    """The range of an even function that falls with the distance from 0."""

    def derivatives(low: Vector, high: Vector) -> tuple[Vector, Vector]:
        near = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(abs(low), abs(high)))
        return _outward(f(np.maximum(abs(low), abs(high))), f(near))

    return derivatives


def _rising(f: Callable[[Vector], Vector]) -> Callable[[Vector, Vector], tuple[Vector, Vector]]:
    return lambda low, high: _outward(f(low), f(high))


def _outward(least: Vector, most: Vector) -> tuple[Vector, Vector]:
    return np.maximum(least - PAD, 0.0), most + PAD


def _sigmoid(x: Vector) -> Vector:
    return (1 + np.tanh(x / 2)) / 2


def _hat(x: Vector) -> Vector:
    return (1 - np.tanh(x / 2) ** 2) / 4


FUNCTIONS: Mapping[str, Function] = {
    "tanh": Function(_padded(np.tanh), _bell(lambda x: 1 - np.tanh(x) ** 2)),
    "sigmoid": Function(_padded(_sigmoid), _bell(_hat)),
    "softplus": Function(_padded(lambda x: np.logaddexp(0, x)), _rising(_sigmoid)),
    "softsign": Function(_padded(lambda x: x / (1 + abs(x))), _bell(lambda x: 1 / (1 + abs(x)) ** 2)),
}
"""Monotone smooth activations by kind."""

PIECES: Mapping[str, Callable[[Vector, Vector], Vector]] = {
    "relu": lambda alpha, beta: np.zeros_like(alpha),  # noqa: ARG005
    "abs": lambda alpha, beta: -np.ones_like(alpha),  # noqa: ARG005
    "leaky_relu": lambda alpha, beta: np.where(beta == 1, alpha, beta),
    "identity": lambda alpha, beta: np.ones_like(alpha),  # noqa: ARG005
}
"""The slope below 0 of activations that are the identity above, from their slope interval."""
