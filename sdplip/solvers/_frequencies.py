r"""One diagonal above many Gram matrices, of which few matter: the interior-point method on a growing working set.

The optimal `t` touches few of them: an extreme dual point has ranks with $\sum_\omega r_\omega^2 \le n$, and a random convolution
of 64 channels on 32 x 32 pixels has 11 of 544. The dual point of a working set is one of the whole, zero elsewhere, and
its `t`, lifted until it is feasible for all, is feasible for all: every round yields an interval for the whole problem.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Inexact, Int
from torch import Tensor

from sdplip.solvers._hkm import Vector, iterates, minus
from sdplip.solvers._steps import Matrices, cholesky, least_eigenvalues, random_vectors

Symbols = Inexact[Tensor, "batch m n"]

SMALL_BATCH = 4
"""Up to this many matrices are all in the working set from the beginning."""

COLD, WARM = 0.1, 0.02
"""How far a `t` to begin from is moved inside: the fraction by which that raises its cost."""

CHUNK = 2**22
"""Entries of the Gram matrices that are formed at a time, outside the working set."""


@dataclass(frozen=True, eq=False)
class State:
    """A `t` that is feasible for every matrix, and a dual point X (before its scaling) on the matrices `chosen`."""

    t: Vector
    X: Matrices
    chosen: Int[Tensor, " chosen"]
    objective: float
    lower: float


def states(S: Symbols, cost: Vector, t: Vector | None, gap: float) -> Iterator[State]:
    """Ever better intervals for the Gram matrices of `S`; ends at the relative gap, or where it cannot be reached."""
    batch = max(8, S.shape[-1] // 4)
    t = start_scaling(S, cost) if t is None else inner(lift(S, t, gap), cost, WARM)
    best, upper = t, float(cost @ t)
    chosen = _worst(S, t, len(S) if len(S) <= SMALL_BATCH else batch)
    target = gap if len(chosen) == len(S) else max(gap, 1e-2)
    while True:
        point, reached = None, False
        for point in iterates(gram(S[chosen]), cost, t):
            if len(chosen) == len(S):
                best, upper = point.t, point.objective
            yield State(best, point.X, chosen, upper, point.objective - point.gap)
            reached = point.gap <= target * point.objective
            if reached:
                break
        if point is None or len(chosen) == len(S):
            return
        bad = violated(S, point.t)
        t = lift(S[bad], point.t, gap)
        if float(cost @ t) < upper:
            best, upper = t, float(cost @ t)
            yield State(best, point.X, chosen, upper, point.objective - point.gap)
        outside = bad.nonzero()[:, 0]
        if upper - (point.objective - point.gap) <= gap * upper or not (reached or len(outside)):
            return
        new = outside[_worst(S[outside], point.t, batch)]
        chosen = torch.cat([chosen, new])
        excess = float((t / point.t).max()) - 1
        target = max(gap / 2, min(target, excess if len(new) else target) / 10)
        t = inner(t, cost, WARM)


def start_scaling(S: Symbols, cost: Vector) -> Vector:
    """A strictly feasible `t`: AOL, spectral or weighted spectral scaling, whichever costs least, moved inside."""
    rows = [abs(gram(chunk)).sum(-1).amax(0) for chunk in S.split(_chunk(S))]
    shapes = torch.stack(rows).amax(0), torch.ones_like(cost), 1 / cost
    candidates = [t * _top(S, t) for t in shapes]
    t = inner(min(candidates, key=lambda t: float(cost @ t)), cost, COLD)
    return lift(S, t, 0.01)


def inner(t: Vector, cost: Vector, fraction: float) -> Vector:
    """`t` moved inside by adding the same cost to every entry: there all entries of X and Z are about equally large."""
    return t + fraction * float(cost @ t) / len(t) / cost


def lift(S: Symbols, t: Vector, step: float) -> Vector:
    """The first of `t`, (1 + step) t, (1 + 4 step) t, ... that is strictly feasible for every matrix."""
    factor = 1.0
    for chunk in S.split(_chunk(S)):
        G = gram(chunk)
        while cholesky(minus(factor * t, G)) is None:
            factor, step = 1 + step, 4 * step
    return factor * t


def violated(S: Symbols, t: Vector) -> Bool[Tensor, " batch"]:
    """Which matrices `t` is not strictly feasible for."""
    chunks = (minus(t, gram(chunk)) for chunk in S.split(_chunk(S)))
    return torch.cat([torch.linalg.cholesky_ex(Z)[1] > 0 for Z in chunks])


def largest_eigenvalues(S: Symbols, t: Vector) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    r"""Estimates of $\lambda_{\max}(T^{-1/2} S^* S T^{-1/2})$ of every matrix from below, and their residuals."""
    P = S * t.rsqrt()
    theta, rho = least_eigenvalues(lambda v: -(P.mH @ (P @ v)), random_vectors(S.mH), tolerance=1e-3)
    return -theta, rho


def _top(S: Symbols, t: Vector) -> float:
    theta, rho = largest_eigenvalues(S, t)
    return float((theta + rho).max())


def gram(S: Symbols) -> Matrices:
    """Gram matrices."""
    return S.mH @ S


def _worst(S: Symbols, t: Vector, count: int) -> Int[Tensor, " chosen"]:
    """Indices of the `count` matrices that `t` covers least."""
    if count >= len(S):
        return torch.arange(len(S), device=S.device)
    return largest_eigenvalues(S, t)[0].topk(count).indices


def _chunk(S: Symbols) -> int:
    return max(1, CHUNK // S.shape[-1] ** 2)
