r"""The interior-point iteration for one diagonal above a batch of Gram matrices.

    minimise cost . t   subject to   Z_w = diag(t) - G_w >= 0   for every w
    maximise sum_w <G_w, X_w>   subject to   sum_w diag(X_w) = cost,   X_w >= 0

One real matrix is one layer; complex Hermitian matrices are the frequencies of a convolution.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip.solvers._steps import (
    Matrices,
    centering,
    cholesky,
    fraction,
    hermitian,
    length,
    newton_solver,
    random_vectors,
    shorten,
)

Vector = Float[Tensor, " n"]


@dataclass(frozen=True, eq=False)
class Iterate:
    """A strictly feasible `t` and a positive definite X, which `feasible_dual` scales to feasibility; `gap` is absolute."""

    t: Vector
    X: Matrices
    objective: float
    gap: float


def iterates(G: Matrices, cost: Vector, t: Vector) -> Iterator[Iterate]:
    r"""Points of the HKM primal-dual predictor-corrector method from a strictly feasible `t`.

    With $P = Z^{-1}$ and $H = \sum_w \mathrm{Re}(P_w \circ \bar X_w)$ the direction solves
    $H\,dt = \sigma\mu\,\mathrm{diag}P - cost$, and $dX = \sigma\mu P - X - P\,\mathrm{diag}(dt) X$ symmetrised, both with the
    second-order term of Mehrotra (Helmberg, Rendl, Vanderbei and Wolkowicz 1996). A step and matrix cost two products, one
    inverse and three Cholesky factorizations, of Z, X and H; the step lengths, by Lanczos iteration, cost next to nothing.

    It ends, without an error, where double precision allows no further progress. The next step overwrites X.
    """
    begin = random_vectors(G)
    factor = cholesky(minus(t, G))
    if factor is None:
        return
    P = torch.cholesky_inverse(factor)
    X = congruence((cost / diagonal(P)).sqrt(), P)
    X_factor = cholesky(X)
    while factor is not None and X_factor is not None:
        x, XG = diagonal(X), hadamard(X, G)
        s = (cost / x).sqrt()
        objective = float(cost @ t)
        yield Iterate(t, X, objective, objective - float(s @ XG @ s))
        total = float(x @ t - XG.sum())  # <X, Z>
        del XG
        solve = newton_solver(hadamard(P, X)) if total > 0 else None
        if solve is None:
            return
        mu = total / (len(t) * len(G))

        da = solve(-cost)
        dXa = hermitian(P @ (da[:, None] * X)).add_(X).neg_()
        a = min(1.0, length(factor, _rows(da), begin, 0.1))
        b = min(1.0, length(X_factor, lambda v, D=dXa: D @ v, begin, 0.1))
        after = (1 - b) * total + (a - b) * float(x @ da) + a * b * float(diagonal(dXa) @ da)
        sigma, reach = centering(after / total, min(a, b)), fraction(min(a, b))

        dt = solve(sigma * mu * diagonal(P) - cost - hadamard(P, dXa) @ da)
        dXa *= da[:, None]
        dX = hermitian(P @ dXa.add_(dt[:, None] * X)).add_(X).neg_().add_(P, alpha=sigma * mu)
        a = min(1.0, reach * length(factor, _rows(dt), begin, 0.02))
        b = min(1.0, reach * length(X_factor, lambda v, D=dX: D @ v, begin, 0.02))
        del dXa, factor, P, X_factor
        a, factor = shorten(lambda a, t=t, dt=dt: cholesky(minus(t + a * dt, G)), a)
        b, X_factor = shorten(lambda b, X=X, dX=dX: cholesky(torch.add(X, dX, alpha=b)), b)
        if factor is None or X_factor is None or max(a, b) < 1e-4:
            return
        t = t + a * dt
        X.add_(dX, alpha=b)
        P = torch.cholesky_inverse(factor)


def feasible_dual(X: Matrices, cost: Vector) -> Matrices:
    """X scaled so that its diagonals sum to `cost`."""
    return congruence((cost / diagonal(X)).sqrt(), X)


def congruence(s: Vector, X: Matrices) -> Matrices:
    """diag(s) X diag(s)."""
    return (s[:, None] * X).mul_(s)


def diagonal(X: Matrices) -> Vector:
    """Sum of the diagonals of the batch."""
    return X.diagonal(dim1=-2, dim2=-1).real.sum(0)


def hadamard(X: Matrices, Y: Matrices) -> Float[Tensor, "n n"]:
    """Sum over the batch of Re(X o conj(Y)), so that its entries sum to the inner product."""
    if not X.is_complex():
        return (X * Y).sum(0) if len(X) > 1 else X[0] * Y[0]
    return (torch.view_as_real(X) * torch.view_as_real(Y)).sum((0, -1))


def minus(t: Vector, G: Matrices) -> Matrices:
    """diag(t) - G."""
    Z = -G
    Z.diagonal(dim1=-2, dim2=-1).add_(t)
    return Z


def _rows(d: Vector):
    return lambda v: d[:, None] * v
