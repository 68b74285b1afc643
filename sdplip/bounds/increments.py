r"""A system of increments in floating point, and closed-form multipliers for it, from the output back.

Backward Riccati recursion: with $\Phi$ the quadratic form that bounds $\lVert f \rVert^2$ by input and the variables of the
layers so far, the last of these layers is eliminated with any diagonal $T \succeq \Phi_{vv}$ and $\Lambda = \theta T$,

    Phi <- Phi_zz - Y' Lambda A B Y + S (Lambda - Phi_vv)^-1 S',   S = Phi_zv + Y' Lambda (A + B) / 2 .

It is the recursion of `riccati.py` read from the other end, and needs no chain: skips and linear neurons are columns of Y.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from sdplip.kernel.system import Counted, System

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]
Scaling = Callable[[Matrix], Vector]
THETAS = (1.02, 1.1, 1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True, eq=False)
class Increments(Counted):
    """`kernel.system.System` without its errors."""

    inputs: int
    y: Matrix
    out: Matrix
    alpha: Vector
    beta: Vector
    group: Int[np.ndarray, " n"]
    weight: Vector
    depth: Int[np.ndarray, " n"]

    @staticmethod
    def of(system: System) -> "Increments":
        """The middle of a system."""
        s = system
        return Increments(s.inputs, s.y.mid, s.out.mid, s.alpha, s.beta, s.group, s.weight, s.depth)


def compressed(system: Increments) -> Increments:
    """The same system with an input that is as wide as the rank of what its rows see of it; floating point."""
    n, N = system.inputs, system.order
    rows = np.concatenate([system.y, system.out])
    if n <= 1 or not rows[:, :n].any():
        return system
    seen, s, _ = np.linalg.svd(rows[:, :n], full_matrices=False)
    rank = int((s > 1e-13 * s[0]).sum())
    if rank == n:
        return system
    rows = np.concatenate([seen[:, :rank] * s[:rank], rows[:, n:]], 1)
    return replace(system, inputs=rank, y=rows[:N], out=rows[N:])


def backward(system: Increments, scaling: Scaling) -> tuple[float, Vector]:
    r"""$\kappa$ and multipliers, one for each group of the system, strictly feasible up to rounding.

    Raises:
        numpy.linalg.LinAlgError: the numbers leave the range of double precision.
    """
    n = system.inputs
    Phi = system.out.T @ system.out
    multipliers = np.ones(system.multipliers)
    for layer in range(int(system.depth.max(initial=0)), 0, -1):
        rows = np.flatnonzero(system.depth == layer)
        if not len(rows):
            continue
        before, here = slice(0, n + rows[0]), n + rows
        corner = Phi[np.ix_(here, here)]
        t = _dominating(corner, scaling, system, rows, 1e-14 * float(np.trace(Phi)))
        step = (_eliminated(system, Phi, rows, before, theta * t) for theta in THETAS)
        usable = [(float(np.trace(form)), k) for k, form in enumerate(step) if np.isfinite(form).all()]
        if not usable:
            raise np.linalg.LinAlgError("no form: the numbers leave the range of double precision")
        lam = THETAS[min(usable)[1]] * t
        Phi = _eliminated(system, Phi, rows, before, lam)
        multipliers[system.group[rows]] = lam / system.weight[rows]
    return float(np.linalg.eigvalsh(Phi[:n, :n])[-1]) * (1 + 1e-9), multipliers


def _dominating(
    corner: Matrix, scaling: Scaling, system: Increments, rows: np.ndarray, least: float
) -> Vector:
    """A diagonal above `corner`, equal within groups after division by their weights, at least `least`."""
    values, vectors = np.linalg.eigh(corner)
    floor = max(1e-10 * float(values[-1]), least, 1e-280)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    t = np.maximum(scaling(root) if values[-1] > floor else 0.0, floor) * (1 + 1e-9) / system.weight[rows]
    most = np.zeros(system.multipliers)
    np.maximum.at(most, system.group[rows], t)
    return most[system.group[rows]] * system.weight[rows]


def _eliminated(system: Increments, Phi: Matrix, rows: np.ndarray, before: slice, lam: Vector) -> Matrix:
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
