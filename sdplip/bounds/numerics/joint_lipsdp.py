"""LipSDP of a system of increments: the best multipliers of all neurons and sorted groups, by interior point."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from sdplip.bounds.increments import Increments, backward
from sdplip.bounds.numerics.chain import Proposal
from sdplip.bounds.numerics.dense import Dense
from sdplip.bounds.numerics.interior import iterates
from sdplip.bounds.numerics.riccati import FAMILIES
from sdplip.solvers.solution import Status

Vector = Float[np.ndarray, " n"]


def lipsdp(
    system: Increments,
    goes_on: Callable[[int, float, float], bool] | None = None,
    *,
    gap: float = 1e-8,
    device: str = "cpu",
) -> Proposal:
    """The best multipliers, by interior point from the backward recursion; with the solver's dual value. Torch uses `device`."""
    kappa, start = backward(system, FAMILIES["spectral"])
    if not kappa > 0:
        raise np.linalg.LinAlgError("the output does not depend on the input")
    if not system.order:
        return Proposal((start,))
    return optimised(system, kappa, start, goes_on, gap=gap, device=device)


def optimised(
    system: Increments,
    kappa: float,
    start: Vector,
    goes_on: Callable[[int, float, float], bool] | None = None,
    *,
    gap: float = 1e-8,
    device: str = "cpu",
) -> Proposal:
    """The same from a strictly feasible `kappa` and multipliers."""
    dense, groups = scaled(system, 1.1 * kappa, start * 1.02, device)
    y = torch.full((system.order + 1,), 0.5, dtype=torch.float64, device=device)
    y[0] = 1.0
    while dense.factor(y) is None:  # theta = 1 + room is feasible; more room where rounding spoils it
        y[0] = 2 * y[0]
        if y[0] > 1e6:
            return Proposal((start,), 0.0, Status.FAILED)
    best, status, iterations = None, Status.FAILED, 0
    for iterations, point in enumerate(iterates(dense, y, groups), 1):  # pyright: ignore[reportArgumentType]
        stalled = best is not None and abs(point.gap) > 0.9 * abs(best.gap) and abs(point.gap) < 1e-5
        best = point if best is None or abs(point.gap) < abs(best.gap) else best
        size = (1.1 * kappa) ** 0.5
        ends = size * float(point.y[0]) ** 0.5, size * max(point.lower, 0.0) ** 0.5
        more = goes_on is None or goes_on(iterations, *ends)
        if abs(point.gap) <= gap or (stalled and abs(point.gap) < 1e-6):
            status = Status.OPTIMAL
            break
        if iterations >= 80 or stalled or not more:
            status = Status.INACCURATE if more else Status.STOPPED
            break
    if best is None:
        return Proposal((start,), 0.0, Status.FAILED)
    if status is Status.FAILED:
        status = Status.OPTIMAL if abs(best.gap) < 1e-6 else Status.INACCURATE
    found = np.ones(system.multipliers)
    found[system.group] = 2 * best.y[1:].cpu().numpy()
    lower = (1.1 * kappa * max(best.lower, 0.0)) ** 0.5
    return Proposal((found * start * 1.02,), 0.0, status, lower, iterations)


def scaled(system: Increments, kappa: float, start: Vector, device: str) -> tuple[Dense, torch.Tensor]:
    """The inequality in coordinates in which `kappa` and `start` are 1."""
    n, N = system.inputs, system.order
    root = np.sqrt(start[system.group] * system.weight)
    rows = np.concatenate([system.y, system.out]) * np.concatenate([np.full(n, kappa**-0.5), 1 / root])
    y, out = rows[:N] * root[:, None], rows[N:]
    e = np.eye(N, n + N, n)
    there = lambda v: torch.tensor(np.ascontiguousarray(v), dtype=torch.float64, device=device)  # noqa: E731
    p, q = (there(e - slope[:, None] * y) for slope in (system.alpha, system.beta))
    groups = torch.tensor(np.concatenate([[0], 1 + system.group]), device=device)
    return Dense(n, p, q, there(out.T @ out)), groups
