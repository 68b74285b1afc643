"""From multipliers of a system of increments to the proof of the least bound that they give. The kernel judges."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.semidefinite import slack
from sdplip.bounds.increments import Increments
from sdplip.bounds.task import Task
from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def joint_proof(
    task: Task,
    system: Increments,
    multipliers: Vector,
    rule: str = "joint",
    more: Mapping[str, Any] | None = None,
    less: Matrix | float = 0.0,
) -> tuple[float, Proof]:
    """The least bound that the multipliers prove, enlarged a little where they prove nothing, and its proof.

    `system` is that of the network of the task. A rule that goes beyond `joint` has `more` data, and `less` is what it subtracts from
    the matrix of the inequality.

    Raises:
        NotProvable: none was found.
    """
    near, far = (0.0, *(10.0**-p for p in range(12, 7, -1))), [10.0 ** -(p / 2) for p in range(14, -2, -1)]
    for spread in (near, far):
        tried = [(lam, _inequality(system, lam) - less) for lam in _enlarged(system, multipliers, spread)]
        found = [(_schur(system, M, _room(M)), lam, M) for lam, M in tried]
        for estimate, lam, M in sorted(found, key=lambda entry: entry[0])[:3]:
            room = _room(M)
            for _ in range(16):
                kappa = estimate * (1 + room)
                if not np.isfinite(kappa):
                    break
                proof = Proof(rule, {"multipliers": lam, "kappa": kappa, **(more or {})})
                with suppress(NotProvable):
                    return task.conclude(proof), proof
                room *= 3
                estimate = _schur(system, M, room)
    raise NotProvable(
        "No finite bound could be proven with these multipliers. Use 'product', or rescale the weights by powers of two."
    )


def _enlarged(system: Increments, multipliers: Vector, spread) -> Iterator[Vector]:
    """Multipliers with room in every layer: the last a little larger, the one before more, the first most."""
    depth = np.zeros(len(multipliers), int)
    depth[system.group] = system.depth
    last = depth.max(initial=0)
    for epsilon in spread:
        yield multipliers * (1 + epsilon) ** (last + 1 - depth)


def _inequality(system: Increments, multipliers: Vector) -> Matrix:
    """The matrix of the rule `joint` without kappa, in floating point."""
    return sectors(system, multipliers, -(system.out.T @ system.out))


def sectors(system: Increments, multipliers: Vector, M: Matrix) -> Matrix:
    """`M` and the inequalities of all variables with their multipliers, in floating point."""
    n, N = system.inputs, system.order
    lam = multipliers[system.group] * system.weight
    bent = lam * system.alpha * system.beta
    if bent.any():
        M = M + (system.y * bent[:, None]).T @ system.y
    side = (0.5 * lam * (system.alpha + system.beta))[:, None] * system.y
    M[n:] -= side
    M[:, n:] -= side.T
    at = np.arange(n, n + N)
    M[at, at] += lam
    return M


def _room(M: Matrix) -> float:
    return slack(len(M))


def _schur(system: Increments, M: Matrix, room: float) -> float:
    """The least kappa by a Schur complement, with `room` off the diagonal; or infinity. Not trusted."""
    n = system.inputs
    d = M.diagonal()[n:]
    if not np.isfinite(M).all() or not (d > 0).all():
        return np.inf
    corner = -M[:n, :n]
    if len(d):
        r = d**-0.5
        inner = r[:, None] * M[n:, n:] * r
        inner[np.diag_indices_from(inner)] *= 1 - room
        try:
            factor = np.linalg.cholesky(inner)
        except np.linalg.LinAlgError:
            return np.inf
        side = np.linalg.solve(factor, r[:, None] * M[n:, :n])
        corner = corner + side.T @ side
    return max(float(np.linalg.eigvalsh((corner + corner.T) / 2)[-1]), 1e-300)
