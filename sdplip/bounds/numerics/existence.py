r"""Multipliers under which a system with implicit layers is well posed, and the best ones from there, by interior point.

The form $\sum_i \lambda_i (v_i - \alpha_i (B v)_i)(v_i - \beta_i (B v)_i)$ must be positive definite. Diagonals that are often enough come
first: all equal (monDEQ), those of $|B|$ as a nonnegative matrix of radius below 1, the diagonal of a Lyapunov solution. Else an
interior-point method maximises the least eigenvalue in the coordinates of the best of these. Not trusted: the kernel proves.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from sdplip.bounds.increments import Increments
from sdplip.bounds.numerics.chain import Proposal
from sdplip.bounds.numerics.dense import Dense
from sdplip.bounds.numerics.interior import iterates
from sdplip.bounds.numerics.joint_lipsdp import optimised
from sdplip.errors import NotProvable

Matrix = Float[np.ndarray, "n n"]
Vector = Float[np.ndarray, " n"]
LEAST = 1e-9
"""Of the least eigenvalue of the form in coordinates in which multipliers are 1: less than this counts as singular."""
STEPS = 60
"""Of the interior-point method for the existence."""


def inner(system: Increments) -> Increments:
    """The system of the variables alone, without inputs and output."""
    n = system.inputs
    return replace(
        system, inputs=0, y=system.y[:, n:], out=np.zeros((1, system.order)), weight=np.ones(system.order)
    )


def well_posed(system: Increments) -> Vector:
    """Multipliers, one a variable, of a positive definite form; `system` has no inputs, and every variable a group of its own.

    Raises:
        NotProvable: none was found.
    """
    best, least = np.ones(system.order), -np.inf
    for multipliers in _guesses(system):
        value = _least(system, multipliers)
        if value > least:
            best, least = multipliers, value
        if least > 1e-2:
            break
    if least <= LEAST:
        best = _searched(system, best)
        least = _least(system, best)
    if not least > LEAST:
        real = float(np.linalg.eigvals(system.y).real.max(initial=0.0))
        seen = f" (W has an eigenvalue with real part {real:.3g})" if real >= 1 else ""
        raise NotProvable(
            f"No multipliers were found that prove that the equilibrium exists{seen}: there may be none, or several. Parametrise W as a"
            " monDEQ or an LBEN does, or scale it down."
        )
    return best


def lipsdp(
    system: Increments,
    start: Vector,
    goes_on: Callable[[int, float, float], bool] | None = None,
    *,
    device: str = "cpu",
) -> Proposal:
    """The best multipliers of a system with implicit layers, from well-posed ones (`start`, one a variable)."""
    n, M = system.inputs, form(inner(system), start)
    factor = np.linalg.cholesky(M)
    seen = np.linalg.solve(factor, system.out[:, n:].T)
    scale = 2.0 * max(float(np.linalg.norm(seen, 2)) ** 2, 1e-12 * float((system.out**2).sum()))
    multipliers = start * max(scale, 1e-200)
    kappa = _kappa(system, multipliers)
    if not (np.isfinite(kappa) and kappa > 0):
        raise np.linalg.LinAlgError("the output does not depend on the input, or the numbers leave the range")
    return optimised(system, kappa, multipliers, goes_on, device=device)


def form(system: Increments, multipliers: Vector) -> Matrix:
    """The matrix of the form of a system without inputs."""
    B, e = system.y, np.eye(system.order)
    p, q = (e - slope[:, None] * B for slope in (system.alpha, system.beta))
    M = p.T @ (multipliers[:, None] * q)
    return (M + M.T) / 2


def _kappa(system: Increments, multipliers: Vector) -> float:
    """The least kappa by a Schur complement, in floating point."""
    n, N = system.inputs, system.order
    e = np.eye(N, n + N, n)
    p, q = (e - slope[:, None] * system.y for slope in (system.alpha, system.beta))
    M = p.T @ (multipliers[:, None] * q)
    M = (M + M.T) / 2 - system.out.T @ system.out
    return float(np.linalg.eigvalsh(M[:n, n:] @ np.linalg.solve(M[n:, n:], M[n:, :n]) - M[:n, :n])[-1])


def _least(system: Increments, multipliers: Vector) -> float:
    """The least eigenvalue in coordinates in which the multipliers are 1."""
    root = multipliers**-0.5
    M = root[:, None] * form(system, multipliers) * root
    return float(np.linalg.eigvalsh(M)[0]) if np.isfinite(M).all() else -np.inf


def _guesses(system: Increments) -> Iterator[Vector]:
    yield np.ones(system.order)
    B, size = system.y, abs(system.y)
    with suppress(np.linalg.LinAlgError), np.errstate(all="ignore"):
        positive = size + 1e-9 * (1 + size.max(initial=0.0))
        u, v = _perron(positive), _perron(positive.T)
        if (u > 0).all() and (v > 0).all():
            yield v / u
    with suppress(np.linalg.LinAlgError), np.errstate(all="ignore"):
        found = np.linalg.eigh(_lyapunov(np.eye(len(B)) - B))
        P = (found[1] * np.maximum(found[0], 0)) @ found[1].T
        if (P.diagonal() > 0).all():
            yield P.diagonal().copy()


def _perron(A: Matrix) -> Vector:
    """The eigenvector of the largest eigenvalue of a positive matrix."""
    values, vectors = np.linalg.eig(A)
    return abs(np.real(vectors[:, int(np.argmax(np.real(values)))]))


def _lyapunov(A: Matrix) -> Matrix:
    """P with $P A + A^\\top P = I$, by the eigenvectors of A."""
    values, V = np.linalg.eig(A)
    inverse = np.linalg.inv(V)
    inside = (V.T @ V) / (values[:, None] + values)
    return (inverse.T @ inside @ inverse).real


def _searched(system: Increments, start: Vector) -> Vector:
    r"""Minimises $\theta$ with $\theta I + \sum \lambda_i F_i \succeq I$ in the coordinates of `start`, until it is well below 1."""
    N, root = system.order, np.sqrt(start)
    e = np.eye(N)
    p, q = (e - slope[:, None] * (root[:, None] * system.y / root) for slope in (system.alpha, system.beta))
    there = lambda v: torch.tensor(np.ascontiguousarray(v), dtype=torch.float64)  # noqa: E731
    dense = Dense(N, there(p), there(q), there(np.eye(N)))
    y = torch.full((N + 1,), 0.25, dtype=torch.float64)
    y[0] = 2.0
    while dense.factor(y) is None and y[0] < 1e6:
        y[0] = 2 * y[0]
    for k, point in enumerate(iterates(dense, y)):  # pyright: ignore[reportArgumentType]
        y = point.y
        if float(y[0]) < 0.5 or k >= STEPS:
            break
    found = y[1:].numpy() * start
    return found if np.isfinite(found).all() and (found > 0).all() else start
