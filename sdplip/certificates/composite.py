r"""The composite bound: a proven sum over all ways to cut a network into groups of layers (Combettes and Pesquet 2020).

A slope in $[\alpha, \beta]$ is $c + r \delta$ with $c = (\alpha + \beta) / 2$, $r = (\beta - \alpha) / 2$ and
$|\delta| \le 1$. Expanding
every layer of the Jacobian $W_l D_{l-1} W_{l-1} \cdots D_1 W_1$ leaves $2^{l-1}$ terms, each a product of groups
$R_j W_j C_{j-1} W_{j-1} \cdots C_i W_i$ with diagonal factors of norm at most 1 between them:

$$ L \le S_l, \qquad S_j = \sum_{i \le j} S_{i-1} \lVert R_j W_j C_{j-1} \cdots C_i W_i \rVert, \qquad S_0 = 1,\; R_l = I . $$

For slopes in $[0, 1]$ this is $2^{-(l-1)}$ times the sum over all groupings of the products of the groups' norms.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sdplip.certificates.network import Matrix, Slopes, spectral_norm_above
from sdplip.certificates.rounding import GENEROUS, TINY, UNIT, gamma, up
from sdplip.certificates.validate import as_weight
from sdplip.errors import NotProvable


def certify_composite(weights: Sequence[Matrix], slopes: Sequence[Slopes] | None = None) -> float:
    r"""The composite bound, proven, with the rounding of forming the products; $O(l^2)$ products and norms.

    Raises:
        NotProvable: it leaves the range of double precision.
    """
    Ws = [as_weight(W) for W in weights]
    pairs = slopes or [(np.zeros(len(W)), np.ones(len(W))) for W in Ws[:-1]]
    centre = [(a + b) / 2 for a, b in pairs]
    radius = [(b - a) / 2 for a, b in pairs] + [np.ones(len(Ws[-1]))]
    above = [spectral_norm_above(W) for W in Ws]
    sums = [1.0] + [0.0] * len(Ws)
    for i in range(len(Ws)):
        P, error = Ws[i], 0.0  # every matrix within `error` of P in norm may be the exact W_j C_{j-1} ... W_i
        for j in range(i, len(Ws)):
            group, group_error = _scaled(radius[j], P, error)
            term = up(spectral_norm_above(group) + group_error)
            sums[j + 1] = up(sums[j + 1] + up(sums[i] * term))
            if j + 1 < len(Ws):
                P, error = _scaled(centre[j], P, error)
                error = _product_error(Ws[j + 1], P, above[j + 1] * error)
                P = Ws[j + 1] @ P
    if not np.isfinite(sums[-1]):
        raise NotProvable("The composite bound leaves the range of double precision. Rescale the weights.")
    return sums[-1]


def _scaled(d: Float[np.ndarray, " m"], P: Matrix, error: float) -> tuple[Matrix, float]:
    r"""$\mathrm{diag}(d) P$ and its error: `d` carries two roundings, the product one."""
    A = d[:, None] * P
    made = gamma(4) * float(np.linalg.norm(A)) + 4 * A.size * TINY * (1 + float(abs(P).max()))
    return A, (error * float(abs(d).max()) * (1 + 4 * UNIT) + made) * GENEROUS


def _product_error(W: Matrix, P: Matrix, inherited: float) -> float:
    r"""Bound of $\lVert fl(W P) - W P^* \rVert_2$ where $\lVert W (P - P^*) \rVert_2$ is at most `inherited`."""
    made = gamma(W.shape[1]) * float(np.linalg.norm(W)) * float(np.linalg.norm(P))
    return (inherited + made + 2 * W.shape[1] * W.shape[0] * P.shape[1] * TINY) * GENEROUS
