"""What a solution is worth: an interval whose two ends the kernel proves."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.arithmetic.rounding import up
from sdplip.display import brief, equal, hashed, html
from sdplip.errors import InvalidProblem
from sdplip.kernel.condition import (
    Certificate,
    ResidualCertificate,
    log_det_lower_bound,
    nearest_lower_bound,
    residual_lower_bound,
    trace_lower_bound,
)
from sdplip.proposals import certify, certify_residual
from sdplip.solvers.problems import MaxVolume, MinTrace, Nearest, Problem, ResidualLMI
from sdplip.solvers.solution import Solution


@dataclass(frozen=True, eq=False)
class Interval:
    """The optimum of a problem lies in `[lower, upper]`, and `t` (or the multipliers of the certificate) attains `upper`.

    Attributes:
        upper: objective of a point that the kernel has proven feasible, rounded up.
        lower: proven from the dual point, rounded down; -inf if the solver gave none.
        t: the proven scaling; None for `ResidualLMI`.
        certificate: the proof of feasibility.
    """

    upper: float
    lower: float
    t: Float[np.ndarray, " n"] | None
    certificate: Certificate | ResidualCertificate

    __repr__ = brief("lower", "upper", "gap", "t")
    __eq__ = equal
    __hash__ = hashed
    _repr_html_ = html

    @property
    def gap(self) -> float:
        """Width of the interval relative to the larger magnitude of its ends; 0 if both are 0."""
        size = max(abs(self.upper), abs(self.lower))
        return (self.upper - self.lower) / size if size else 0.0


def prove(problem: Problem, solution: Solution) -> Interval:
    """The interval that the kernel can prove from a solver's point and dual point.

    A point that violates the condition is scaled up until it is proven feasible, so a loose solver gives a wider interval,
    never a wrong one. Convolutions are certified from their kernel: `certify_convolution` and `convolution_trace_lower_bound`.

    Raises:
        NotProvable: no multiple of the point could be proven.
        InvalidProblem: a `ConvolutionMinTrace`, which holds floating-point symbols instead of the kernel.
    """
    dual = solution.dual
    match problem:
        case ResidualLMI():
            return _residual(problem, solution)
        case MinTrace():
            t, proof = _feasible(problem, solution)
            upper = _sum_above(problem.cost * t)
            lower = -math.inf if dual is None else trace_lower_bound(problem.W, dual, problem.cost)
        case MaxVolume():
            t, proof = _feasible(problem, solution)
            logs = np.log(t[t > 0])
            upper = _sum_above(logs) + 2.0**-44 * math.fsum(abs(logs) + 1)
            lower = -math.inf if dual is None else log_det_lower_bound(problem.W, dual)
        case Nearest():
            t, proof = _feasible(problem, solution)
            upper = _sum_above(problem.weight * (abs(t - problem.target) * (1 + 2.0**-50)) ** 2)
            lower = (
                0.0 if dual is None else nearest_lower_bound(problem.W, dual, problem.target, problem.weight)
            )
        case _:
            raise InvalidProblem(
                "`prove` needs a matrix. Certify a convolution from its kernel: `certify_convolution`."
            )
    return Interval(upper, lower, t, proof)


def _feasible(
    problem: MinTrace | MaxVolume | Nearest, solution: Solution
) -> tuple[Float[np.ndarray, " n"], Certificate]:
    start = _top_vectors(problem, solution)
    proof = certify(problem.W, solution.t, scaling=solution.solver, start=start)
    return proof.proven_t, proof


def _top_vectors(
    problem: MinTrace | MaxVolume | Nearest, solution: Solution
) -> Float[np.ndarray, "n r"] | None:
    r"""What spans the top eigenvectors of $T^{-1/2} W^\top W T^{-1/2}$ at the optimum, where the dual point has low rank."""
    dual = solution.dual
    if dual is None or not 0 < dual.shape[1] <= min(problem.W.shape) // 4:
        return None
    root = np.sqrt(np.maximum(solution.t, 0))[:, None]
    if isinstance(problem, MaxVolume):
        return (problem.W.T @ dual) / np.where(root > 0, root, 1)
    return root * dual


def _residual(problem: ResidualLMI, solution: Solution) -> Interval:
    if solution.multipliers is None:
        raise InvalidProblem(
            "The solution has no multipliers, so nothing can be proven from it. Use another solver."
        )
    slopes = (problem.alpha, problem.beta)
    proof = certify_residual(problem.H, problem.G, problem.W, solution.multipliers, slopes)
    dual = solution.dual
    lower = 0.0 if dual is None else residual_lower_bound(problem.H, problem.G, problem.W, dual, slopes)
    return Interval(proof.gamma, lower, None, proof)


def _sum_above(terms: Float[np.ndarray, " n"]) -> float:
    """The sum of terms that carry one or two roundings each, rounded up."""
    return up(math.fsum(terms.tolist()) + 4 * 2.0**-53 * math.fsum(abs(terms).tolist()))
