r"""A wide first matrix W replaced by a square one: where $W W^\top \preceq R^\top R$, bounds with $R^\top$ hold with W.

By Douglas' lemma $W = R^\top K$ with $\lVert K \rVert \le 1$, so $f(W x) = f(R^\top K x)$, and a bound of $f \circ R^\top$
is one of $f \circ W$. R is a Cholesky factor of $W W^\top$ with a little added to its diagonal; the inequality is proven here.
"""

import numpy as np

from sdplip.certificates.definite import proves_within
from sdplip.certificates.rounding import GENEROUS, TINY, gamma
from sdplip.certificates.system import Layers, Map


@np.errstate(over="ignore", invalid="ignore", divide="ignore")  # what is not finite proves nothing
def narrowed(layers: Layers) -> Layers:
    """`layers`, with a first matrix that has more columns than rows replaced; as they are where the proof fails."""
    first = layers[0]
    if not isinstance(first, Map) or first.error or first.W.shape[0] >= first.W.shape[1]:
        return layers
    W = np.asarray(first.W, np.float64)
    m, n = W.shape
    G = W @ W.T
    norms = np.sqrt(G.diagonal()) * (1 + gamma(n + 4)) + 2.0**-500
    error = gamma(n + 2) * np.outer(norms, norms) * GENEROUS + 4 * n * TINY * (1 + float(abs(W).max()))
    diagonal = np.maximum(G.diagonal(), 1e-24 * float(G.diagonal().max()))
    for factor in (4.0, 64.0, 1024.0, 2.0**15):
        try:
            R = np.linalg.cholesky(G + np.diag(diagonal * factor * (m * gamma(n + m)))).T
        except np.linalg.LinAlgError:
            continue
        product = R.T @ R
        rounded = (
            error + gamma(m + 4) * (abs(R).T @ abs(R)) + gamma(2) * (abs(product) + abs(G)) + 4 * m * TINY
        )
        if proves_within(product - G, rounded * GENEROUS):
            return (Map(np.ascontiguousarray(R.T)), *layers[1:])
    return layers
