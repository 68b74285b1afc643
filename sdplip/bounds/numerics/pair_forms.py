"""Multipliers of pairs as solvers propose them, and the proof of what they give. The kernel judges (`kernel.rules.pairwise`)."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from sdplip.bounds.increments import Increments, backward
from sdplip.bounds.numerics.joint_proof import joint_proof
from sdplip.bounds.numerics.riccati import FAMILIES
from sdplip.bounds.task import Task
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.pairwise import alone
from sdplip.solvers.solution import Status

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Pairs = Int[np.ndarray, "pairs 2"]
UPPER = np.triu_indices(4)
ABOVE = np.triu_indices(4, 1)


@dataclass(frozen=True, eq=False)
class PairForms:
    """What a solver hands on.

    Attributes:
        multipliers: one for each group of the system, as for `joint`; of any sign where a pair has the variable.
        at: the variables of each pair.
        forms: F of the rule.
        rests: $N_1$ and $N_{-1}$ above the diagonal.
        status, sdp_lower, iterations: as in `Proposal`.
    """

    multipliers: Vector
    at: Pairs
    forms: Float[np.ndarray, "pairs 4 4"]
    rests: Float[np.ndarray, "pairs 2 6"]
    status: Status = Status.OPTIMAL
    sdp_lower: float | None = None
    iterations: int = 0

    def proof(self, task: Task, system: Increments) -> tuple[float, Proof]:
        """The least bound that the kernel proves with them.

        Raises:
            NotProvable: none.
        """
        data = {
            "first": self.at[:, 0].tolist(),
            "second": self.at[:, 1].tolist(),
            "forms": self.forms[:, *UPPER],
            "rests": self.rests,
        }
        R = rows(system, self.at)
        less = np.einsum("gam,gab,gbn->mn", R, self.forms, R, optimize=True)
        return joint_proof(task, system, self.multipliers, "pairwise", data, (less + less.T) / 2)


@dataclass(frozen=True, eq=False)
class Scaled:
    """A system in coordinates in which a feasible point is 1: `kappa` and all multipliers.

    Attributes:
        system: weights are 1.
        kappa: that was 1.1 times that of the closed form.
        start: its multipliers, a little enlarged.
        root: by which p and q of each variable were multiplied.
    """

    system: Increments
    kappa: float
    start: Vector
    root: Vector

    @staticmethod
    def of(system: Increments) -> "Scaled":
        """The system in coordinates of its backward recursion.

        Raises:
            numpy.linalg.LinAlgError: the output does not depend on the input, or numbers leave the range of double precision.
        """
        n, N = system.inputs, system.order
        kappa, start = backward(system, FAMILIES["spectral"])
        if not kappa > 0:
            raise np.linalg.LinAlgError("the output does not depend on the input")
        kappa, start = 1.1 * kappa, 1.02 * start
        root = np.sqrt(start[system.group] * system.weight)
        both = np.concatenate([system.y, system.out]) * np.concatenate([np.full(n, kappa**-0.5), 1 / root])
        inner = replace(system, y=both[:N] * root[:, None], out=both[N:], weight=np.ones(N))
        return Scaled(inner, kappa, start, root)

    def back(self, found: PairForms) -> PairForms:
        """What was found in these coordinates, in those of the network."""
        four = np.repeat(self.root[found.at], 2, 1)
        both = four[:, :, None] * four[:, None, :]
        return replace(
            found,
            multipliers=found.multipliers * self.start,
            forms=found.forms * both,
            rests=found.rests * both[:, None, *ABOVE],
            sdp_lower=None if found.sdp_lower is None else found.sdp_lower * self.kappa**0.5,
        )


def few(variables: int) -> int:
    """Pairs at once where the caller does not say: about half of them prove to be at work."""
    return min(400, 100 + variables)


def rows(system: Increments, at: Pairs) -> Float[np.ndarray, "pairs 4 columns"]:
    r"""$p_i, q_i, p_j, q_j$ of each pair, in inputs and variables."""
    e = np.eye(system.order, system.inputs + system.order, system.inputs)
    both = np.stack([e - system.alpha[:, None] * system.y, system.beta[:, None] * system.y - e], 1)
    return both[at].reshape(len(at), 4, system.inputs + system.order)


def candidates(system: Increments, layers: int | None = None) -> Pairs:
    """Pairs of variables that a form may be about; None allows any distance of their layers, 0 asks for the same."""
    single = np.flatnonzero(alone(system))
    i, j = (single[k] for k in np.triu_indices(len(single), 1))
    near = slice(None) if layers is None else abs(system.depth[i] - system.depth[j]) <= layers
    return np.stack([i[near], j[near]], 1)
