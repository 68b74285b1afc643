r"""Rule `composite`: a proven sum over all ways to cut a chain into groups of layers (Combettes and Pesquet 2020).

A slope in $[\alpha, \beta]$ is $c + r \delta$ with $c = (\alpha + \beta) / 2$, $r = (\beta - \alpha) / 2$ and $|\delta|
\le 1$. Expanding every layer of the Jacobian $W_l D_{l-1} W_{l-1} \cdots D_1 W_1$ leaves $2^{l-1}$ terms, each a
product of groups $R_j W_j C_{j-1} W_{j-1} \cdots C_i W_i$ with diagonal factors of norm at most 1 between them:

$$ L \le S_l, \qquad S_j = \sum_{i \le j} S_{i-1} \lVert R_j W_j C_{j-1} \cdots C_i W_i \rVert, \qquad S_0 = 1,\; R_l = I . $$

For slopes in $[0, 1]$ this is $2^{-(l-1)}$ times the sum over all groupings of the products of the groups' norms.

Data: `norms`, one bound of each group's norm: those that begin with the first matrix, shortest first, then with the
second, ..."""

from collections.abc import Iterator

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import up
from sdplip.errors import NotProvable
from sdplip.kernel.data import array
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.spectral import norm_holds
from sdplip.kernel.stages import Stages, stages


def composite(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """The sum $S_l$, rounded up."""
    parts = stages(goal.network)
    count = len(parts.weights)
    norms = iter(array(proof, "norms", (count * (count + 1) // 2,), least=0.0))
    sums = [1.0] + [0.0] * count
    for i, j, group in groups(parts):
        c = float(next(norms))
        if not norm_holds(group, c):
            raise NotProvable(f"The norm of matrices {i + 1} to {j + 1} is not proven to be at most {c}.")
        sums[j + 1] = up(sums[j + 1] + up(sums[i] * c))
    return sums[-1]


def groups(parts: Stages) -> Iterator[tuple[int, int, Enclosure]]:
    r"""First and last matrix of each group, and $R_j W_j C_{j-1} \cdots C_i W_i$."""
    ends = [(Enclosure.exact(a), Enclosure.exact(b)) for a, b in parts.slopes]
    centre = [((a + b) * 0.5)[:, None] for a, b in ends]
    radius = [((b - a) * 0.5)[:, None] for a, b in ends] + [
        Enclosure.exact(np.ones((len(parts.weights[-1]), 1)))
    ]
    for i, P in enumerate(parts.weights):
        for j in range(i, len(parts.weights)):
            if j > i:
                P = parts.weights[j] @ (P * centre[j - 1])
            yield i, j, P * radius[j] if j + 1 < len(parts.weights) else P
