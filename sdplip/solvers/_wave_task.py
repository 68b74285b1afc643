"""From a `ConvolutionMinTrace` to its waves, and back to a scaling and a dual point."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sdplip.solvers._prices import Symbols
from sdplip.solvers._tasks import SHORT
from sdplip.solvers._units import Units
from sdplip.solvers._waves import WavePoint, begin_wave, wave_points
from sdplip.solvers.convolution_problem import ConvolutionMinTrace


@dataclass(frozen=True, eq=False)
class PosedWaves:
    """Points with the unit of their costs and the way back."""

    points: Iterator[WavePoint]
    first: WavePoint
    unit: float
    lifted: Callable[[WavePoint], WavePoint]
    outside: Callable[[WavePoint], tuple[np.ndarray, np.ndarray]]


def pose_waves(problem: ConvolutionMinTrace, tolerance: float) -> PosedWaves:
    """The waves of a problem, on channels of lengths near 1 and of cost 1."""
    units = Units.of(problem.symbols)
    if not units.keep.any():
        zero = torch.zeros(len(units.keep), dtype=torch.float64)
        first = WavePoint(
            zero, zero, torch.zeros(1, len(zero), 1, dtype=torch.complex128), torch.zeros(1).long(), 0.0
        )
        return PosedWaves(iter([first]), first, 1.0, lambda best: best, lambda _: _zeros(problem))
    cost = units.cost(problem.cost)
    S = Symbols.of(problem.symbols, units.keep, np.ldexp(cost**0.5, -units.exponent))
    multiplicity = problem.multiplicity[:, None, None]

    def outside(best: WavePoint) -> tuple[np.ndarray, np.ndarray]:
        Y = np.zeros((len(S), len(units.keep), best.Y.shape[-1]), np.complex128)
        root = np.sqrt(problem.cost[units.keep]) * SHORT
        Y[np.ix_(best.chosen.numpy(), units.keep)] = best.Y.numpy() * root[:, None]
        return units.outside(best.t.numpy() / cost), Y / np.sqrt(multiplicity)

    unit = math.ldexp(1.0, min(units.top, 1023))
    return PosedWaves(
        wave_points(S, tolerance), begin_wave(S), unit, lambda best: best.lifted(S, tolerance), outside
    )


def _zeros(problem: ConvolutionMinTrace) -> tuple[np.ndarray, np.ndarray]:
    F, _, n = problem.symbols.shape
    return np.zeros(n), np.zeros((F, n, 1), np.complex128)
