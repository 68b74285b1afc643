r"""A network in the form that every bound starts from: $f = W_l \varphi_{l-1}(\dots \varphi_1(W_1 x + b_1)) + b_l$."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.networks.network import Activation, Affine, Network

Slopes = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Chain:
    """Weights in double precision, exactly as they stand, and the slopes of each hidden layer, one entry a neuron.

    A leading or trailing activation gets an identity matrix beside it, which changes nothing.
    """

    weights: tuple[Float[np.ndarray, "m n"], ...]
    slopes: tuple[Slopes, ...]

    @property
    def order(self) -> int:
        """Number of hidden neurons: the order of the LMI whose input block is eliminated."""
        return sum(len(W) for W in self.weights[:-1])


def chain_of(network: Network) -> Chain:
    """The chain that computes `network`, without biases."""
    layers = list(network.layers)
    if isinstance(layers[0], Activation):
        layers.insert(0, Affine(np.eye(network.inputs)))
    if isinstance(layers[-1], Activation):
        layers.append(Affine(np.eye(network.outputs)))
    weights = tuple(np.asarray(layer.W, np.float64) for layer in layers if isinstance(layer, Affine))
    activations = [layer for layer in layers if isinstance(layer, Activation)]
    slopes = tuple(
        (np.zeros(len(W)) + layer.alpha, np.zeros(len(W)) + layer.beta)
        for W, layer in zip(weights, activations, strict=False)
    )
    return Chain(weights, slopes)
