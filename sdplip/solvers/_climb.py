"""From a dual to be climbed to ever better brackets: single precision first, then double, with a feasible `t` from time to time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace
from sdplip.proposals.lanczos import top_ritz
from sdplip.solvers._landscapes import AbstractLandscape, Height, Rows, Vector, norm
from sdplip.solvers._lowrank import ascent

CHECKED_ORDER = 1024
"""Up to this order feasibility is decided by a Cholesky factorization, above it estimated by block Lanczos iteration."""

GRAM_ORDER = 20_000
"""Up to this order the Gram matrix is formed where it makes products cheaper; it has 3 GB then."""

ROUGH = 3e-6
"""Slope that single precision reaches."""

NEAR = 1e-3
r"""Change of V, relatively: single precision knows its product to 1e-10 of the whole."""

SINGLE, DOUBLE = 2.0**-20, 2.0**-48
"""Relative rounding of values."""


class Products(Protocol):
    """A Gram matrix, or several side by side."""

    def apply(self, V: Rows) -> Rows:
        """G V."""
        ...


@dataclass(frozen=True, eq=False)
class Gram:
    """The Gram matrix of W, formed where products with it are cheaper than two with W, of which one is kept."""

    factor: Float[Array, "m n"] | None
    G: Float[Array, "n n"] | None
    diagonal: Vector

    @classmethod
    def of(cls, W: Float[np.ndarray, "m n"], like: Callable[[np.ndarray], Array]) -> "Gram":
        """Of an array of NumPy, whose product of a matrix with itself costs half."""
        m, n = W.shape
        G = W.T @ W if n <= min(2 * m, GRAM_ORDER) or n <= CHECKED_ORDER else None
        diagonal = np.einsum("ij,ij->j", W, W)
        return cls(like(W) if G is None else None, None if G is None else like(G), like(diagonal))

    def single(self) -> "Gram":
        """In single precision."""
        return Gram(
            None if self.factor is None else single(self.factor),
            None if self.G is None else single(self.G),
            single(self.diagonal),
        )

    def apply(self, V: Rows) -> Rows:
        """G V."""
        return self.G @ V if self.factor is None else self.factor.mT @ (self.factor @ V)

    def top(self, t: Vector, kernel: Rows, tolerance: float) -> tuple[float, float, Vector]:
        r"""`top_ritz` of $T^{-1/2} G T^{-1/2}$, from what is thought to span its top eigenvectors and one vector more."""
        s, n = t[:, None] ** -0.5, len(t)
        extra = np.cos(np.arange(n) * 2.399963 + 0.5)[:, None] + 1e-3
        extra = extra if isinstance(t, np.ndarray) else t.new_tensor(extra)
        xp = namespace(t)
        start = xp.concatenate((kernel / (kernel * kernel).max() ** 0.5, extra), 1)
        return top_ritz(lambda X: s * self.apply(s * X), start, tolerance, xp=xp)

    def lift(self, t: Vector, kernel: Rows, tolerance: float) -> "tuple[Vector, float, Vector]":
        """The least multiple of `t` that is feasible, as far as that is known within `tolerance`; the multiple, the eigenvector."""
        theta, rho, x = self.top(t, kernel, tolerance / 4)
        factor, step = theta + min(rho, tolerance / 8), tolerance / 16
        while len(t) <= CHECKED_ORDER and self.G is not None and not _definite(factor * t, self.G):
            factor, step = factor + step * theta, 2 * step
        return factor * t, factor, x


class Anchored:
    r"""Products with G at the price of single precision: $G V = G V_0 + G (V - V_0)$, where the second product is small.

    $V_0$ is the last point that was multiplied in double precision; steps near the maximum are short, so few are.
    """

    def __init__(self, gram: Products, low: Products) -> None:
        self.gram, self.low = gram, low
        self.known: tuple[Rows, Rows] | None = None

    def __call__(self, V: Rows) -> Rows:
        """G V."""
        if self.known is not None and self.known[0].shape == V.shape:
            change = V - self.known[0]
            if norm(change) <= NEAR * norm(V):
                return self.known[1] + double(self.low.apply(single(change)))
        self.known = V, self.gram.apply(V)
        return self.known[1]


@dataclass(frozen=True, eq=False)
class Task:
    """A dual in double precision, perhaps the same in single, where to begin, and what a scaling costs."""

    gram: Gram
    double: AbstractLandscape
    single: AbstractLandscape | None
    V: Rows
    t: Vector  # feasible
    cost: Callable[[Vector], float]
    relative: Callable[[float, float], float]  # the gap between cost and lower bound
    shift: float = 0.0  # of the value of the dual


@dataclass(frozen=True, eq=False)
class Bracket:
    """A dual point with its value `lower`, and the best feasible `t` so far."""

    task: Task
    at: Height | None
    t: Vector
    V: Rows
    lower: float

    @property
    def objective(self) -> float:
        """Cost of `t`."""
        return self.task.cost(self.t)

    @property
    def gap(self) -> float:
        """Relative."""
        return self.task.relative(self.objective, self.lower)

    def lifted(self, tolerance: float) -> "tuple[Bracket, float, Vector | None]":
        """With the `t` that V asks for, lifted, if that is better; how far it was lifted, and along what."""
        if self.at is None:
            return self, 1.0, None
        at = self.at if self.at.V.dtype == self.t.dtype else self.task.double.at(self.V)
        t, factor, x = self.task.gram.lift(at.t, self.task.double.kernel(at), tolerance)
        lower = at.value + self.task.shift
        return replace(self, t=min(t, self.t, key=self.task.cost), at=at, lower=lower), factor, x


def brackets(task: Task, tolerance: float) -> Iterator[Bracket]:
    """Ever better brackets; ends where rounding allows no ascent."""
    best = Bracket(task, None, task.t, task.V, -np.inf)
    V = task.V
    if task.single is not None:
        for at in climb(task.single, task.single.domain(single(V)), SINGLE):
            V = task.double.domain(double(at.V))
            best = replace(best, at=at, V=V, lower=at.value * (1 - np.sign(at.value) * SINGLE) + task.shift)
            yield best
            if at.slope <= max(tolerance, ROUGH):
                break
    again = True
    while again:
        check, again = tolerance, False
        for at in climb(task.double, V, DOUBLE):
            best = replace(best, at=at, V=at.V, lower=at.value + task.shift)
            if at.slope <= check:
                best, factor, x = best.lifted(tolerance)
                check = at.slope / 3
                if (
                    factor - 1 > max(tolerance, 100 * at.slope) and x is not None
                ):  # a saddle: the rank is too small
                    V, again = task.double.domain(task.double.wider(at, x)), True
                    yield best
                    break
            yield best


def climb(land: AbstractLandscape, V: Rows, noise: float) -> Iterator[Height]:
    """An ascent that drops columns which it does not need."""
    check, thin = 1e-3, V
    while thin is not None:
        V, thin = thin, None
        for at in ascent(land, V, noise):
            yield at
            if at.slope <= check:
                check = at.slope / 3
                thin = land.thinner(at.V)
                if thin is not None:
                    thin = land.domain(thin)
                    break


def single(x: Array) -> Array:
    """In single precision."""
    return x.astype(np.float32) if isinstance(x, np.ndarray) else x.float()


def double(x: Array) -> Array:
    """In double precision."""
    return x.astype(np.float64) if isinstance(x, np.ndarray) else x.double()


def _definite(t: Vector, G: Float[Array, "n n"]) -> bool:
    """Whether diag(t) - G has a Cholesky factor."""
    if not isinstance(G, np.ndarray):
        from sdplip.solvers._hkm import minus
        from sdplip.solvers._steps import cholesky

        return cholesky(minus(t, G[None])) is not None
    try:
        np.linalg.cholesky(np.diag(t) - G)
    except np.linalg.LinAlgError:
        return False
    return True
