"""The network whose output is the difference of two outputs of another."""

import numpy as np

from sdplip.certificates.rounding import up
from sdplip.errors import InvalidProblem
from sdplip.networks.network import Affine, Network


def difference(network: Network, i: int, j: int) -> tuple[Network, float]:
    r"""The network with output $f_i - f_j$, and a bound of the norm of what the rounded difference of two rows leaves out.

    With $s = fl(a - b)$ Knuth's TwoSum gives the error of $s$ exactly; it is 0 for float32 weights of like size.

    Raises:
        InvalidProblem: a pair of outputs that does not exist.
    """
    layers = list(network.layers)
    if not (0 <= i < network.outputs and 0 <= j < network.outputs and i != j):
        raise InvalidProblem(
            f"`output_pair` must name two different outputs of 0 to {network.outputs - 1}, not {i} and {j}."
        )
    last = layers[-1]
    if not isinstance(last, Affine):
        unit = np.eye(network.outputs)
        return Network((*layers, Affine((unit[i] - unit[j])[None]))), 0.0
    W = np.asarray(last.W, np.float64)
    a, b = W[i], -W[j]
    s = a + b
    t = s - a
    error = (a - (s - t)) + (b - t)
    layers[-1] = Affine(s[None], None if last.b is None else np.array([last.b[i] - last.b[j]]))
    return Network(tuple(layers)), up(float(abs(error).sum()) * (1 + 1e-9)) if error.any() else 0.0
