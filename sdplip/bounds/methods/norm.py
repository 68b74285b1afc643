"""Proofs of the norm of linear networks."""

from sdplip.bounds.numerics.norms import LEAST, norm_estimate, with_room
from sdplip.errors import NotProvable
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Proof
from sdplip.network import AbstractLinear, Network
from sdplip.proposals.norm import propose_norm


def norm_proof(network: Network) -> Proof:
    """A proof of the norm of a linear network: nodes in a row as the rule `norm` takes them, branches as one dense matrix.

    Raises:
        NotProvable: a node that no proof covers, branches that are too large for a dense matrix.
    """
    if all(isinstance(node.op, AbstractLinear) for node in network.nodes):
        return propose_norm(network)
    W = matrix(network)
    bound = max(with_room(norm_estimate(W.mid), W.shape) + 2 * W.error(), LEAST)
    if not bound < 1e150:
        raise NotProvable(
            "The norm of a linear part leaves the range of double precision. Rescale the weights."
        )
    return Proof("chain", {"multipliers": [], "kappa": bound * bound * (1 + 1e-15)})
