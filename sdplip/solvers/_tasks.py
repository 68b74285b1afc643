"""From a problem to the dual that is climbed, on columns of lengths near 1, and from a bracket back to a scaling and a dual point."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.condition import Array
from sdplip.convolution.kernels import namespace
from sdplip.solvers._climb import Anchored, Bracket, Gram, Task, single
from sdplip.solvers._landscapes import AbstractLandscape, Apply, Box, Distance, Spheres
from sdplip.solvers._lowrank import least_rank
from sdplip.solvers._units import Units
from sdplip.solvers.problems import MaxVolume, MinTrace, Nearest

SHORT = 1 - 1e-14
"""Factor on a dual point, so that rounding does not carry it over its constraint."""

Like = Callable[[np.ndarray], Array]
Outside = Callable[[Bracket], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, eq=False)
class Posed:
    """A task with the unit of its costs and the way back; or, without a task, the answer."""

    task: Task | None
    unit: float
    outside: Outside
    t: Float[np.ndarray, " n"]
    dual: np.ndarray


@functools.singledispatch
def posed(problem: Any, rank: int | None, like: Like) -> Posed:
    """The task of a problem, with arrays made by `like`."""
    raise TypeError(problem, rank, like)


@posed.register
def _(problem: MinTrace, rank: int | None, like: Like) -> Posed:
    units = Units.of(problem.W[None])
    n = len(units.keep)
    if not units.keep.any():
        return _answer(np.zeros(n), np.zeros((n, 1)))
    cost = units.cost(problem.cost)
    gram = Gram.of(units.columns(problem.W) * cost**0.5, like)  # now every cost is 1
    task = Task(
        gram,
        *_both(gram, Spheres),
        V=_random(len(cost), rank or least_rank(len(cost)), like),
        t=_feasible(gram),
        cost=lambda t: float(t.sum()),
        relative=lambda upper, lower: 1 - lower / upper if upper else 0.0,
    )
    task = replace(task, V=task.double.domain(task.V))

    def outside(best: Bracket) -> tuple[np.ndarray, np.ndarray]:
        dual = np.zeros((n, best.V.shape[1]))
        dual[units.keep] = np.asarray(best.V) * SHORT * np.sqrt(problem.cost[units.keep])[:, None]
        return units.outside(np.asarray(best.t) / cost), dual

    return _task(task, math.ldexp(1.0, min(units.top, 1023)), outside)  # squares of weights may overflow


@posed.register
def _(problem: MaxVolume, rank: int | None, like: Like) -> Posed:
    units = Units.of(problem.W[None])
    m, n = problem.W.shape
    if not units.keep.any():
        return _answer(np.zeros(n), np.zeros((m, m)))
    W = units.columns(problem.W)
    kept = W.shape[1]
    gram, B = Gram.of(W, like), like(W)
    V = _random(m, min(m, rank or least_rank(kept)), like)
    task = Task(
        gram,
        Box(B),
        None if isinstance(B, np.ndarray) else Box(single(B)),
        V=V * (kept**0.5 / float((V * V).sum()) ** 0.5),
        t=_feasible(gram),
        cost=lambda t: float(namespace(t).log(t).sum()) + shift,
        relative=lambda upper, lower: (upper - lower) / kept,
        shift=(shift := 2 * math.log(2) * float(units.exponent.sum())),
    )

    def outside(best: Bracket) -> tuple[np.ndarray, np.ndarray]:
        F = np.asarray(best.V)
        F = F * (kept**0.5 / np.linalg.norm(F))  # the best multiple has this trace
        return units.outside(np.asarray(best.t)), F if F.shape[1] < m else F @ F.T

    return _task(task, 1.0, outside)


@posed.register
def _(problem: Nearest, rank: int | None, like: Like) -> Posed:
    units = Units.of(problem.W[None])
    keep = units.keep
    below = np.sqrt(2 * problem.weight * np.maximum(-problem.target, 0)) * ~keep  # of zero columns
    if not keep.any():
        return _answer(np.maximum(problem.target, 0), below[:, None])
    gram = Gram.of(units.columns(problem.W), like)
    target = np.ldexp(problem.target[keep], -2 * units.exponent)
    weight = np.ldexp(problem.weight[keep], 4 * units.exponent)
    top = float(weight.max())
    target, weight = like(target), like(weight / top)
    if bool((target > 0).all()) and gram.lift(target, target[:, None] ** 0.5, 1e-9)[1] <= 1:
        return _answer(np.where(keep, problem.target, np.maximum(problem.target, 0)), below[:, None])
    spectral = gram.diagonal * gram.top(gram.diagonal, gram.diagonal[:, None] ** 0.5, 0.1)[0]
    wide = namespace(target).maximum(spectral - target, 0.01 * spectral)
    V = _random(int(keep.sum()), rank or least_rank(int(keep.sum())), like)
    task = Task(
        gram,
        *_both(gram, lambda apply, diagonal: _distance(apply, diagonal, target, weight)),
        V=Spheres(gram.apply, gram.diagonal).domain(V) * (weight * wide)[:, None] ** 0.5,
        t=namespace(target).maximum(target, _feasible(gram)),
        cost=lambda t: float((weight * (t - target) ** 2).sum()),
        relative=lambda upper, lower: 1 - lower / upper if upper else 0.0,
    )

    def outside(best: Bracket) -> tuple[np.ndarray, np.ndarray]:
        Y = np.zeros((len(keep), best.V.shape[1] + 1))
        Y[keep, :-1] = np.asarray(best.V) * (top**0.5 * 2.0 ** -units.exponent[:, None])
        Y[:, -1] = below
        t = units.outside(np.asarray(best.t))
        return np.where(keep, t, np.maximum(problem.target, 0)), Y

    return _task(task, top, outside)


def _answer(t: np.ndarray, dual: np.ndarray) -> Posed:
    return Posed(None, 1.0, lambda _: (t, dual), t, dual)


def _task(task: Task, unit: float, outside: Outside) -> Posed:
    return Posed(task, unit, outside, np.zeros(0), np.zeros(0))


def _both(
    gram: Gram, land: Callable[[Apply, Array], AbstractLandscape]
) -> tuple[AbstractLandscape, AbstractLandscape | None]:
    """In double precision, and in single where torch computes."""
    if isinstance(gram.diagonal, np.ndarray):
        return land(gram.apply, gram.diagonal), None
    low = gram.single()
    return land(Anchored(gram, low), gram.diagonal), land(low.apply, low.diagonal)


def _distance(apply: Apply, diagonal: Array, target: Array, weight: Array) -> Distance:
    """In the precision of the Gram matrix."""
    if diagonal.dtype != target.dtype:
        target, weight = single(target), single(weight)
    return Distance(apply, diagonal, target, weight)


def _random(n: int, rank: int, like: Like) -> Array:
    return like(np.random.default_rng(0).standard_normal((n, rank)))


def _feasible(gram: Gram) -> Array:
    r"""$t_i = \lVert w_i\rVert \sum_j \lVert w_j\rVert \ge \sum_j |G_{ij}|$."""
    norms = gram.diagonal**0.5
    return norms * norms.sum()
