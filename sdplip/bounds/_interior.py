r"""Primal-dual interior-point iteration on the blocks of a network (HKM direction, predictor and corrector).

With $P = Z^{-1}$ the direction solves $H\,dy = \sigma \mu A(P) - b - A(P\,dZ_a\,dX_a)$, $H_{ij} = \mathrm{tr}(A_i P A_j X)$, and
$dX = \sigma \mu P - X - P (dZ X + dZ_a dX_a)$, symmetrised (Helmberg, Rendl, Vanderbei, Wolkowicz, SIAM J. Optim. 1996;
subscript a:
the predictor, $\sigma = 0$). Variables may share one multiplier: `groups` says which.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sdplip.bounds._blocks import Blocks, Matrix, Vector, symmetric


@dataclass(frozen=True, eq=False)
class Iterate:
    r"""A strictly feasible $y = (\rho, \lambda)$, and a dual value: the optimum is not below `lower`, in floating point."""

    y: Vector
    lower: float

    @property
    def gap(self) -> float:
        """Relative to rho."""
        return (float(self.y[0]) - self.lower) / float(self.y[0])


@dataclass(frozen=True, eq=False)
class _Group:
    """Variables that share a value: `expand` copies, `collect` adds up."""

    index: Int[Tensor, " variables"]
    count: int

    def expand(self, v: Vector) -> Vector:
        return v[self.index]

    def collect(self, v: Vector) -> Vector:
        return v.new_zeros(self.count).index_add_(0, self.index, v)

    def square(self, H: Matrix) -> Matrix:
        rows = H.new_zeros(self.count, len(H)).index_add_(0, self.index, H)
        return rows.new_zeros(self.count, self.count).index_add_(1, self.index, rows)


def iterates(blocks: Blocks, y: Vector, groups: Int[Tensor, " variables"] | None = None) -> Iterator[Iterate]:
    """Points of the method from a strictly feasible `y`; it ends where double precision allows no further progress.

    `groups` numbers the variables, 0 for rho, equal numbers for neurons with a common multiplier.
    """
    group = None if groups is None else _Group(groups, int(groups.max()) + 1)
    collect = group.collect if group else (lambda v: v)
    b = torch.zeros_like(collect(y))
    b[0] = 1
    factor = blocks.factor(y)
    if factor is None:
        return
    X, X_factor = None, None
    while factor is not None:
        P = blocks.inverse(factor)
        if X is None:
            X, X_factor = _move_dual(P / P[: blocks.inputs, : blocks.inputs].diagonal().sum(), P, 0.0)
        if X_factor is None:
            return
        f, g = blocks.forms(P), blocks.forms(X)
        AP, AX = (_diagonals(blocks, S, forms.pq) for S, forms in ((P, f), (X, g)))
        value = blocks.objective(X)
        # X need not be feasible yet; multipliers of size y pay for what is missing, and those of the optimum are near in the end.
        missing = float(abs(collect(AX) - b) @ abs(_representative(group, y)))
        yield Iterate(y, value - 3 * missing)
        mu = (float(AX @ y) - value) / blocks.order
        H = blocks.schur(f, g, P, X)
        del f, g
        solve = _solver(group.square(H) if group else H)
        if solve is None or mu <= 0:
            return
        expand = group.expand if group else (lambda v: v)
        predictor = expand(solve(-b))
        dX = -X - symmetric(blocks.apply_inverse(factor, P, blocks.times(predictor, X)))
        a, c = _reach(blocks, y, predictor), _reach_dual(X_factor, dX)
        trial = X + c * dX
        after = float(blocks.adjoint(trial) @ (y + a * predictor)) - blocks.objective(trial)
        sigma = min(1.0, max(1e-6, after / blocks.order / mu) ** (3 if min(a, c) > 0.3 else 1))
        second = blocks.times(predictor, dX)
        bend = collect(blocks.adjoint(blocks.near_product(P, second)))
        dy = expand(solve(sigma * mu * collect(AP) - b - bend))
        dX = sigma * mu * P - X - symmetric(blocks.apply_inverse(factor, P, second.add_(blocks.times(dy, X))))
        a, c = min(1.0, 0.95 * _reach(blocks, y, dy, 1.06)), min(1.0, 0.95 * _reach_dual(X_factor, dX, 1.06))
        if max(a, c) < 1e-4:
            return
        y, factor = _move(blocks, y, dy, a)
        X, X_factor = _move_dual(X, dX, c)


def _diagonals(blocks: Blocks, S: Matrix, pq: Matrix) -> Vector:
    """`blocks.adjoint(S)` from the forms of S."""
    return torch.cat([S[: blocks.inputs, : blocks.inputs].diagonal().sum()[None], 2 * pq.diagonal()])


def _representative(group: _Group | None, y: Vector) -> Vector:
    return y if group is None else group.collect(y) / group.collect(torch.ones_like(y))


def _solver(H: Matrix):
    """The solution operator of H, equilibrated; None where H is not positive definite."""
    d = H.diagonal().clamp_min(torch.finfo(H.dtype).tiny).rsqrt()
    L, failed = torch.linalg.cholesky_ex(d[:, None] * H * d)
    if int(failed):
        return None
    return lambda r: d * torch.cholesky_solve((d * r)[:, None], L)[:, 0]


def _reach(blocks: Blocks, y: Vector, dy: Vector, most: float = 1.0) -> float:
    """How far, at most `most`, one may go from `y` along `dy` and stay feasible; by trial factorizations."""
    if blocks.factor(y + most * dy) is not None:
        return most
    low, high = most / 2, most
    while blocks.factor(y + low * dy) is None:
        low, high = low / 2, low
        if low < 1e-6:
            return 0.0
    for _ in range(3):
        middle = (low + high) / 2
        low, high = (low, middle) if blocks.factor(y + middle * dy) is None else (middle, high)
    return low


def _reach_dual(L: Matrix, dX: Matrix, most: float = 1.0) -> float:
    """How far one may go from $X = L L^T$ along `dX`: Lanczos iteration for the least eigenvalue of $L^{-1} dX L^{-T}$."""
    n = len(L)
    v = torch.cos(torch.arange(n, dtype=L.dtype, device=L.device) * 2.399963 + 0.5)
    basis = L.new_zeros(n, min(n, 40) + 1)
    basis[:, 0] = v / v.norm()
    diagonal, side, least = [], [], 0.0
    for k in range(min(n, 40)):
        u = torch.linalg.solve_triangular(L.mT, basis[:, k : k + 1], upper=True)
        w = torch.linalg.solve_triangular(L, dX @ u, upper=False)[:, 0]
        diagonal.append(w @ basis[:, k])
        for _ in range(2):  # twice is enough (Kahan, Parlett)
            w = w - basis[:, : k + 1] @ (basis[:, : k + 1].mT @ w)
        size = w.norm()
        done = float(size) < 1e-14 or k == min(n, 40) - 1
        if k % 5 == 4 or done:
            T = torch.diag(torch.stack(diagonal)).cpu()
            if side:
                T = T + torch.diag(torch.stack(side).cpu(), 1) + torch.diag(torch.stack(side).cpu(), -1)
            theta, vectors = torch.linalg.eigh(T)
            residual = float(size) * abs(float(vectors[-1, 0]))
            least = float(theta[0]) - residual
            if done or residual <= 0.03 * abs(float(theta[0])):
                break
        side.append(size)
        basis[:, k + 1] = w / size
    return most if least * most >= -1 else -1 / least


def _move(blocks: Blocks, y: Vector, dy: Vector, a: float):
    for _ in range(20):
        factor = blocks.factor(y + a * dy)
        if factor is not None:
            return y + a * dy, factor
        a *= 0.8
    return y, None


def _move_dual(X: Matrix, dX: Matrix, c: float) -> tuple[Matrix, Matrix | None]:
    for _ in range(20):
        moved = X + c * dX
        L, failed = torch.linalg.cholesky_ex(moved)
        if not int(failed):
            return moved, L
        c *= 0.8
    return X, None
