r"""A network as $W_l\, \varphi_{l-1} (\dots \varphi_1(W_1 x))$: what is linear between two activations as one matrix.

The linear parts may hold anything linear, branches and sums too; the activations stand where everything passes through.
Biases leave increments unchanged."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.errors import NotProvable
from sdplip.kernel.linear import matrix
from sdplip.kernel.surgery import between
from sdplip.network import Activation, Network, is_linear
from sdplip.shapes import Bool, Float

Vector = Float[np.ndarray, " n"]
Slopes = tuple[Vector, Vector]


@dataclass(frozen=True, eq=False)
class Stages:
    """Matrices, first one first, and the slopes behind all but the last."""

    weights: tuple[Enclosure, ...]
    slopes: tuple[Slopes, ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """Neurons of each hidden layer."""
        return tuple(len(W) for W in self.weights[:-1])


def linear_parts(network: Network) -> Iterator[tuple[int, int]]:
    """First and last value of what is linear before, between and behind the activations; equal where nothing is.

    Raises:
        NotProvable: the network is no chain of linear parts and activations.
    """
    start = 0
    for k, node in enumerate(network.nodes, 1):
        if is_linear(node.op):
            continue
        if not isinstance(node.op, Activation):
            raise NotProvable(f"A {node.title} is no layer of a chain of matrices and activations.")
        yield start, node.inputs[0]
        start = k
    yield start, network.output


def stages(network: Network) -> Stages:
    """The network as a chain of matrices.

    Raises:
        NotProvable: it is none, or a matrix would have more than `LARGEST` entries.
    """
    weights, slopes = list[Enclosure](), list[Slopes]()
    for start, end in linear_parts(network):
        if start == end:
            weights.append(Enclosure(np.eye(network.length(start)), np.zeros((1, 1))))
        else:
            weights.append(matrix(between(network, start, end)))
        if start:
            op = network.made(start).op
            assert isinstance(op, Activation)
            slopes.append((op.alpha, op.beta))
    return Stages(tuple(weights), tuple(slopes))


def living(chain: Stages) -> list[Bool[np.ndarray, " n"]]:
    """Of each hidden layer, which neurons an input reaches and an output sees, by weights and slopes that are not 0.

    The increments of all others are 0, or appear nowhere: they leave every statement exactly.
    """
    nonzero = [(W.mid != 0) | (W.rad > 0) for W in chain.weights]
    alive = [(alpha != 0) | (beta != 0) for alpha, beta in chain.slopes]
    reached = np.ones(nonzero[0].shape[1], bool)
    for W, rows in zip(nonzero, alive, strict=False):
        rows &= W[:, reached].any(1)
        reached = rows
    for k in reversed(range(len(alive))):
        seen = np.ones(len(nonzero[-1]), bool) if k == len(alive) - 1 else alive[k + 1]
        alive[k] &= nonzero[k + 1][seen].any(0)
    return alive
