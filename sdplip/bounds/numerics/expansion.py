"""Multipliers with which a network is seen to expand: the interior-point method of LipSDP with the signs of kappa and f'f exchanged."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float

from sdplip.bounds.increments import Increments, backward
from sdplip.bounds.numerics.dense import Dense
from sdplip.bounds.numerics.interior import iterates
from sdplip.bounds.numerics.joint_lipsdp import scaled
from sdplip.bounds.numerics.joint_proof import sectors
from sdplip.bounds.numerics.riccati import FAMILIES

Matrix = Float[np.ndarray, "m n"]
Vector = Float[np.ndarray, " n"]

# Note [exchanged signs]. The largest kappa with S(lambda) + f'f - kappa E >= 0 is K - rho for the least rho with rho E + S(lambda) - C >= 0 and
# C = K E - f'f, for any number K: the problem of LipSDP with another C. With K above the square of a Lipschitz constant rho is between 0 and K, and
# multipliers of that constant are feasible for rho = 2 K.


def expanding(system: Increments, gap: float = 1e-10) -> Iterator[tuple[float, Vector]]:
    """Candidates (kappa, multipliers), the best first; all of floating point, for the kernel to judge.

    Raises:
        numpy.linalg.LinAlgError: the numbers leave the range of double precision.
    """
    if not system.order:
        least = float(np.linalg.svd(system.out, compute_uv=False)[-1])
        yield least**2, np.zeros(0)
        return
    size, start = backward(system, FAMILIES["spectral"])
    safe, best = start * 1.02, None
    dense, groups = scaled(system, 1.1 * size, safe, "cpu")
    C = torch.zeros_like(dense.C)
    C.diagonal()[: system.inputs] = 1.0
    dense = Dense(dense.inputs, dense.p, dense.q, C - dense.C)
    y = torch.full((system.order + 1,), 0.5, dtype=torch.float64)
    y[0] = 2.0
    for count, point in enumerate(iterates(dense, y, groups)):  # pyright: ignore[reportArgumentType]
        best = point if best is None or abs(point.gap) < abs(best.gap) else best
        if abs(point.gap) <= gap or count >= 80:
            break
    found = np.ones(system.multipliers)
    if best is not None:
        found[system.group] = 2 * best.y[1:].numpy()
    found = np.maximum(found, 0.0) * safe
    mixed = [found, *((1 - t) * found + t * safe for t in 10.0 ** np.arange(-12, 0))]
    values = [(_kappa(system, lam), lam) for lam in mixed]
    yield from sorted(values, key=lambda value: -value[0])


def _kappa(system: Increments, multipliers: Vector) -> float:
    """The largest kappa of the multipliers by a Schur complement, or minus infinity. Not trusted."""
    n, M = system.inputs, sectors(system, multipliers, system.out.T @ system.out)
    d = M.diagonal()[n:]
    if not np.isfinite(M).all() or not (d > 0).all():
        return -np.inf
    r = d**-0.5
    try:
        factor = np.linalg.cholesky(r[:, None] * M[n:, n:] * r)
    except np.linalg.LinAlgError:
        return -np.inf
    side = np.linalg.solve(factor, r[:, None] * M[n:, :n])
    corner = M[:n, :n] - side.T @ side
    return float(np.linalg.eigvalsh((corner + corner.T) / 2)[0])
