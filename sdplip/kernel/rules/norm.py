r"""Rule `norm`: the spectral norm of linear nodes in a row.

One node. Where its norm stands in closed form (`closed`), no data are needed. A matrix, on an axis or transposed or not, is proven to have
at most the norm `c` by $W^\top W \preceq c^2 I$; a convolution likewise at every frequency of its image size, or of every size
(`every_size`, on the cells of `grid`). With `merged`, the dense matrix of any node is proven instead.

Several nodes. The product of what the parts prove, one part a node; or, with `merged`, the norm `c` of the product as one matrix, its
rounding and the errors of its operators included. Shifts play no role.

Data: `c`, `merged` (false if missing), of a convolution `every_size` and `grid`."""

import numpy as np

from sdplip.arithmetic.rounding import up
from sdplip.errors import NotProvable, SdplipError
from sdplip.kernel.condition.certificate import Form
from sdplip.kernel.condition.convolution import statement
from sdplip.kernel.condition.dense import holds
from sdplip.kernel.condition.known import known
from sdplip.kernel.data import flag, number, wholes
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.rules.closed import linear_factor
from sdplip.kernel.spectral import norm_holds
from sdplip.network import AbstractLinear, Convolution, Dense, OnAxis, Transposed
from sdplip.shapes import Float


def norm(goal: Goal, proof: Proof, prove: Prove) -> float:
    """The norm of all nodes together."""
    network = goal.network
    for k, node in enumerate(network.nodes, 1):
        if not isinstance(node.op, AbstractLinear) or node.inputs != (k - 1,):
            raise NotProvable(f"`norm` is about linear layers in a row, but layer {k} is a {node.title}.")
    try:
        if "merged" in proof.data and flag(proof, "merged"):
            c = number(proof, "c")
            if not norm_holds(matrix(network), c):
                raise _wrong(c)
            return c
        if len(network.nodes) == 1:
            op = network.nodes[0].op
            assert isinstance(op, AbstractLinear), "it was looked at above"
            return _single(op, proof)
    except NotProvable:
        raise
    except SdplipError as error:
        raise NotProvable(str(error)) from None
    if len(proof.parts) != len(network.nodes):
        raise NotProvable(f"`norm` of {len(network.nodes)} layers needs a part for each, or `merged`.")
    total = 1.0
    for k, part in enumerate(proof.parts):
        factor = prove(Goal(network.between(k, k + 1)), part)
        total = factor if total == 1.0 else up(total * factor)
    return total


def _single(op: AbstractLinear, proof: Proof) -> float:
    """The norm of one operator."""
    closed = linear_factor(op)
    if closed is not None:
        return closed
    if isinstance(op, Transposed):
        return _single(op.of, proof)
    c = number(proof, "c")
    if isinstance(op, Dense | OnAxis):
        proven = holds(op.W, np.ones(op.W.shape[1]), c)
    elif isinstance(op, Convolution):
        proven = convolution_proven(op, op.K, np.ones(op.channels), "linear", proof, c)
    else:
        raise NotProvable(f"The norm of a {type(op).__name__} is proven with `merged`.")
    if not proven:
        raise _wrong(c)
    return c


def convolution_proven(
    op: Convolution,
    K: Float[np.ndarray, "..."],
    t: Float[np.ndarray, " channels"],
    form: Form,
    proof: Proof,
    c: float,
) -> bool:
    """Whether `c` is proven of the kernel K, which moves as `op` does, on the frequencies that the proof names or its image has."""
    stated = statement(K, t, op.geometry(every_size=flag(proof, "every_size")), form)
    least = known(stated.digest)
    if least is not None and least <= c:
        return True
    given = "grid" in proof.data and proof.data["grid"] is not None
    grid = wholes(proof, "grid", len(op.image_size), 1, 1 << 20) if given else stated.image_lattice
    return stated.holds(c, grid)


def _wrong(c: float) -> NotProvable:
    return NotProvable(f"The norm is not proven to be at most {c}.")
