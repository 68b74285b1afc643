r"""Multipliers for a system of increments: closed forms from the output back, and LipSDP by interior point.

Backward Riccati recursion: with $\Phi$ the quadratic form that bounds $\lVert f \rVert^2$ by input and the variables of the
layers so far, the last of these layers is eliminated with any diagonal $T \succeq \Phi_{vv}$ and $\Lambda = \theta T$,

    Phi <- Phi_zz - Y' Lambda A B Y + S (Lambda - Phi_vv)^-1 S',   S = Phi_zv + Y' Lambda (A + B) / 2 .

It is the recursion of `riccati.py` read from the other end, and needs no chain: skips and linear neurons are columns of $Y$.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from sdplip.bounds._dense import Dense
from sdplip.bounds._interior import iterates
from sdplip.bounds.result import Proposal
from sdplip.bounds.riccati import Scaling, spectral
from sdplip.certificates.system import System
from sdplip.solvers.solution import Status

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
THETAS = (1.02, 1.1, 1.25, 1.5, 2.0, 3.0)


def backward(system: System, scaling: Scaling = spectral) -> tuple[float, Vector]:
    r"""$\kappa$ and multipliers, one for each group of the system, strictly feasible up to rounding.

    Raises:
        numpy.linalg.LinAlgError: the numbers leave the range of double precision.
    """
    n = system.inputs
    Phi = system.out.T @ system.out
    multipliers = np.ones(system.multipliers)
    for layer in range(int(system.depth.max(initial=0)), 0, -1):
        rows = np.flatnonzero(system.depth == layer)
        before, here = slice(0, n + rows[0]), n + rows
        corner = Phi[np.ix_(here, here)]
        t = _dominating(corner, scaling, system, rows)
        step = (_eliminated(system, Phi, rows, before, theta * t) for theta in THETAS)
        usable = [(float(np.trace(form)), k) for k, form in enumerate(step) if np.isfinite(form).all()]
        if not usable:
            raise np.linalg.LinAlgError("no form: the numbers leave the range of double precision")
        lam = THETAS[min(usable)[1]] * t
        Phi = _eliminated(system, Phi, rows, before, lam)
        multipliers[system.group[rows]] = lam / system.weight[rows]
    return float(np.linalg.eigvalsh(Phi[:n, :n])[-1]) * (1 + 1e-9), multipliers


def _dominating(corner: Matrix, scaling: Scaling, system: System, rows: np.ndarray) -> Vector:
    """A diagonal above `corner`, equal within sorted groups after division by their weights, positive everywhere."""
    values, vectors = np.linalg.eigh(corner)
    floor = 1e-10 * max(float(values[-1]), 1e-280)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    t = np.maximum(scaling(root) if values[-1] > 1e-280 else 0.0, floor) * (1 + 1e-9) / system.weight[rows]
    most = np.zeros(system.multipliers)
    np.maximum.at(most, system.group[rows], t)
    return most[system.group[rows]] * system.weight[rows]


def _eliminated(system: System, Phi: Matrix, rows: np.ndarray, before: slice, lam: Vector) -> Matrix:
    """The form without the variables `rows` and all later ones; NaN where it is not bounded."""
    here = system.inputs + rows
    Y, alpha, beta = system.y[rows][:, before], system.alpha[rows], system.beta[rows]
    S = Phi[before][:, here] + Y.T * (lam * (alpha + beta) / 2)
    inner = np.diag(lam) - Phi[np.ix_(here, here)]
    try:
        Z = np.linalg.solve(np.linalg.cholesky(inner), S.T)
    except np.linalg.LinAlgError:
        return np.full((1, 1), np.nan)
    return Phi[before][:, before] - (Y.T * (lam * alpha * beta)) @ Y + Z.T @ Z


def lipsdp(
    system: System, progress: Callable[[int, float, float], None] | None = None, *, gap: float = 1e-8
) -> Proposal:
    """The best multipliers, by interior point from the backward recursion; with the solver's dual value."""
    kappa, start = backward(system)
    if not system.order:
        return Proposal((start,), (), sdp_lower=None)
    dense, groups = _scaled(system, 1.1 * kappa, start * 1.02)
    y = torch.full((system.order + 1,), 0.5, dtype=torch.float64)
    y[0] = 1.0
    while dense.factor(y) is None:  # theta = 1 + room is feasible; more room where rounding spoils it
        y[0] = 2 * y[0]
        if y[0] > 1e6:
            return Proposal((start,), (), Status.FAILED)
    best, status, iterations = None, Status.FAILED, 0
    for iterations, point in enumerate(iterates(dense, y, groups), 1):  # pyright: ignore[reportArgumentType]
        stalled = best is not None and abs(point.gap) > 0.9 * abs(best.gap) and abs(point.gap) < 1e-5
        best = point if best is None or abs(point.gap) < abs(best.gap) else best
        size = (1.1 * kappa) ** 0.5
        if progress is not None:
            progress(iterations, size * float(point.y[0]) ** 0.5, size * max(point.lower, 0.0) ** 0.5)
        if abs(point.gap) <= gap or (stalled and abs(point.gap) < 1e-6):
            status = Status.OPTIMAL
            break
        if iterations >= 80 or stalled:
            status = Status.INACCURATE
            break
    if best is None:
        return Proposal((start,), (), Status.FAILED)
    if status is Status.FAILED:
        status = Status.OPTIMAL if abs(best.gap) < 1e-6 else Status.INACCURATE
    found = np.ones(system.multipliers)
    found[system.group] = 2 * best.y[1:].numpy()
    lower = (1.1 * kappa * max(best.lower, 0.0)) ** 0.5
    return Proposal((found * start * 1.02,), (), status, lower, iterations)


def _scaled(system: System, kappa: float, start: Vector) -> tuple[Dense, torch.Tensor]:
    """The inequality in coordinates in which `kappa` and `start` are 1, the input reduced to what the rows see of it."""
    n, N = system.inputs, system.order
    rows = np.concatenate([system.y, system.out])
    seen, s, basis = np.linalg.svd(rows[:, :n], full_matrices=False)
    rank = max(1, int((s > 1e-13 * s[0]).sum())) if len(s) else 1
    reduced = (seen[:, :rank] * s[:rank]) if rank < n else rows[:, :n]
    del basis
    root = np.sqrt(start[system.group] * system.weight)
    columns = np.concatenate([np.full(reduced.shape[1], kappa**-0.5), 1 / root])
    rows = np.concatenate([reduced, rows[:, n:]], 1) * columns
    y, out = rows[:N] * root[:, None], rows[N:]
    e = np.eye(N, reduced.shape[1] + N, reduced.shape[1])
    there = lambda v: torch.tensor(np.ascontiguousarray(v), dtype=torch.float64)  # noqa: E731
    p, q = (there(e - slope[:, None] * y) for slope in (system.alpha, system.beta))
    groups = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.tensor(system.group)])
    return Dense(reduced.shape[1], p, q, there(out.T @ out)), groups
