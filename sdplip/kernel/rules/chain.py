r"""Rule `chain`: LipSDP stage by stage, for networks of linear parts and activations in a row.

Network: $z_0 = x$, $z_k = \varphi_k(W_k z_{k-1} + b_k)$ for $k < l$, $f = W_l z_{l-1} + b_l$; neuron $i$ of layer $k$
has slopes in $[\alpha_{ki}, \beta_{ki}]$. The increments between two inputs obey $(\Delta z - \alpha y)(\Delta z -
\beta y) \le 0$ with $y = W_k \Delta z_{k-1}$, neuron by neuron. With multipliers $\lambda_k \ge 0$ and any symmetric
matrices $X_0 = I, X_1, \dots$ the statements

    stage:  [ X_{k-1} + W' diag(alpha beta lambda) W    -W' diag((alpha + beta) lambda) / 2 ]
            [                   .                                 diag(lambda) - X_k        ]  >= 0      for every k < l
    last:   [ X_{l-1}    W_l'  ]
            [  W_l     kappa I ]  >= 0

say that each layer is nonexpansive from the metric $X_{k-1}$ to the metric $X_k$, and that $\lVert \Delta f \rVert^2
\le \kappa$ times the squared length of $\Delta z_{l-1}$ in $X_{l-1}$: so $\sqrt\kappa$ is a Lipschitz constant.
Minimised over everything this is LipSDP-Neuron (Fazlyab et al. 2019), whose multipliers are $\kappa \lambda / 2$. Each
statement is proven by itself: a deep network costs one small factorization a layer.

Proof: the quadratic form of a stage at $(\Delta z_{k-1}, \Delta z_k)$ is $\Delta z_{k-1}' X_{k-1} \Delta z_{k-1} - \Delta z_k' X_k \Delta
z_k$ plus a sum that is at most 0; the stages add up. Which $X_k$ are used does not matter: they are computed anew here
(`kernel.metrics`), and the same numbers stand in stages k and k + 1. Entries are enclosures (`arithmetic.matrix`), so
that their rounding is part of what is proven.

Data: `multipliers`, one vector a hidden layer, positive at living neurons; `kappa`; and, if not 0, `widen`: every upper
slope is taken to be at least $\alpha$ + `widen`, which is where multipliers of neurons of nearly one slope come from."""

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import up
from sdplip.arithmetic.semidefinite import proves
from sdplip.errors import NotProvable
from sdplip.kernel.data import number, vectors
from sdplip.kernel.metrics import Stage, metrics
from sdplip.kernel.proof import Goal, Proof, Prove
from sdplip.kernel.spectral import norm_holds
from sdplip.kernel.stages import Stages, living, stages
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


def chain(goal: Goal, proof: Proof, prove: Prove) -> float:  # noqa: ARG001
    """$\\sqrt\\kappa$ where every stage is proven."""
    parts = stages(goal.network)
    multipliers = vectors(proof, "multipliers", parts.widths, least=0.0)
    widen = number(proof, "widen") if "widen" in proof.data else 0.0
    done, last = staged(parts, multipliers, widen)
    if not (last.mid.any() or last.rad.any()):
        return 0.0  # no path leads through the network
    kappa = number(proof, "kappa")
    bound = up(float(np.sqrt(kappa)))
    if not done:
        if not norm_holds(last, bound):
            raise NotProvable(f"The norm of the matrix is not proven to be at most {bound}.")
        return bound
    found = metrics(done, done[0].W.shape[1])
    if found is None:
        raise NotProvable("The multipliers of the chain leave no metric positive definite.")
    for k, stage in enumerate(done):
        if not _stage_holds(stage, found[k], found[k + 1]):
            raise NotProvable(f"Stage {k + 1} of the chain is not proven with these multipliers.")
    if not proves(Enclosure.block([[found[-1], last.T], [last, kappa * np.eye(len(last))]])):
        raise NotProvable(f"The last matrix of the chain is not proven with kappa = {kappa}.")
    return bound


def staged(
    parts: Stages, multipliers: tuple[Vector, ...], widen: float = 0.0
) -> tuple[list[Stage], Enclosure]:
    """The stages without dead neurons, and the last matrix.

    Raises:
        NotProvable: a living neuron without a positive multiplier.
    """
    found, columns = list[Stage](), np.ones(parts.weights[0].shape[1], bool)
    for k, (lam, rows) in enumerate(zip(multipliers, living(parts), strict=True)):
        alpha, beta = (slope[rows] for slope in parts.slopes[k])
        if not (lam[rows] > 0).all():
            raise NotProvable(f"Multipliers of hidden layer {k + 1} must be positive where neurons live.")
        W = parts.weights[k][np.ix_(rows, columns)]
        found.append(Stage(W, lam[rows], alpha, np.maximum(beta, alpha + widen), first=k == 0))
        columns = rows
    return found, parts.weights[-1][:, columns]


def _stage_holds(stage: Stage, X: Matrix, Y: Matrix) -> bool:
    W, lam = stage.W, stage.multiplier
    alpha = Enclosure.exact(stage.alpha)
    side = (W * ((alpha + stage.beta) * lam * -0.5)[:, None]).T
    corner = Enclosure.exact(-Y).plus_diagonal(lam)
    if stage.first and side.shape[0] > side.shape[1] and not stage.curved:
        return proves(corner - side.T @ side)  # Schur complement of the identity: order m instead of n + m
    top = Enclosure.exact(X)
    if stage.curved:
        top = top + (W * (alpha * stage.beta * lam)[:, None]).T @ W
    return proves(Enclosure.block([[top, side], [side.T, corner]]))
