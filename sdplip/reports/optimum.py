"""The best `t` of a layer as an interval: what a solver proposes, proven from above and from below."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.display import brief
from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import ExpandedGeometry
from sdplip.kernel.condition import Certificate, convolution_trace_lower_bound
from sdplip.kernel.condition.convolution import image_lattice
from sdplip.reports.grid import frequency_grid
from sdplip.reports.layer import Layer
from sdplip.reports.methods import CLOSED_FORMS, Method
from sdplip.reports.numbers import log_det, trace, trace_above
from sdplip.reports.phases import GAP, solve_phased, without_stride
from sdplip.solvers import (
    AbstractSolver,
    ConvolutionMinTrace,
    MaxVolume,
    MinTrace,
    Progress,
    Solution,
    Status,
    prove,
    solve,
)
from sdplip.solvers.mixing import SMALL

Solver = AbstractSolver | Literal["auto"]
Watch = Callable[[Layer, Progress], None]


class Objective(Enum):
    """What the optimal scaling minimises; the value is the name of its row."""

    TRACE = "min_trace"
    LOG_DET = "max_volume"


@dataclass(frozen=True, eq=False)
class Optimum:
    """A certified `t` and how much better any other could be.

    Attributes:
        certificate: of `t`, scaled by the constant that the kernel proved for the solver's point.
        lower: no `t` that satisfies the condition has a smaller trace (log det); None if nothing is proven.
        gap: proven relative distance to the best trace (geometric mean of `t`); None likewise.
        status: how the solver ended.
        solver: its name.
        seconds: of solving and proving.
    """

    certificate: Certificate
    lower: float | None
    gap: float | None
    status: Status
    solver: str
    seconds: float

    __repr__ = brief("lower", "gap", "status", "solver")


def min_trace(solver: Solver = "auto", watch: Watch | None = None) -> Method:
    """The method that solves for the least trace."""
    return Method("min_trace", lambda layer: optimise(layer, solver=solver, watch=watch).certificate.t, load)


def load(layer: Layer) -> None:
    """Imports what solves for this layer, before anything is timed: small matrices need no torch."""
    if layer.is_convolution or max(layer.weight.array.shape) > SMALL:
        import torch  # noqa: F401


def optimise(
    layer: Layer,
    objective: Objective = Objective.TRACE,
    *,
    solver: Solver = "auto",
    watch: Watch | None = None,
) -> Optimum:
    """The optimal scaling of a layer, with both sides proven by the kernel.

    Args:
        watch: called with every `Progress` of the solver.

    Raises:
        UnsupportedConvolution: the largest volume of a convolution, or a geometry that no theorem covers.
        SolverUnavailable: the solver is not installed or refuses the problem.
    """
    load(layer)
    begin = time.perf_counter()
    progress = None if watch is None else (lambda step: watch(layer, step))
    propose = _convolution if layer.is_convolution else _dense
    solution, proof, lower, loading = propose(layer, objective, solver, progress)
    proofs = [proof]
    if solution.status is not Status.OPTIMAL:  # an interrupted solver may have less than a closed form
        proofs += [layer.certify(method.propose(layer), method.name) for method in CLOSED_FORMS]
    t = min(map(tightened, proofs), key=trace if objective is Objective.TRACE else log_det)
    certificate = layer.certify(t, objective.value)
    lower = lower if math.isfinite(lower) else None
    gap = None if lower is None else _gap(objective, t, lower)
    seconds = time.perf_counter() - begin - loading
    return Optimum(certificate, lower, gap, solution.status, solution.solver, seconds)


def tightened(proof: Certificate) -> Float[np.ndarray, " n"]:
    """$c^2 t$ rounded up: the least multiple of `t` that is proven to satisfy the condition."""
    return np.nextafter(up(proof.c * proof.c) * proof.t, np.inf) * (proof.t > 0)


def _dense(
    layer: Layer, objective: Objective, solver: Solver, progress: Callable[[Progress], None] | None
) -> tuple[Solution, Certificate, float, float]:
    """The solution, the certificate of its `t`, the proven lower bound, -inf if there is none, and seconds of imports."""
    problem = MinTrace(layer.W) if objective is Objective.TRACE else MaxVolume(layer.W)
    begin = time.perf_counter()
    solution = solve(problem, solver, progress=progress)
    loading = time.perf_counter() - begin - solution.seconds
    interval = prove(problem, solution)
    assert isinstance(interval.certificate, Certificate), "both problems are about t"
    return solution, interval.certificate, interval.lower, loading


def _gap(objective: Objective, t: Float[np.ndarray, " n"], lower: float) -> float:
    if objective is Objective.TRACE:
        above = trace_above(t)
        return (above - lower) / above
    return math.expm1((log_det(t) - lower) / int((t > 0).sum()))


def _convolution(
    layer: Layer, objective: Objective, solver: Solver, progress: Callable[[Progress], None] | None
) -> tuple[Solution, Certificate, float, float]:
    """The same for a convolution, solved over a grid of frequencies and proven as its geometry says."""
    if objective is not Objective.TRACE:
        raise UnsupportedConvolution("the largest volume is solved for matrices only. Minimise the trace.")
    geometry = _torus(layer)
    if layer.form == "linear" and set(geometry.stride) != {1}:
        from sdplip.solvers import InteriorPoint  # loads torch

        chosen = InteriorPoint(gap=GAP / 20) if isinstance(solver, str) else solver
        solution, t, lower = solve_phased(
            without_stride(layer.K, geometry), lambda problem: solve(problem, chosen, progress=progress)
        )
    else:
        problem = ConvolutionMinTrace.from_kernel(layer.K, geometry, form=layer.form)
        solution = solve(problem, solver, progress=progress)
        t, lower = solution.t, -math.inf
        if solution.dual is not None:
            lower = convolution_trace_lower_bound(layer.K, solution.dual, geometry, form=layer.form)
    return solution, layer.certify(t, Objective.TRACE.value), lower, 0.0


def _torus(layer: Layer) -> ExpandedGeometry:
    """The circular convolution on whose frequencies the problem is stated: those at which the kernel proves `t`.

    Where the image size is not known any grid gives a lower bound for all sizes, and `certify` covers what lies between.
    """
    geometry = layer.geometry
    size = frequency_grid(layer)
    if geometry.image_size is not None:
        lattice = image_lattice(layer.weight.array.shape[2:], geometry)
        if lattice is None:
            raise UnsupportedConvolution(f"Images of {geometry.image_size} pixels have too many frequencies.")
        size = tuple(n * s for n, s in zip(lattice, geometry.stride, strict=True))
    return replace(geometry, padding_mode="circular", padding=None, image_size=size)
