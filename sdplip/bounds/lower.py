"""Lower estimates: the largest norm of a Jacobian that was found. The true constant is not below it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.bounds.samples import OutputNorm, largest_jacobian, operator_norm, value_and_jacobian
from sdplip.networks import (
    Activation,
    Affine,
    AveragePool,
    Convolution,
    Diagonal,
    GroupSort,
    MaxPool,
    Network,
    Residual,
    is_chain,
    system_layers,
)

Vector = Float[np.ndarray, " n"]
Matrix = Float[np.ndarray, "m n"]
Pair = tuple[Vector, Vector]
DENSE = 10**6
"""Inputs times neurons up to which Jacobians are formed; above, their norms come from power iterations."""
STEPS = 12


def estimate_lower(
    network: Network, samples: int = 200, ascents: int = 60, *, norm: OutputNorm = "l2"
) -> float:
    r"""The largest norm of $J(x)$ at random points and uphill of them; 0.0 where no Jacobian can be computed.

    Far out along $\pm(1, \dots, 1)$ a ReLU network with nonnegative weights has every neuron on, so that its exact
    constant is found.
    Reproducible: the points come from a fixed seed. Networks on large images get a tenth of the points.
    """
    if any(isinstance(layer, Activation) and layer.kind not in EVALUATE for layer in network.layers):
        return 0.0
    if not is_chain(network):
        return largest_jacobian(system_layers(network), network.inputs, norm=norm)
    rng = np.random.default_rng(0)
    n = network.inputs
    steps = _prepared(network)
    dense = n * sum(step.width for step in steps) <= DENSE
    front = _narrow(steps) if dense else None
    samples, ascents = (samples, ascents) if dense else (samples // 20, ascents // 6)

    def size(x: Vector) -> float:
        if dense:
            return _norm(steps, x, norm, front)
        return _norm_by_iteration(steps, x, rng) if norm == "l2" else _longest_row(steps, x)

    points = [scale * rng.normal(size=n) for scale in (0.1, 1.0, 10.0) for _ in range(samples // 3)]
    points += [np.full(n, far) for far in (1e6, -1e6, 1.0, -1.0)] + [np.zeros(n)]
    norms = [size(x) for x in points]
    best = int(np.argmax(norms))
    x, most = points[best], norms[best]
    for step in np.geomspace(1.0, 0.01, ascents) * np.linalg.norm(x):
        trial = x + step * rng.normal(size=n) / np.sqrt(n)
        found = size(trial)
        if found > most:
            x, most = trial, found
    return most


def jacobian(network: Network, x: Vector) -> Float[np.ndarray, "out in"]:
    """The Jacobian at `x`; a kink counts as its right side."""
    if not is_chain(network):
        return value_and_jacobian(system_layers(network), x)[1]
    return _jacobian(_prepared(network), x)


@dataclass(frozen=True, eq=False)
class _Step:
    """A layer as it is evaluated: a matrix, dense or sparse, and a shift; or what is no linear map."""

    layer: Any
    width: int
    W: Any = None
    b: Vector | None = None


def _prepared(network: Network) -> list[_Step]:
    steps, width = list[_Step](), network.inputs
    for layer in network.layers:
        assert not isinstance(layer, GroupSort | Residual), "these are for `samples`"
        if not isinstance(layer, Activation):
            width = layer.outputs
        step = _Step(layer, width)
        if isinstance(layer, Affine):
            step = replace(step, W=np.asarray(layer.W, np.float64), b=layer.b)
        elif isinstance(layer, Convolution):
            step = replace(step, W=_sparse(layer), b=layer.bias())
        elif isinstance(layer, AveragePool):
            step = replace(step, W=_sparse_pool(layer))
        steps.append(step)
    return steps


def _sparse(layer: Convolution) -> Any:
    from scipy.sparse import csr_array

    rows, columns, values = layer.entries()
    return csr_array((values, (rows, columns)), shape=(layer.outputs, layer.inputs))


def _sparse_pool(layer: AveragePool) -> Any:
    from scipy.sparse import csr_array, eye_array, kron

    one = replace(layer, channels=1).matrix()
    return csr_array(kron(eye_array(layer.channels), csr_array(one)))


def _apply(step: _Step, x: Vector) -> tuple[Vector, Any]:
    """Value and derivative: a matrix, a vector of slopes, or the index that every output takes its value from."""
    layer = step.layer
    if step.W is not None:
        y = step.W @ x
        return (y if step.b is None else y + step.b), step.W
    if isinstance(layer, Diagonal):
        return (layer.d * x if layer.b is None else layer.d * x + layer.b), np.asarray(layer.d, np.float64)
    if isinstance(layer, MaxPool):
        index = _largest(layer, x)
        return x[index], index
    return EVALUATE[layer.kind](x, layer)


def _largest(layer: MaxPool, x: Vector) -> np.ndarray:
    seen = layer.windows.astype(bool)
    images = x.reshape(layer.channels, -1)
    best = np.stack([np.where(window, images, -np.inf).argmax(1) for window in seen], -1)
    return (best + np.arange(layer.channels)[:, None] * images.shape[1]).reshape(-1)


def _jacobian(steps: list[_Step], x: Vector, front: Matrix | None = None) -> Float[np.ndarray, "out in"]:
    """With `front` in place of the first matrix."""
    J = np.eye(len(x)) if front is None else front
    for k, step in enumerate(steps):
        x, slope = _apply(step, x)
        if k == 0 and front is not None:
            continue
        J = slope @ J if step.W is not None else J[slope] if slope.dtype.kind == "i" else slope[:, None] * J
    return J


def _narrow(steps: list[_Step]) -> Matrix | None:
    """A first dense matrix, or its triangular factor if it is wide: lengths of rows and norms of Jacobians stay the same."""
    W = steps[0].W if steps else None
    if not isinstance(W, np.ndarray):
        return None
    return np.asarray(np.linalg.qr(W.T, "r")).T if W.shape[1] > W.shape[0] else W


def _norm(steps: list[_Step], x: Vector, norm: OutputNorm, front: Matrix | None) -> float:
    J = _jacobian(steps, x, front)
    return operator_norm(J, norm) if np.isfinite(J).all() else 0.0


def _slopes(steps: list[_Step], x: Vector) -> tuple[list[Any], list[int]]:
    """Derivative and number of inputs of each layer at `x`."""
    slopes, widths = [], []
    for step in steps:
        widths.append(len(x))
        x, slope = _apply(step, x)
        slopes.append(slope)
    return slopes, [*widths, len(x)]


def _backward(steps: list[_Step], slopes: list[Any], widths: list[int], v: Vector) -> Vector:
    """$J^\\top v$."""
    for step, slope, width in zip(reversed(steps), reversed(slopes), reversed(widths[:-1]), strict=True):
        selects = step.W is None and slope.dtype.kind == "i"
        v = np.bincount(slope, v, width) if selects else slope.T @ v if step.W is not None else slope * v
    return v


def _longest_row(steps: list[_Step], x: Vector) -> float:
    slopes, widths = _slopes(steps, x)
    rows = (_backward(steps, slopes, widths, e) for e in np.eye(widths[-1]))
    longest = max(float(np.linalg.norm(row)) for row in rows)
    return longest if np.isfinite(longest) else 0.0


def _norm_by_iteration(steps: list[_Step], x: Vector, rng: np.random.Generator) -> float:
    r"""$\lVert J v \rVert$ for the unit vector `v` that a few power iterations end at."""
    slopes, widths = _slopes(steps, x)
    v, stretch = rng.normal(size=widths[0]), 0.0
    for _ in range(STEPS):
        v = y = v / np.linalg.norm(v)
        for step, slope in zip(steps, slopes, strict=True):
            y = slope @ y if step.W is not None else y[slope] if slope.dtype.kind == "i" else slope * y
        stretch = float(np.linalg.norm(y))
        if not (np.isfinite(stretch) and stretch > 0):
            return 0.0
        v = _backward(steps, slopes, widths, y)
    return stretch


def _linear_pieces(x: Vector, layer: Activation) -> Pair:
    slope = np.where(x >= 0, 1.0, layer.alpha if np.all(layer.beta == 1) else layer.beta)
    return slope * x, slope


def _sigmoid(x: Vector, layer: Activation) -> Pair:  # noqa: ARG001
    y = (1 + np.tanh(x / 2)) / 2
    return y, y * (1 - y)


EVALUATE: Mapping[str, Callable[[Vector, Activation], Pair]] = {
    "relu": _linear_pieces,
    "leaky_relu": _linear_pieces,
    "abs": _linear_pieces,
    "identity": lambda x, _: (x, np.ones_like(x)),
    "tanh": lambda x, _: (np.tanh(x), 1 - np.tanh(x) ** 2),
    "sigmoid": _sigmoid,
    "softplus": lambda x, _: (np.logaddexp(0, x), (1 + np.tanh(x / 2)) / 2),
}
"""Value and derivative of the activations by kind."""
