r"""Proposes the metrics $X_k$ of a network certificate. Nothing here is trusted: `network.py` proves every inequality.

The largest $X_k$ of a stage is a Schur complement, the Riccati recursion of ECLipsE (Xu and Sivaranjani 2024),

    X_k = Lambda - C' (X_{k-1} + W' A B Lambda W)^-1 C,    C = -W' (A + B) Lambda / 2,

from which a little is taken so that the verified factorization has room for its guard.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from sdplip.certificates.rounding import UNIT, gamma

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Stage:
    """One hidden layer: its living neurons, and the metrics `before` and `after` it once they are proposed."""

    W: Matrix
    multiplier: Vector
    alpha: Vector
    beta: Vector
    first: bool = False
    before: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    after: Matrix = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True, eq=False)
class Proposal:
    """Stages with metrics, and the metric in front of the last weight."""

    stages: tuple[Stage, ...]
    metric: Matrix


def propose(stages: Sequence[Stage], last: Matrix, *, repair: bool = True) -> Iterator[Proposal]:
    """Chains of metrics, the most promising first: multipliers as given, scaled down, shrunk layer by layer.

    Scaling layer k by the k-th power of a factor below 1 gives every stage the same room; a common factor, only the first.
    """
    if not repair:
        factors = ((1.0,),)
    else:  # next to the boundary of what is feasible a little less can prove more
        factors = (
            (1.0, *(1 - 10.0**-p for p in range(12, 7, -1))),
            [1 - 10.0 ** -(p / 2) for p in range(15, 0, -1)],
        )
    for some in factors:
        chains = [_chain(_times(stages, factor), last) for factor in some]
        found = [(_estimate(chain.metric, last), chain) for chain in chains if chain is not None]
        yield from (chain for _, chain in sorted(found, key=lambda pair: pair[0])[:3])
    if not repair:
        return
    shrunk = _chain(stages, last, shrink=True)
    if shrunk is not None:
        yield shrunk


def cross(stage: Stage) -> Matrix:
    r"""$C = -W^\top \mathrm{diag}((\alpha + \beta) \lambda) / 2$."""
    return (stage.W * (-0.5 * (stage.alpha + stage.beta) * stage.multiplier)[:, None]).T


def slack(order: int) -> float:
    """Relative room on the diagonal for the guard of a factorization of this order, four times what it takes off."""
    return 8 * gamma(order + 16) * (order + 1)


def last_scale(X: Matrix, W: Matrix, proves: Callable[[float], bool]) -> float:
    r"""A small $\kappa$ with $W^\top W \preceq \kappa X$ for which `proves(kappa)` is True; infinite if none was found."""
    room = slack(sum(W.shape))
    for _ in range(12):
        kappa = _estimate(X, W, room) * (1 + room)
        if np.isfinite(kappa) and proves(kappa):
            return kappa
        room *= 8
    return np.inf


def _estimate(X: Matrix, W: Matrix, room: float = 0.0) -> float:
    Y = _root_solve(X, W.T, room)
    if Y is None:
        return np.inf
    K = Y.T @ Y if Y.shape[0] > Y.shape[1] else Y @ Y.T
    return float(np.linalg.eigvalsh(K)[-1]) if np.isfinite(K).all() else np.inf


def _times(stages: Sequence[Stage], factor: float) -> list[Stage]:
    return [replace(stage, multiplier=stage.multiplier * factor**k) for k, stage in enumerate(stages, 1)]


def _chain(stages: Sequence[Stage], last: Matrix, *, shrink: bool = False) -> Proposal | None:
    X = np.eye(stages[0].W.shape[1] if stages else last.shape[1])
    done = []
    for stage in stages:
        stage = replace(stage, before=X)
        after = _after(stage)
        factor = 1e-12
        while after is None and shrink and factor < 1e30:
            after = _after(replace(stage, multiplier=stage.multiplier / (1 + factor)))
            if after is not None:
                stage = replace(stage, multiplier=stage.multiplier / (1 + factor))
            factor *= 4
        if after is None:
            return None
        done.append(replace(stage, after=after))
        X = after
    return Proposal(tuple(done), X)


def _after(stage: Stage) -> Matrix | None:
    """The metric after the stage, or None where it would not be positive definite."""
    X, W, lam = stage.before, stage.W, stage.multiplier
    room = slack(sum(W.shape))
    product = stage.alpha * stage.beta * lam
    top = X + (W * product[:, None]).T @ W if product.any() else X
    Y = cross(stage) if stage.first and not product.any() else _root_solve(top, cross(stage), room)
    if Y is None:
        return None
    K = Y.T @ Y
    K = (K + K.T) / 2
    diagonal = K.diagonal().copy()
    after = np.diag(lam) - K * (1 + 2 * room)
    after[np.diag_indices_from(after)] -= 2 * room * diagonal + 16 * UNIT * lam
    return after if _root_solve(after, np.zeros((len(lam), 1)), room) is not None else None


def _root_solve(X: Matrix, C: Matrix, room: float) -> Matrix | None:
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
