"""Proofs of the norm of linear networks."""

from contextlib import suppress

from sdplip.bounds.numerics.norms import LEAST, norm_estimate, with_room
from sdplip.errors import NotProvable
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.folded import fold
from sdplip.network import AbstractLinear, Convolution, Network
from sdplip.proposals.norm import propose_norm

SMALL = 1 << 22
"""Entries of the largest matrix that neighbouring linear nodes are multiplied to."""


def norm_proof(network: Network) -> Proof:
    """A proof of the norm of a linear network: nodes in a row as the rule `norm` takes them, branches as one dense matrix.

    Raises:
        NotProvable: a node that no proof covers, branches that are too large for a dense matrix.
    """
    if all(isinstance(node.op, AbstractLinear) for node in network.nodes):
        if not is_small(network) and (op := folded_convolution(network)) is not None:
            return Proof("folded", {}, (propose_norm(op),))
        return propose_norm(network)
    W = matrix(network)
    bound = max(with_room(norm_estimate(W.mid), W.shape) + 2 * W.error(), LEAST)
    if not bound < 1e150:
        raise NotProvable(
            "The norm of a linear part leaves the range of double precision. Rescale the weights."
        )
    return Proof("chain", {"multipliers": [], "kappa": bound * bound * (1 + 1e-15)})


def is_small(network: Network) -> bool:
    """Whether a linear network may be one dense matrix."""
    return network.inputs * max(node.op.outputs for node in network.nodes) <= SMALL


def folded_convolution(network: Network) -> Convolution | None:
    """A convolution with normalisations of its channels before and behind it as one; None where it is none."""
    if len(network.nodes) < 2 or not any(isinstance(node.op, Convolution) for node in network.nodes):
        return None
    with suppress(NotProvable):
        return fold(network)[0]
    return None
