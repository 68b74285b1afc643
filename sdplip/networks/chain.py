r"""A network in the form that every bound starts from: $f = W_l \varphi_{l-1}(\dots \varphi_1(W_1 x + b_1)) + b_l$."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from sdplip.certificates.rounding import GENEROUS, gamma, up
from sdplip.errors import InvalidProblem
from sdplip.networks.groupsort import GroupSort
from sdplip.networks.linear import merged
from sdplip.networks.network import Activation, Affine, Linear, Network
from sdplip.networks.pooling import MaxPool
from sdplip.networks.residual import Residual

Slopes = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Chain:
    """Weights in double precision, exactly as they stand, and the slopes of each hidden layer, one entry a neuron.

    A leading or trailing activation gets an identity matrix beside it, which changes nothing. `errors` are the spectral norms
    that merging linear layers left out, one a weight; empty where none did.
    """

    weights: tuple[Float[np.ndarray, "m n"], ...]
    slopes: tuple[Slopes, ...]

    errors: tuple[float, ...] = field(default=())

    @property
    def order(self) -> int:
        """Number of hidden neurons: the order of the LMI whose input block is eliminated."""
        return sum(len(W) for W in self.weights[:-1])

    def remainder(self) -> float:
        r"""What is to be added to every bound over all slopes of the chain, so that it holds for the layers that were merged.

        $\lVert W_l^* D \cdots D W_1^* \rVert \le \lVert W_l D \cdots D W_1 \rVert + \sum_k e_k \prod_{j \ne k}
        (\lVert W_j \rVert + e_j)$ times the largest slopes; 0.0 where nothing was rounded.
        """
        if not any(self.errors):
            return 0.0
        norms = [up(_norm_above(W) + e) for W, e in zip(self.weights, self.errors, strict=True)]
        slope = float(np.prod([max(1.0, *(float(abs(v).max()) for v in pair)) for pair in self.slopes]))
        terms = (e * np.prod(norms[:k]) * np.prod(norms[k + 1 :]) for k, e in enumerate(self.errors))
        return up(float(sum(terms)) * slope * GENEROUS)


def chain_of(network: Network) -> Chain:
    """The chain that computes `network`, without biases; consecutive linear layers as one matrix.

    Raises:
        InvalidProblem: a maximum over windows, or images too large for dense matrices.
    """
    runs, activations = runs_of(network)
    pieces = [merged(run) for run in runs]
    weights = tuple(piece.W for piece in pieces)
    slopes = tuple(
        (np.zeros(len(W)) + layer.alpha, np.zeros(len(W)) + layer.beta)
        for W, layer in zip(weights, activations, strict=False)
    )
    errors = tuple(piece.error for piece in pieces)
    return Chain(weights, slopes, errors if any(errors) else ())


def runs_of(network: Network) -> tuple[list[list[Linear]], list[Activation]]:
    """The linear layers before, between and behind the activations; an identity matrix where there are none.

    Raises:
        InvalidProblem: a maximum over windows, which splits a network (`sdplip.networks.segments`), sorting, a residual sum.
    """
    runs, activations = [list[Linear]()], list[Activation]()
    for layer in network.layers:
        if isinstance(layer, MaxPool | GroupSort | Residual):
            raise InvalidProblem(
                f"A {type(layer).__name__} is no layer of a chain. Use `sdplip.bounds.bound`."
            )
        if isinstance(layer, Activation):
            activations.append(layer)
            runs.append([])
        else:
            runs[-1].append(layer)
    if not runs[0]:
        runs[0].append(Affine(np.eye(network.inputs)))
    if not runs[-1]:
        runs[-1].append(Affine(np.eye(network.outputs)))
    return runs, activations


def _norm_above(W: Float[np.ndarray, "m n"]) -> float:
    r"""$\lVert W \rVert_2^2 \le \lVert W \rVert_1 \lVert W \rVert_\infty$, rounded up."""
    a = abs(W)
    return up(float(np.sqrt(a.sum(0).max() * a.sum(1).max())) * (1 + gamma(2 * max(W.shape) + 4)))
