"""Multipliers of one solve for all pairs of outputs: the best multiple of them for each pair, one proof a pair."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.bounds.answer import NetworkBound
from sdplip.bounds.methods.equilibrium import is_implicit
from sdplip.bounds.numerics.shared import SharedMultipliers
from sdplip.bounds.task import Proven, Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.network import Activation, Network
from sdplip.verifier.claim import chosen

Vector = Float[np.ndarray, " n"]
ROOMS = (1e-8, 1e-6, 1e-4)
"""By how much kappa may exceed what floating point says, relative."""


@dataclass(frozen=True, eq=False)
class Common:
    """Multipliers of a network, or of the part in front of its head, and what all pairs have in common with them.

    Attributes:
        network: whose outputs are paired.
        narrow: whether they are of the network with a square first matrix.
        multipliers: in the normalisation of systems.
        shared: the factors.
    """

    network: Network
    narrow: bool
    multipliers: Vector
    shared: SharedMultipliers

    @staticmethod
    def of(network: Network, solved: NetworkBound) -> "Common | None":
        """Of the bound of `network`, or of a part in front of linear nodes; None where it has no multipliers that fit."""
        if is_implicit(network):
            return None  # of which the multipliers are not those of `joint`
        task = Task(network)
        inner = task.narrow or task
        multipliers = _of_joint(solved)
        if multipliers is None or len(multipliers) != inner.system.multipliers:
            return None
        try:
            shared = SharedMultipliers.of(inner.system, multipliers)
        except np.linalg.LinAlgError:
            return None
        return Common(network, inner is not task, multipliers, shared)

    def proven(self, pair: tuple[int, int], most: float) -> Proven | None:
        """What the best multiple proves of a pair of outputs below `most`; None where it proves nothing."""
        kappa, theta = self.shared.best(*pair)
        if not kappa < most * most:
            return None
        apart = Task(chosen(self.network, pair))
        for room in ROOMS:
            proof = Proof("joint", {"multipliers": theta * self.multipliers, "kappa": kappa * (1 + 2 * room)})
            proof = Proof("narrow", {}, (proof,)) if self.narrow else proof
            try:
                return Proven(apart.conclude(proof), proof, "shared multipliers")
            except NotProvable:
                continue
        return None


def _of_joint(solved: NetworkBound) -> Vector | None:
    """Multipliers in the normalisation of systems; None where a bound has none, one a neuron."""
    proof = solved.proof.parts[0] if solved.proof.rule == "narrow" else solved.proof
    if proof.rule == "joint":
        return proof.data["multipliers"]
    if proof.rule != "chain":
        return None
    ops = [node.op for node in solved.goal.network.nodes if isinstance(node.op, Activation)]
    curved = [op for op in ops if (op.alpha != op.beta).any()]
    given = zip(proof.data["multipliers"], curved, strict=True)
    lam = (
        np.concatenate([lam[op.alpha != op.beta] for lam, op in given]) * solved.bound**2
    )  # chains divide by kappa
    return np.maximum(lam, 1e-9 * lam.max(initial=1e-300))
