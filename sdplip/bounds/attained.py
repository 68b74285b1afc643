r"""What no multipliers can prove less than: linear maps that the inequalities of a network allow.

An inequality $(v - \alpha y)(v - \beta y) \le 0$ holds for $v = \alpha y$ and $v = \beta y$, and that of sorting for every
permutation. Hence the norm of the network with such slopes in place of its activations is a lower value of LipSDP. Residual
networks $x - W S \sigma(W^\top x)$ attain their layer-wise bound this way: with $v = 0$ every block is the identity.
"""

import numpy as np
from jaxtyping import Float

from sdplip.certificates.system import Layers, Map, Skip, Slope, Sort
from sdplip.networks import Network, system_layers

Matrix = Float[np.ndarray, "m n"]


def attained(network: Network) -> tuple[float, Float[np.ndarray, "outputs outputs"]]:
    """The largest norm found of all outputs and of every pair, in floating point: no bound from above, and not proven.

    Raises:
        InvalidProblem: a layer that has no dense matrix.
    """
    layers, n = system_layers(network), network.outputs
    whole, pairs = 0.0, np.zeros((n, n))
    for upper in (False, True):
        J = _linear(layers, np.eye(network.inputs), upper)
        G = J @ J.T
        square = np.diag(G)[:, None] + np.diag(G) - 2 * G
        whole = max(whole, float(np.linalg.eigvalsh(G)[-1]) ** 0.5)
        pairs = np.maximum(pairs, np.sqrt(np.maximum(square, 0.0)))
    return whole, pairs


def _linear(layers: Layers, J: Matrix, upper: bool) -> Matrix:
    for layer in layers:
        if isinstance(layer, Map):
            J = layer.W @ J
        elif isinstance(layer, Slope):
            J = (layer.beta if upper else layer.alpha)[:, None] * J
        elif isinstance(layer, Skip):
            J = J + _linear(layer.branch, J, upper)
        elif upper:
            assert isinstance(layer, Sort)
            J = J.copy()
            J[layer.groups] = J[layer.groups[:, ::-1]]
    return J
