r"""The metrics $X_k$ that the rule `chain` proves; they are recomputed here from the multipliers, and nothing here is trusted.

The largest $X_k$ of a stage is a Schur complement, the Riccati recursion of ECLipsE (Xu and Sivaranjani 2024),

    X_k = Lambda - C' (X_{k-1} + W' A B Lambda W)^-1 C,    C = -W' (A + B) Lambda / 2,

from which a little is taken so that the proof has room on any BLAS. They are a function of network and multipliers, so
a proof need not hold them ($n^2$ numbers a layer)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdplip.arithmetic.matrix import Enclosure
from sdplip.arithmetic.rounding import UNIT
from sdplip.arithmetic.semidefinite import slack
from sdplip.shapes import Float

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Stage:
    """One hidden layer: the matrix in front of it, multipliers and slopes of its living neurons."""

    W: Enclosure
    multiplier: Vector
    alpha: Vector
    beta: Vector
    first: bool = False

    @property
    def curved(self) -> bool:
        """Whether slopes on both sides of 0, or away from it, bend the metric in front."""
        return bool(((self.alpha != 0) & (self.beta != 0)).any())


def metrics(stages: Sequence[Stage], inputs: int) -> list[Matrix] | None:
    """The metric in front of each stage and behind the last; None where one would not be positive definite."""
    found = [np.eye(inputs)]
    for stage in stages:
        after = metric_behind(stage, found[-1])
        if after is None:
            return None
        found.append(after)
    return found


def metric_behind(stage: Stage, X: Matrix) -> Matrix | None:
    """The metric behind a stage, or None where it would not be positive definite."""
    W, lam, alpha, beta = stage.W.mid, stage.multiplier, stage.alpha, stage.beta
    room = slack(sum(W.shape))
    side = (W * (-0.5 * (alpha + beta) * lam)[:, None]).T
    top = X + (W * (alpha * beta * lam)[:, None]).T @ W if stage.curved else X
    Y = side if stage.first and not stage.curved else root_solve(top, side, room)
    if Y is None:
        return None
    K = Y.T @ Y
    K = (K + K.T) / 2
    after = np.diag(lam) - K * (1 + 2 * room)
    after[np.diag_indices_from(after)] -= 2 * room * K.diagonal() + 16 * UNIT * lam
    return after if root_solve(after, np.zeros((len(lam), 1)), room) is not None else None


def root_solve(X: Matrix, C: Matrix, room: float) -> Matrix | None:
    """$L^{-1} C$ with $L L^T = X$ less `room` of its diagonal; None where that is not positive definite."""
    d = X.diagonal()
    if not (np.isfinite(X).all() and (d > 0).all()):
        return None
    s = np.ldexp(1.0, -(np.frexp(d)[1] // 2))
    S = s[:, None] * X * s
    S[np.diag_indices_from(S)] *= 1 - room
    if not np.isfinite(S).all():
        return None
    try:
        return np.linalg.solve(np.linalg.cholesky(S), s[:, None] * C)
    except np.linalg.LinAlgError:
        return None
