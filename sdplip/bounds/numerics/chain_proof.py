"""From multipliers of a chain to the proof of the least bound that they give: a search for kappa. The kernel judges."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.semidefinite import slack
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.metrics import Stage, metric_behind, metrics, root_solve
from sdplip.kernel.proof import Proof
from sdplip.kernel.rules.chain import staged
from sdplip.kernel.stages import Stages, living

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
TRIES = 5
"""Values of kappa for one set of multipliers, each with eight times the room of the one before."""


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def chain_proof(
    task: Task, parts: Stages, multipliers: tuple[Vector, ...], widen: float = 0.0
) -> tuple[float, Proof]:
    """The least bound that the multipliers prove, and its proof.

    Multipliers that prove nothing (a solver's point is seldom feasible) are first made smaller: all of them by a common factor,
    or layer by layer.

    Raises:
        NotProvable: none was found.
    """
    data = {"widen": widen} if widen else {}
    stages, last = staged(parts, multipliers, widen)
    if not last.mid.any() and not last.rad.any():
        proof = Proof("chain", data | {"multipliers": list(multipliers), "kappa": 0.0})
        return task.conclude(proof), proof
    alive = living(parts)
    for used, X in _proposals(stages, last.mid):
        whole = [lam.astype(np.float64) for lam in multipliers]
        for lam, rows, stage in zip(whole, alive, used, strict=True):
            lam[rows] = stage.multiplier
        room = slack(sum(last.shape))
        for _ in range(TRIES):
            kappa = _estimate(X, last.mid, room) * (1 + room)
            if not np.isfinite(kappa):
                break
            proof = Proof("chain", data | {"multipliers": whole, "kappa": kappa})
            with suppress(NotProvable):
                return task.conclude(proof), proof
            room *= 8
    raise NotProvable(
        "No finite bound could be proven with these multipliers. Rescale the weights by powers of two, or use 'product'."
    )


def _proposals(stages: Sequence[Stage], last: Matrix) -> Iterator[tuple[list[Stage], Matrix]]:
    """Chains with the metric behind, the most promising first: multipliers as given, scaled down, shrunk layer by layer.

    Scaling layer k by the k-th power of a factor below 1 gives every stage the same room; a common factor, only the first.
    """
    inputs = stages[0].W.shape[1] if stages else last.shape[1]
    near = (
        1.0,
        *(1 - 10.0**-p for p in range(12, 7, -1)),
    )  # next to the boundary a little less can prove more
    far = [1 - 10.0 ** -(p / 2) for p in range(15, 0, -1)]
    for some in (near, far) if stages else ((1.0,),):
        found = list[tuple[float, list[Stage], Matrix]]()
        for factor in some:
            chain = [
                stage if factor == 1.0 else replace(stage, multiplier=stage.multiplier * factor**k)
                for k, stage in enumerate(stages, 1)
            ]
            X = metrics(chain, inputs)
            if X is not None:
                found.append((_estimate(X[-1], last), chain, X[-1]))
        yield from ((chain, X) for _, chain, X in sorted(found, key=lambda entry: entry[0])[:3])
    shrunk = _shrunk(stages, inputs)
    if shrunk is not None:
        yield shrunk


def _shrunk(stages: Sequence[Stage], inputs: int) -> tuple[list[Stage], Matrix] | None:
    X, done = np.eye(inputs), list[Stage]()
    for stage in stages:
        after, factor = metric_behind(stage, X), 1e-12
        while after is None and factor < 1e30:
            smaller = replace(stage, multiplier=stage.multiplier / (1 + factor))
            after = metric_behind(smaller, X)
            stage = smaller if after is not None else stage
            factor *= 4
        if after is None:
            return None
        done.append(stage)
        X = after
    return done, X


def _estimate(X: Matrix, W: Matrix, room: float = 0.0) -> float:
    Y = root_solve(X, W.T, room)
    if Y is None:
        return np.inf
    K = Y.T @ Y if Y.shape[0] > Y.shape[1] else Y @ Y.T
    return float(np.linalg.eigvalsh(K)[-1]) if np.isfinite(K).all() else np.inf
