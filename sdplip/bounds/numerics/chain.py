"""A network as matrices and slopes in floating point: what methods for chains propose multipliers of."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from sdplip.kernel.stages import Stages, living
from sdplip.solvers.solution import Status

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Slopes = tuple[Vector, Vector]
FEW_LAYERS, MANY, OUTPUTS = 4, 250, 4
"""Hidden layers up to which, neurons from which on, and neurons for each output from which on slopes from 0 have the barrier method:
there it is quicker."""


@dataclass(frozen=True, eq=False)
class Chain:
    r"""$W_l\, \varphi_{l-1}(\dots \varphi_1(W_1 x))$: matrices `(out, in)`, and slopes of every hidden neuron."""

    weights: tuple[Matrix, ...]
    slopes: tuple[Slopes, ...]

    @property
    def order(self) -> int:
        """Number of hidden neurons."""
        return sum(len(W) for W in self.weights[:-1])


def is_shallow(widths: Sequence[int]) -> bool:
    """Whether a chain of inputs, hidden layers and outputs is one for the barrier method of `lipsdp`, if its slopes begin at 0."""
    return len(widths) <= 2 + FEW_LAYERS and sum(widths[1:-1]) >= max(MANY, OUTPUTS * widths[-1])


@dataclass(frozen=True, eq=False)
class Proposal:
    r"""What a method hands to the kernel. Nothing here is trusted.

    Attributes:
        multipliers: one vector a hidden layer, in the normalisation of the rule `chain` ($X_0 = I$).
        widen: the slopes they are meant for are at least so long.
        status: how the method ended.
        sdp_lower: a lower value of the optimum over all multipliers of the method, from the dual; floating point, not proven.
        iterations: of the solver, 0 for closed forms.
    """

    multipliers: tuple[Vector, ...]
    widen: float = 0.0
    status: Status = Status.OPTIMAL
    sdp_lower: float | None = None
    iterations: int = field(default=0)


@dataclass(frozen=True, eq=False)
class Living:
    """`chain` is what is left of a network without its dead neurons; `alive` says of each hidden layer which neurons are not."""

    chain: Chain
    alive: list[Bool[np.ndarray, " n"]]

    @property
    def constant(self) -> bool:
        """Whether no path leads through the network."""
        return any(not rows.any() for rows in self.alive) or not all(W.any() for W in self.chain.weights)

    def expand(self, multipliers: tuple[Vector, ...]) -> tuple[Vector, ...]:
        """Multipliers of all neurons: 0 of the dead."""
        whole = tuple(np.zeros(len(rows)) for rows in self.alive)
        for full, rows, some in zip(whole, self.alive, multipliers, strict=True):
            full[rows] = some
        return whole


def living_chain(parts: Stages) -> Living:
    """The living part of a network."""
    alive = living(parts)
    rows = [*alive, np.ones(len(parts.weights[-1]), bool)]
    columns = [np.ones(parts.weights[0].shape[1], bool), *alive]
    weights = tuple(W.mid[np.ix_(r, c)] for W, r, c in zip(parts.weights, rows, columns, strict=True))
    slopes = tuple((alpha[r], beta[r]) for (alpha, beta), r in zip(parts.slopes, alive, strict=True))
    return Living(Chain(weights, slopes), alive)
