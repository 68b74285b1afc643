"""What a bound of a network is: a proven number, and what is known about how far it could come down."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from sdplip.certificates.network import NetworkCertificate
from sdplip.certificates.parts import PartProof
from sdplip.certificates.pieces_file import Node
from sdplip.certificates.system_file import Claim
from sdplip.certificates.system_proof import SystemCertificate
from sdplip.networks import Chain
from sdplip.solvers.solution import Status


@dataclass(frozen=True, eq=False)
class Proposal:
    r"""What a method hands to the kernel. Nothing here is trusted.

    Attributes:
        multipliers: one vector a hidden layer, in the normalisation of `certificates.network` ($X_0 = I$).
        slopes: the slopes they are meant for, which contain those of the network.
        status: how the method ended.
        sdp_lower: a lower value of the optimum over all multipliers of the method, from the dual; floating point, not proven.
        iterations: of the solver, 0 for closed forms.
    """

    multipliers: tuple[Float[np.ndarray, " n"], ...]
    slopes: tuple[tuple[np.ndarray, np.ndarray], ...]
    status: Status = Status.OPTIMAL
    sdp_lower: float | None = None
    iterations: int = 0


class Proposer(Protocol):
    """What proposes multipliers of a chain, a general solver for instance; the kernel proves what they prove."""

    @property
    def name(self) -> str: ...

    def __call__(self, chain: Chain) -> Proposal: ...


@dataclass(frozen=True, eq=False)
class NetworkBound:
    """A Lipschitz bound of a network in Euclidean norms, with its proof.

    Attributes:
        value: the kernel's bound; no solver is trusted for it.
        lower: largest Jacobian norm that was found: the true constant is not below it (up to its own rounding).
        sdp_lower: dual value: no multipliers of this method prove less. Floating point; None where the method has none.
        method: what `value` comes from; of `auto`, the winner.
        status: how the solver ended.
        multipliers: what was proven, None of the product and composite bounds.
        certificate: the proof as data, None of the product and composite bounds.
        order: number of hidden neurons, the order of the LMI.
        seconds: wall time, proof included.
        iterations: of the solver.
        others: value of every method that was tried, the winner included.
        chain: the matrices; of a network that is a chain its slopes too.
        claim: what the system certificate speaks of: networks with sorting or residual sums, regions; None of chains.
        system_certificate: the proof of such a claim; None of its product bound.
        row: the output of the largest bound, where `value` bounds the largest output alone ("linf"); None of all outputs ("l2").
        row_proofs: of "linf", the proofs of the outputs that were asked for; None of those whose product bound is one.
        parts: the proofs of the parts that were bounded one by one: between maxima over windows, and of large images; of the
            product and composite bounds of a chain, the one proof that names them.
        pieces: the tree of cuts and proofs of a region that was cut.
    """

    value: float
    lower: float
    sdp_lower: float | None
    method: str
    status: Status
    multipliers: tuple[Float[np.ndarray, " n"], ...] | None
    certificate: NetworkCertificate | None
    order: int
    seconds: float
    iterations: int
    others: dict[str, float]
    chain: Chain
    claim: Claim | None = None
    system_certificate: SystemCertificate | None = None
    row: int | None = None
    row_proofs: tuple[SystemCertificate | None, ...] = ()
    parts: tuple[PartProof, ...] = ()
    pieces: tuple[Node, ...] = ()

    @property
    def gap(self) -> float | None:
        """`value` minus `sdp_lower`, relative to `value`; None without a dual value."""
        return (
            None if self.sdp_lower is None or self.value == 0 else (self.value - self.sdp_lower) / self.value
        )


def proof_of(result: NetworkBound) -> PartProof:
    """What proves the bound of a chain, or of a network that is one part, in a file of parts."""
    if result.parts:
        (proof,) = result.parts
        return proof
    proof = result.certificate
    if proof is None:
        return PartProof("composite" if result.method == "composite" else "product", result.value)
    return PartProof("multipliers", result.value, proof.bound, proof.multipliers, proof.slopes)
