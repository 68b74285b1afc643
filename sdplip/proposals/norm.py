"""Proposes proofs of norms, for the rule `norm`."""

from weakref import WeakKeyDictionary

import numpy as np

from sdplip.arithmetic.rounding import up
from sdplip.arithmetic.semidefinite import slack
from sdplip.errors import NotProvable
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.closed import linear_factor
from sdplip.kernel.spectral import norm_holds
from sdplip.network import LARGEST, AbstractLinear, Convolution, Dense, Network, OnAxis, Transposed, chain
from sdplip.proposals.convolution import certify_convolution
from sdplip.proposals.dense import certify

MERGED = 1 << 22
"""Entries of the largest matrix that is formed of several layers, or of a layer that has no other proof."""
SMALL = 1 << 18
"""Entries of the matrix of a convolution on small images, of which frequencies would prove larger images as well."""
FREQUENCIES = 4096
"""Frequencies of the image size that are proven; of larger images, cells cover every size."""

_KNOWN: WeakKeyDictionary[Convolution, dict[bool, Proof]] = WeakKeyDictionary()
"""Of convolutions as long as they live, of every size or not: the parts of a network are asked for what the whole was."""


def propose_norm(of: AbstractLinear | Network) -> Proof:
    """A proof of the norm of one operator, or of linear layers in a row: of their product where it is small, else of each.

    Raises:
        NotProvable: an operator that no proof covers, or a bound beyond double precision.
        UnsupportedConvolution: no theorem covers its geometry.
    """
    if isinstance(of, AbstractLinear):
        return _single(of)
    ops = [node.op for node in of.nodes]
    if not all(isinstance(op, AbstractLinear) for op in ops):
        raise NotProvable("`propose_norm` is about linear layers in a row.")
    if len(ops) == 1:
        return _single(ops[0])  # pyright: ignore[reportArgumentType]
    widest = max(of.length(k) for k in range(of.output + 1))
    if of.inputs * widest <= MERGED:
        return _merged(of)
    return Proof("norm", {}, tuple(map(_single, ops)))  # pyright: ignore[reportArgumentType]


def _single(op: AbstractLinear) -> Proof:
    if linear_factor(op) is not None:
        return Proof("norm")
    if isinstance(op, Transposed):
        return _single(op.of)
    if isinstance(op, Dense | OnAxis):
        return Proof("norm", {"c": certify(op.W, np.ones(op.W.shape[1]), scaling="identity").c})
    if isinstance(op, Convolution):
        return _convolution(op)
    if op.inputs * op.outputs > LARGEST:
        raise NotProvable(
            f"No proof covers the norm of a {type(op).__name__} of {op.inputs} -> {op.outputs} entries."
        )
    return _merged(chain([op]))


def _convolution(op: Convolution) -> Proof:
    """As a matrix where it is small, on its image size where that has few frequencies, else on every size: the tightest first."""
    if op.inputs * op.outputs <= SMALL:
        return _merged(chain([op]))
    strides = zip(op.image_size, op.reach, op.stride, strict=True)
    count = np.prod([(h + r * (not op.circular)) / s for h, r, s in strides])
    every = bool(count > FREQUENCIES)
    known = _KNOWN.setdefault(op, {})
    if every not in known:
        found = certify_convolution(op.K, np.ones(op.channels), op.geometry(every_size=every), witness=False)
        known[every] = Proof("norm", {"c": found.c, "every_size": every, "grid": list(found.grid or ())})
    return known[every]


def _merged(network: Network) -> Proof:
    A = matrix(network)
    if not (A.mid.any() or A.rad.any()):
        return Proof("norm", {"merged": True, "c": 0.0})
    c = certify(A.mid, np.ones(A.shape[1])).c if A.mid.any() else 0.0
    error = float(
        A.magnitude().sum(0).max() * A.radius().sum(1).max()
        + A.magnitude().sum(1).max() * A.radius().sum(0).max()
    )
    for room in 4.0 ** np.arange(12):
        c_room = up(float(np.sqrt(c * c * (1 + room * slack(min(A.shape))) + room / 4 * error)))
        c_room = max(c_room, 2.0**-500)  # of a product of zeros, whose radius is what underflow may leave
        if norm_holds(A, c_room):
            return Proof("norm", {"merged": True, "c": c_room})
    raise NotProvable("No finite norm of this product could be proven.")
