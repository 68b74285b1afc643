"""Proofs of the norm of linear networks."""

from contextlib import suppress

from sdplip.bounds.numerics.norms import provable_norm
from sdplip.bounds.numerics.stationary import stationary_proof
from sdplip.bounds.numerics.waves import cubes
from sdplip.errors import NotProvable
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.folded import fold
from sdplip.kernel.stationary import Plan, plan
from sdplip.network import AbstractLinear, Convolution, Network, Sum
from sdplip.proposals.norm import propose_norm

SMALL = 1 << 22
"""Entries of the largest matrix that neighbouring linear nodes are multiplied to."""
FREQUENCIES = 1e9
"""Frequencies times the cubes of channels up to which a sum of images is taken as one map: some ten seconds."""
WORK = 2e9
"""Operations for the Gram matrix of a convolution up to which it is taken as a dense matrix: tighter where images have edges."""


def norm_proof(network: Network) -> Proof:
    """A proof of the norm of a linear network: nodes in a row as the rule `norm` takes them, branches as one dense matrix.

    Raises:
        NotProvable: a node that no proof covers, branches that are too large for a dense matrix.
    """
    ops = [node.op for node in network.nodes]
    if not all(isinstance(op, AbstractLinear) for op in ops):
        if not is_small(network) and (planned := summed_images(network)) is not None:
            return stationary_proof(network, planned, {})[1]
        c = _dense_bound(network)
        return Proof("chain", {"multipliers": [], "kappa": c * c * (1 + 1e-15)})
    if is_small(network) and (len(ops) > 1 or isinstance(ops[0], Convolution)):
        return Proof("norm", {"merged": True, "c": _dense_bound(network)})
    if (op := folded_convolution(network)) is not None:
        return Proof("folded", {}, (propose_norm(op),))
    return propose_norm(network)


def is_small(network: Network) -> bool:
    """Whether a linear network is better taken as one dense matrix."""
    m, n = sorted((network.inputs, network.outputs))
    widest = network.inputs * max(node.op.outputs for node in network.nodes)
    return widest <= SMALL and (len(network.nodes) > 1 or 2.0 * m * m * n <= WORK)


def summed_images(network: Network) -> Plan | None:
    """The plan of a linear network that ends in a sum of images and does the same at every pixel; None where it is another one."""
    if not isinstance(network.nodes[-1].op, Sum):
        return None
    with suppress(NotProvable):
        planned = plan(network, network.output)
        return None if planned.unknowns or cubes(planned) > FREQUENCIES else planned
    return None


def _dense_bound(network: Network) -> float:
    bound = provable_norm(matrix(network))
    if not bound < 1e150:
        raise NotProvable(
            "The norm of a linear part leaves the range of double precision. Rescale the weights."
        )
    return bound


def folded_convolution(network: Network) -> Convolution | None:
    """A convolution with normalisations of its channels before and behind it as one; None where it is none."""
    if len(network.nodes) < 2 or not any(isinstance(node.op, Convolution) for node in network.nodes):
        return None
    with suppress(NotProvable):
        return fold(network)[0]
    return None
