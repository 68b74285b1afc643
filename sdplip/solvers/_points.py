"""From a problem to its interior-point iteration, and from an iterate back to a scaling and a dual point."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from sdplip.solvers._frequencies import State, lift, start_scaling, states
from sdplip.solvers._hkm import congruence, diagonal
from sdplip.solvers._steps import cholesky
from sdplip.solvers._units import Units
from sdplip.solvers._volume import VolumeIterate, volume_iterates
from sdplip.solvers.problems import ConvolutionMinTrace, MaxVolume, MinTrace

SHORT = 1 - 1e-14
"""Factor on a dual point, so that rounding does not carry it over its constraint."""


@dataclass(frozen=True, eq=False)
class Point:
    """Where an iteration stands, in the units of the problem; `t` and `dual` are made when they are asked for."""

    objective: float
    lower: float
    gap: float
    t: Callable[[], Float[np.ndarray, " n"]]
    dual: Callable[[], np.ndarray]


def points(
    problem: MinTrace | MaxVolume | ConvolutionMinTrace, start: Any, gap: float, device: torch.device
) -> Iterator[Point]:
    """The iteration that suits the problem; a wrong `start` is refused before it begins."""
    S = problem.symbols if isinstance(problem, ConvolutionMinTrace) else problem.W[None]
    units = Units.of(S)
    t = None if start is None else torch.tensor(units.inside(start), device=device)
    if not units.keep.any():
        return iter([aol_point(problem)])
    inside = torch.tensor(units.columns(S), device=device)
    match problem:
        case MinTrace():
            return _layer(problem, units, inside, t, gap)
        case ConvolutionMinTrace():
            return _convolution(problem, units, inside, t, gap)
        case MaxVolume():
            return _volume(units, inside[0], t)


def aol_point(problem: MinTrace | MaxVolume | ConvolutionMinTrace) -> Point:
    """The AOL scaling: optimal for a zero weight, else what there is before the first iteration."""
    S = problem.symbols if isinstance(problem, ConvolutionMinTrace) else problem.W[None]
    t = np.max([abs(W.conj().T @ W).sum(-1) for W in S], axis=0)
    dual = {
        MinTrace: (len(t), 1),
        MaxVolume: (S.shape[1], S.shape[1]),
        ConvolutionMinTrace: (len(S), len(t), 1),
    }[type(problem)]
    gap = math.inf if t.any() else 0.0
    return Point(problem.objective(t), 0.0 if gap == 0 else -gap, gap, lambda: t, lambda: np.zeros(dual))


# A layer.


def _layer(problem: MinTrace, units: Units, S: Tensor, t: Tensor | None, gap: float) -> Iterator[Point]:
    cost = torch.tensor(units.cost(problem.cost), device=S.device)
    for state in states(S, cost, t, gap):
        yield Point(
            objective=math.ldexp(state.objective, units.top),
            lower=math.ldexp(state.lower, units.top),
            gap=1 - state.lower / state.objective,
            t=partial(_outside, units, state.t),
            dual=partial(_layer_dual, problem, units, state),
        )


def _layer_dual(problem: MinTrace, units: Units, state: State) -> Float[np.ndarray, "n kept"]:
    """Cholesky factor of X with its diagonal made `cost`."""
    C = congruence(diagonal(state.X).rsqrt(), state.X)
    factor, theta = cholesky(C), 1e-15
    while factor is None:  # X was left at the boundary by an interruption
        C.mul_(1 - theta).diagonal(dim1=-2, dim2=-1).add_(theta)
        factor, theta = cholesky(C), 4 * theta
    Y = np.zeros((len(units.keep), factor.shape[-1]))
    Y[units.keep] = factor[0].cpu().numpy() * (SHORT * np.sqrt(problem.cost[units.keep]))[:, None]
    return Y


# A convolution.


def _convolution(
    problem: ConvolutionMinTrace, units: Units, S: Tensor, t: Tensor | None, gap: float
) -> Iterator[Point]:
    """Less than half of the gap is for the iteration, half of it for cutting the rank of the dual point."""
    cost = torch.tensor(units.cost(problem.cost), device=S.device)
    for state in states(S, cost, t, 0.49 * gap):
        lower = state.lower - 0.5 * gap * state.objective
        yield Point(
            objective=math.ldexp(state.objective, units.top),
            lower=math.ldexp(lower, units.top),
            gap=1 - lower / state.objective,
            t=partial(_outside, units, state.t),
            dual=partial(_convolution_dual, problem, units, state, 0.5 * gap),
        )


def _convolution_dual(
    problem: ConvolutionMinTrace, units: Units, state: State, loss: float
) -> Complex[np.ndarray, "F n r"]:
    r"""Factors of the X of the working set, of the least rank that loses at most the fraction `loss`; 0 elsewhere.

    Dropping a part R of X loses $\langle G, R\rangle \le \langle T, R\rangle$: eigenvalues of $T^{1/2} X T^{1/2}$.
    """
    root = state.t.sqrt()
    values, vectors = torch.linalg.eigh(congruence(root, state.X))
    size = values.flatten().clamp(min=0).sort().values
    cut = size[(size.cumsum(0) <= loss * size.sum()).sum().clamp(max=len(size) - 1)]
    rank = int((values >= cut).sum(-1).max())
    Y = vectors[..., -rank:] * values[:, None, -rank:].clamp(min=0).sqrt() / root[:, None]
    dual = np.zeros((len(problem.symbols), len(units.keep), rank), dtype=np.complex128)
    chosen = state.chosen.cpu().numpy()
    dual[np.ix_(chosen, units.keep)] = Y.cpu().numpy()
    dual /= np.sqrt(problem.multiplicity)[:, None, None]
    used = problem.multiplicity @ (abs(dual) ** 2).sum(-1)
    return dual * (SHORT * np.sqrt(problem.cost / np.where(used > 0, used, np.inf)))[:, None]


# The scaling of least product.


def _volume(units: Units, W: Tensor, t: Tensor | None) -> Iterator[Point]:
    m, n = W.shape
    Q, R = torch.linalg.qr(W) if m > n else (None, W)
    t = start_scaling(R[None], torch.ones_like(R[0])) if t is None else lift(R[None], t, 0.01)
    shift = 2 * math.log(2) * float(units.exponent.sum())
    for point in volume_iterates(R, 1 / t):
        yield Point(
            objective=point.objective + shift,
            lower=point.objective + shift - point.gap,
            gap=point.gap / n,
            t=partial(_outside, units, 1 / point.s),
            dual=partial(_volume_dual, Q, n, point),
        )


def _volume_dual(Q: Tensor | None, n: int, point: VolumeIterate) -> Float[np.ndarray, "m m"]:
    """Y with trace n, its best multiple, back among the rows of W."""
    Y = point.Y[0] * (n / point.Y[0].trace())
    return (Y if Q is None else Q @ Y @ Q.mT).cpu().numpy()


def _outside(units: Units, t: Tensor) -> Float[np.ndarray, " n"]:
    return units.outside(t.cpu().numpy())
