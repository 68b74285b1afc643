r"""What a form of a pair could gain, from the moments of its two variables.

With $w = (p_i, q_i, p_j, q_j)$ and their moments $M = \langle w w^\top \rangle$ in the solver's moment matrix, no form of the pair helps where
$M = Y + D V D$, D = diag(1, 1, -1, -1), with doubly nonnegative Y and V. The price is the least t with $M + t K$ of that kind, K in the
interior of that cone; M has a unit diagonal first. It is found for all pairs at once by a barrier method of 11 variables, roughly."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.bounds.numerics.pair_forms import Pairs
from sdplip.bounds.numerics.pair_inequality import ABOVE, FORMS, SIGNS

Batch = Float[Tensor, "pairs k k"]
Prices = Float[np.ndarray, " pairs"]
UNIT = torch.eye(4, dtype=torch.float64)
UNIT[0, 1] = UNIT[1, 0] = UNIT[2, 3] = UNIT[3, 2] = 0.3
ROUGH = 2e-4
"""Of the barrier at the end; prices are too large by 20 times that at most."""
MOST = 4000
"""Pairs of the most mixed signs that are priced; of all others the price is 0."""
CORRELATION = 1e-3
"""Below this no sign counts."""


def prices(
    R: Float[Tensor, "rows columns"],
    moments: Float[Tensor, "columns columns"],
    at: Pairs,
    rough: float = ROUGH,
) -> Prices:
    """At least 0, of each pair; in the units of the objective. Those below 20 times `rough` are 0."""
    T, N = R @ moments @ R.mT, len(R) // 2
    d = T.diagonal().clamp_min(1e-14 * T.diagonal().max()).sqrt()
    T = T / d / d[:, None]
    e = torch.tensor(at)[:, [0, 0, 1, 1]] + torch.tensor([0, N, 0, N])
    cross = T[e[:, :2, None], e[:, None, 2:]].reshape(-1, 4)
    mixed = torch.minimum(
        (cross - CORRELATION).clamp_min(0).sum(1), (-cross - CORRELATION).clamp_min(0).sum(1)
    )
    size = d[e[:, :2]].square().sum(1).sqrt() * d[e[:, 2:]].square().sum(1).sqrt()
    found = torch.zeros(len(at), dtype=torch.float64)
    some = torch.topk(mixed * size, min(MOST, len(at))).indices
    some = some[mixed[some] > 0]
    for part in some.split(1000):
        found[part] = _least(T[e[part][:, :, None], e[part][:, None]], rough) * size[part]
    return (found - 20 * rough * size).clamp_min(0).numpy()


def _least(M: Batch, rough: float) -> Float[Tensor, " pairs"]:
    """The price of each, by Newton's method along the central path."""
    t = torch.full((len(M),), 20.0, dtype=torch.float64)
    Y = torch.full((len(M), 4, 4), 0.1, dtype=torch.float64)
    Y[:, :2, 2:] = Y[:, 2:, :2] = 1.2
    Y.diagonal(dim1=1, dim2=2)[:] = 10.5
    steps = torch.cat([UNIT[None], -FORMS])  # of V; those of Y are FORMS
    mu = 1.0
    while mu > rough:
        mu *= 0.5
        for _ in range(2):
            V = M + t[:, None, None] * UNIT - Y
            PY, PV = torch.linalg.inv(Y), torch.linalg.inv(V)
            gradient = torch.einsum("gab,kab->gk", PV, steps)
            gradient[:, 1:] += torch.einsum("gab,kab->gk", PY, FORMS)
            images, other = PV[:, None] @ steps @ PV[:, None], PY[:, None] @ FORMS @ PY[:, None]
            H = torch.einsum("gkab,lab->gkl", images, steps)
            H[:, 1:, 1:] += torch.einsum("gkab,lab->gkl", other, FORMS)
            for A, dA in ((V, steps), (Y, torch.cat([0 * UNIT[None], FORMS]))):
                inverse, line = 1 / A[:, *ABOVE], dA[:, *ABOVE]
                gradient += inverse @ line.mT
                H += (line * inverse[:, None].square()) @ line.mT
            gradient[:, 0] -= 1 / mu
            d = torch.linalg.solve(H, gradient[:, :, None])[:, :, 0]
            dY = torch.einsum("gk,kab->gab", d[:, 1:], FORMS)
            step = _reach(M, t, Y, d[:, 0], dY)
            t, Y = t + step * d[:, 0], Y + step[:, None, None] * dY
    return t


def _reach(M: Batch, t: Tensor, Y: Batch, dt: Tensor, dY: Batch) -> Float[Tensor, " pairs"]:
    """A step of at most 1 that stays inside; 0 where none of 40 does."""
    step = torch.ones(len(M), dtype=torch.float64)
    inside = torch.zeros(len(M), dtype=torch.bool)
    for _ in range(40):
        inside = _inside(M + (t + step * dt)[:, None, None] * UNIT, Y + step[:, None, None] * dY)
        if bool(inside.all()):
            break
        step = torch.where(inside, step, 0.7 * step)
    return torch.where(step < 1, 0.8 * step, step) * inside


def _inside(M: Batch, Y: Batch) -> Float[Tensor, " pairs"]:
    V = SIGNS[1] * (M - Y)
    off = (V[:, *ABOVE] > 0).all(1) & (Y[:, *ABOVE] > 0).all(1)
    return off & (torch.linalg.cholesky_ex(V)[1] == 0) & (torch.linalg.cholesky_ex(Y)[1] == 0)
