r"""Rule `narrow`: a wide first matrix W replaced by a square one. Where $W W^\top \preceq R^\top R$, bounds with
$R^\top$ hold with W.

By Douglas' lemma $W = R^\top K$ with $\lVert K \rVert \le 1$, so $f(W x) = f(R^\top K x)$, and a bound of $f \circ
R^\top$ is one of $f \circ W$. R is a Cholesky factor of $W W^\top$ with a little added to its diagonal, computed here;
the inequality is then proven.

No data. One part: the proof of the narrower network.
"""

from dataclasses import replace

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.semidefinite import proves, slack
from sdplip.errors import NotProvable
from sdplip.kernel.linear import matrix
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.surgery import behind
from sdplip.network import Network, is_linear


def narrow(goal: Goal, proof: Proof, prove: Prove) -> float:
    """What the part proves of the narrower network."""
    if len(proof.parts) != 1:
        raise NotProvable("`narrow` needs one part, the proof of the narrower network.")
    return prove(replace(goal, network=narrowed(goal.network), region=None, values=False), proof.parts[0])


def first_linear(network: Network) -> int:
    """The last value that everything passes through and that depends on the input linearly."""
    found = 0
    for cut in network.cuts[1:]:
        if not all(is_linear(node.op) for node in network.nodes[found:cut]):
            break
        found = cut
    return found


def narrowed(network: Network) -> Network:
    """The network with a square matrix in place of its first linear part.

    Raises:
        NotProvable: that part has no more columns than rows, is too large, or the inequality is not proven.
    """
    at = first_linear(network)
    if at == 0 or network.length(at) >= network.inputs:
        raise NotProvable("The first linear part of the network has no more columns than rows.")
    W = matrix(network.between(0, at))
    m, n = W.shape
    G = W @ W.T
    diagonal = np.maximum(G.mid.diagonal(), 1e-24 * float(G.mid.diagonal().max()))
    for factor in (1.0, 16.0, 256.0, 2.0**13):
        try:
            R = np.linalg.cholesky(G.mid + np.diag(diagonal * factor * slack(n + m))).T
        except np.linalg.LinAlgError:
            continue
        if proves(Enclosure.exact(np.ascontiguousarray(R.T)) @ R - G):
            return behind(network, at, np.ascontiguousarray(R.T))
    raise NotProvable("No square matrix is proven to dominate the first linear part of the network.")
