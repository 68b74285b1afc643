r"""Rule `folded`: normalisation of channels multiplied into a convolution.

$A = D_2 C D_1$ with a convolution C and diagonals that are constant on each channel is the convolution with the kernel $d_2 K d_1$,
and its norm is smaller than the product of three. That kernel is computed here, with a radius R of each entry for rounding and the
errors of the diagonals: $\lVert A \rVert \le \lVert A' \rVert + \sqrt{\lVert C_R \rVert_1 \lVert C_R \rVert_\infty}$, where $C_R$ is
the convolution with the kernel R.

No data. One part: the proof of the norm of the convolution with the product as its kernel.
"""

from dataclasses import replace

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import up
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.closed import row_and_column_sums
from sdplip.network import Convolution, Diagonal, Network, chain
from sdplip.shapes import Float


def folded(goal: Goal, proof: Proof, prove: Prove) -> float:
    """The norm of the convolution with its normalisations."""
    if len(proof.parts) != 1:
        raise NotProvable(
            "`folded` needs one part, the proof of the convolution that normalisations were multiplied into."
        )
    op, radius = fold(goal.network)
    return up(prove(Goal(chain([op])), proof.parts[0]) + row_and_column_sums(radius))


def fold(network: Network) -> tuple[Convolution, Convolution]:
    """The convolution with the product as its kernel, without a shift, and the one with its radii.

    Raises:
        NotProvable: other nodes than one convolution and diagonals that are constant on its channels, in a row.
    """
    ops = [node.op for node in network.nodes]
    row = all(node.inputs == (k,) for k, node in enumerate(network.nodes))
    places = [k for k, op in enumerate(ops) if isinstance(op, Convolution)]
    if len(places) != 1 or not row:
        raise NotProvable("`folded` is about one convolution and normalisations of its channels in a row.")
    conv = ops[places[0]]
    assert isinstance(conv, Convolution)
    axes, K = conv.K.ndim - 2, Enclosure.exact(conv.K)
    for k, op in enumerate(ops):
        if k == places[0]:
            continue
        if not isinstance(op, Diagonal):
            raise NotProvable(f"A {network.nodes[k].title} cannot be folded into a convolution.")
        if k < places[0]:
            each = _channels(op, conv.channels).reshape(conv.groups, -1)
            d = np.repeat(each, len(conv.K) // conv.groups, 0).reshape(*conv.K.shape[:2], *(1,) * axes)
        else:
            d = _channels(op, len(conv.K)).reshape(-1, *(1,) * (axes + 1))
        K = K * Enclosure.of(d, op.error)
    if not np.isfinite(K.rad).all():
        raise NotProvable("The kernel with its normalisations leaves the range of double precision.")
    return replace(conv, K=K.mid, b=None), replace(conv, K=np.array(K.radius()), b=None)


def _channels(op: Diagonal, channels: int) -> Float[np.ndarray, " channels"]:
    """The factor of each channel."""
    d = op.d.reshape(channels, -1)
    if (d != d[:, :1]).any():
        raise NotProvable("A diagonal is not constant on the channels of the convolution.")
    return d[:, 0]
