"""Lower estimates: the largest norm of a Jacobian that was found. The true constant is not below it."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

from sdplip.networks import Activation, Affine, Network

Vector = Float[np.ndarray, " n"]
Pair = tuple[Vector, Vector]


def estimate_lower(network: Network, samples: int = 200, ascents: int = 60) -> float:
    r"""The largest $\lVert J(x) \rVert_2$ at random points and uphill of them; 0.0 where no Jacobian can be computed.

    Far out along $\pm(1, \dots, 1)$ a ReLU network with nonnegative weights has every neuron on, so that its exact
    constant is found.
    Reproducible: the points come from a fixed seed.
    """
    if any(isinstance(layer, Activation) and layer.kind not in EVALUATE for layer in network.layers):
        return 0.0
    rng = np.random.default_rng(0)
    n = network.inputs
    points = [scale * rng.normal(size=n) for scale in (0.1, 1.0, 10.0) for _ in range(samples // 3)]
    points += [np.full(n, far) for far in (1e6, -1e6, 1.0, -1.0)] + [np.zeros(n)]
    norms = [_norm(network, x) for x in points]
    best = int(np.argmax(norms))
    x, most = points[best], norms[best]
    for step in np.geomspace(1.0, 0.01, ascents) * np.linalg.norm(x):
        trial = x + step * rng.normal(size=n) / np.sqrt(n)
        norm = _norm(network, trial)
        if norm > most:
            x, most = trial, norm
    return most


def _norm(network: Network, x: Vector) -> float:
    J = jacobian(network, x)
    return float(np.linalg.norm(J, 2)) if np.isfinite(J).all() else 0.0


def jacobian(network: Network, x: Vector) -> Float[np.ndarray, "out in"]:
    """The Jacobian at `x`; a kink counts as its right side."""
    J = None
    for layer in network.layers:
        if isinstance(layer, Affine):
            W = np.asarray(layer.W, np.float64)
            x = W @ x if layer.b is None else W @ x + layer.b
            J = W if J is None else W @ J
        else:
            x, slope = EVALUATE[layer.kind](x, layer)
            J = np.diag(slope) if J is None else slope[:, None] * J
    assert J is not None
    return J


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
