r"""Primal-dual interior-point iteration for the inequality of a network (HKM direction, predictor and corrector).

With $P = Z^{-1}$ the direction solves $H\,dy = \sigma \mu A(P) - b - A(P\,dZ_a\,dX_a)$, $H_{ij} = \mathrm{tr}(A_i P A_j X)$, and
$dX = \sigma \mu P - X - P (dZ X + dZ_a dX_a)$, symmetrised (Helmberg, Rendl, Vanderbei, Wolkowicz, SIAM J. Optim. 1996;
subscript a: the predictor, $\sigma = 0$). Variables may share one multiplier: `groups` says which. How matrices are held is up to
the inequality: all entries (`Dense`, and `Whole` for chains of few blocks), or three block diagonals of a chain (`Blocks`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sdplip.bounds.numerics.linear import Group, factored, improved
from sdplip.bounds.numerics.markov import farthest

Matrix = Float[Tensor, "m n"]
Vector = Float[Tensor, " n"]
ROUGH = 2
"""Binary digits of the predictor's step lengths, which only choose the centring."""


class Positive(Protocol):
    """A positive definite matrix: `Full` or `Markov`. Directions are of the kind of `matrix`."""

    @property
    def matrix(self) -> Any: ...
    def scaled(self, c: float) -> "Positive": ...
    def reach(self, step: Any, most: float, digits: int = 4) -> float: ...
    def moved(self, step: Any, c: float) -> "Positive | None": ...


class Inequality(Protocol):
    r"""$Z(y) = \sum_i y_i A_i - C \succeq 0$, with the products that the method needs; the objective is $y_0$."""

    @property
    def order(self) -> int: ...

    def factor(self, y: Vector) -> Any:
        """A factor of Z; None where Z is not positive definite."""

    def inverse(self, y: Vector, factor: Any) -> Any:
        """$P = Z^{-1}$, as a `Positive`; None where rounding spoils it."""

    def adjoint(self, S: Any) -> Vector:
        r"""$\langle A_i, S \rangle$ for all variables, of a matrix that may be unsymmetric."""
        ...

    def objective(self, S: Any) -> float:
        r"""$\langle C, S \rangle$."""
        ...

    def schur(self, P: Any, X: Any) -> "Matrix | System":
        r"""$\mathrm{tr}(A_i P A_j X)$ for all variables; the lower triangle is enough."""
        ...

    def product(self, P: Any, dy: Vector, X: Any) -> Any:
        r"""$P (\sum_i dy_i A_i) X$."""

    def bend(self, P: Any, dy: Vector, X: Any, dX: Any, c: float, first: Any) -> Any:
        r"""$P (\sum_i dy_i A_i) dX$, near enough for a corrector; X may go `c` along dX, and `first` is the product with X."""


@runtime_checkable
class System(Protocol):
    """The linear system of a step that is no matrix."""

    def solver(self) -> Callable[[Vector], Vector] | None: ...


@dataclass(frozen=True, eq=False)
class Iterate:
    r"""A strictly feasible $y = (\rho, \lambda)$, and a dual value: the optimum is not below `lower`, in floating point.

    X is the moment matrix behind that value."""

    y: Vector
    lower: float
    X: Any = None

    @property
    def gap(self) -> float:
        """Relative to rho."""
        return (float(self.y[0]) - self.lower) / float(self.y[0])


def iterates(
    inequality: Inequality, y: Vector, groups: Int[Tensor, " variables"] | None = None, X: Any = None
) -> Iterator[Iterate]:
    """Points of the method from a strictly feasible `y`; it ends where double precision allows no further progress.

    `groups` numbers the variables, 0 for rho, equal numbers for neurons with a common multiplier. X is a moment matrix to begin with.
    """
    group = None if groups is None else Group(groups, int(groups.max()) + 1)
    collect, expand = (group.collect, group.expand) if group else (_same, _same)
    b = torch.zeros_like(collect(y))
    b[0] = 1
    factor = inequality.factor(y)
    while factor is not None:
        P = inequality.inverse(y, factor)
        if P is None:
            return
        AP = inequality.adjoint(P.matrix)
        X = P.scaled(1 / float(AP[0])) if X is None else X
        AX, value = inequality.adjoint(X.matrix), inequality.objective(X.matrix)
        # X need not be feasible yet; multipliers of size y pay for what is missing, and those of the optimum are near in the end.
        size = abs(_representative(group, y))
        missing = float(abs(collect(AX) - b) @ size)
        yield Iterate(y, value - 3 * missing, X)
        mu = (float(AX @ y) - value) / inequality.order
        H = inequality.schur(P, X)
        solve = H.solver() if isinstance(H, System) else factored(group.square(H) if group else H)
        del H
        if solve is None or mu <= 0:
            return
        direction = partial(
            improved,
            lambda dy, P=P, X=X: inequality.product(P, expand(dy), X),
            lambda S: collect(inequality.adjoint(S)),
            solve,
            size / float(y[0]),
        )
        predictor, first = direction(-b)
        predictor = expand(predictor)
        dX = -1.0 * (X.matrix + symmetric(first))
        a, c = _reach(inequality, y, predictor, 1.0, ROUGH), X.reach(dX, 1.0, ROUGH)
        after = float((AX + c * inequality.adjoint(dX)) @ (y + a * predictor))
        after -= value + c * inequality.objective(dX)
        sigma = min(1.0, max(1e-6, after / inequality.order / mu) ** 2)
        bend = inequality.bend(P, predictor, X, dX, c, first)
        dy, product = direction(sigma * mu * collect(AP) - b - collect(inequality.adjoint(bend)))
        dy = expand(dy)
        dX = sigma * mu * P.matrix - (X.matrix + symmetric(product + bend))
        part = 0.9 + 0.09 * min(a, c)  # nearer to the boundary where the predictor could go far
        a, c = (min(1.0, part * most) for most in (_reach(inequality, y, dy, 1.1), X.reach(dX, 1.1)))
        if max(a, c) < 1e-4:
            return
        y, factor = _move(inequality, y, dy, a)
        X = X.moved(dX, c)
        if X is None:
            return


def _representative(group: Group | None, y: Vector) -> Vector:
    return y if group is None else group.collect(y) / group.collect(torch.ones_like(y))


def _reach(inequality: Inequality, y: Vector, dy: Vector, most: float, digits: int = 4) -> float:
    """How far, at most `most`, one may go from `y` along `dy` and stay feasible."""
    return farthest(lambda a: inequality.factor(y + a * dy) is not None, most, digits)


def _move(inequality: Inequality, y: Vector, dy: Vector, a: float):
    for _ in range(20):
        factor = inequality.factor(y + a * dy)
        if factor is not None:
            return y + a * dy, factor
        a *= 0.8
    return y, None


def _same(v: Vector) -> Vector:
    return v


def symmetric(M: Any) -> Any:
    return (M + M.mT) / 2
