r"""ECLipsE's greedy multipliers: layer by layer those that make the next matrix smallest (Xu and Sivaranjani, 2024).

With the metric $X$ in front of layer k the stage minimises the gain $\lambda_{\max}(W_{k+1} X_k^{-1} W_{k+1}^\top)$ of the metric
behind it over all diagonal $\Lambda_k$. That is LipSDP-Neuron of the two matrices $W_k X^{-1/2}$ and $W_{k+1}$, so the same
interior-point method solves it. Between the closed forms and LipSDP of the whole network: cost grows with the cube of a layer.
"""

import numpy as np

from sdplip.bounds.numerics.chain import Chain, Proposal
from sdplip.bounds.numerics.lipsdp import LipSDP
from sdplip.bounds.numerics.riccati import metric_after

ROOM = 1e-9
"""By which the multipliers of a stage are made smaller, so that the metric behind it is definite."""


def greedy(chain: Chain) -> Proposal:
    """Multipliers stage by stage.

    Raises:
        numpy.linalg.LinAlgError: a stage leaves the range of double precision.
    """
    X, found = np.eye(chain.weights[0].shape[1]), list[np.ndarray]()
    solver = LipSDP(gap=1e-9)
    for W, following, slopes in zip(chain.weights, chain.weights[1:], chain.slopes, strict=False):
        root = np.linalg.cholesky(X)
        stage = Chain((np.linalg.solve(root, W.T).T, following), (slopes,))
        lam = solver(stage).multipliers[0] * (1 - ROOM)
        lam = np.maximum(lam, 1e-12 * lam.max())
        after = metric_after(X, W, lam, *slopes)
        if after is None:
            raise np.linalg.LinAlgError("no metric: the numbers leave the range of double precision")
        found.append(lam)
        X = after
    return Proposal(tuple(found))
