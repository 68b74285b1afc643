r"""`expansion(network)`: how much a network expands at least, $\lVert f(x) - f(y) \rVert \ge \mu \lVert x - y \rVert$, proven."""

import time
from dataclasses import dataclass

import numpy as np

from sdplip.bounds.increments import Increments
from sdplip.bounds.numerics.expansion import expanding
from sdplip.display import brief
from sdplip.errors import InvalidProblem, NotProvable
from sdplip.kernel.expansion import RULE, conclude_expansion
from sdplip.kernel.proof import Proof
from sdplip.kernel.system import expand, variables
from sdplip.network import Network
from sdplip.network.jacobian import derivative, is_known

LARGEST = 1500
"""Inputs and nonlinear variables of the largest network that is tried: the method takes their third power."""


@dataclass(frozen=True, eq=False)
class Expansion:
    r"""A proven lower bound of expansion.

    Attributes:
        lower: $\mu$, the kernel's conclusion, rounded down.
        estimate: the least singular value of the Jacobians that were looked at; the largest valid $\mu$ is not above it.
        proof: for `sdplip.kernel.expansion.conclude_expansion`.
        network: what it is about.
        seconds: what it took.
    """

    lower: float
    estimate: float
    proof: Proof
    network: Network
    seconds: float

    __repr__ = brief("lower", "estimate")

    def __float__(self) -> float:
        return self.lower


def expansion(network: Network, *, samples: int = 200) -> Expansion:
    r"""The largest $\mu$ that one inequality of all increments proves, with multipliers from the interior-point method.

    It is the lower side of LipSDP: exact for the layers of bi-Lipschitz networks whose weights were built by that inequality, and 0 for a network that
    may map two inputs to one output. With as many outputs as inputs, a positive $\mu$ makes the network invertible.

    Args:
        network: any that `bound` takes by one inequality, with at least as many outputs as inputs.
        samples: random points at which Jacobians are looked at, for `estimate`.

    Raises:
        InvalidProblem: fewer outputs than inputs, which no positive number can be proven of.
        NotProvable: no positive number is proven; the network is too large for one dense inequality.
    """
    begin = time.perf_counter()
    if network.outputs < network.inputs:
        raise InvalidProblem(
            f"The network maps {network.inputs} inputs to {network.outputs} outputs, so it may map different inputs to one output. A lower"
            " bound needs at least as many outputs as inputs."
        )
    order = network.inputs + variables(network)
    if order > LARGEST:
        raise NotProvable(
            f"{order} inputs and nonlinear variables are more than the {LARGEST} of which a lower bound is tried. Use"
            " `sdplip.nn.lower_lipschitz` for networks of layers whose bounds multiply."
        )
    estimate = _least_jacobian(network, samples)
    system = Increments.of(expand(network))
    try:
        candidates = list(expanding(system))
    except np.linalg.LinAlgError:
        candidates = []
    for kappa, multipliers in candidates[:4]:
        for room in (1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
            tried = kappa * (1 - room)
            if not (np.isfinite(tried) and tried > 0):
                break
            proof = Proof(RULE, {"multipliers": multipliers, "kappa": tried})
            try:
                lower = conclude_expansion(network, proof)
            except NotProvable:
                continue
            return Expansion(lower, max(lower, estimate), proof, network, time.perf_counter() - begin)
    raise NotProvable(
        "No positive lower bound could be proven by one inequality: different inputs may have one output, or the inequality is too weak. The least"
        f" singular value of a Jacobian that was found is {estimate:.3g}."
    )


def _least_jacobian(network: Network, samples: int) -> float:
    """The least singular value of Jacobians at random points; infinity where none is known."""
    if not is_known(network):
        return np.inf
    rng = np.random.default_rng(0)
    points = (
        rng.normal(size=(samples, network.inputs)) * np.array([0.1, 1.0, 10.0])[np.arange(samples) % 3, None]
    )
    return min(float(np.linalg.svd(derivative(network, x).matrix(), compute_uv=False)[-1]) for x in points)
