"""What a method is asked, and what it answers: a network in, proofs out. A bound is what the kernel concludes from a proof."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from sdplip.bounds.increments import Increments
from sdplip.errors import NotProvable
from sdplip.kernel.check import conclude
from sdplip.kernel.proof import Goal, Norm, Proof
from sdplip.kernel.rules.narrow import first_linear, narrowed
from sdplip.kernel.stages import Stages, stages
from sdplip.kernel.system import expand
from sdplip.network import Network
from sdplip.solvers.solution import Status

Watch = Callable[[int, float, float], object]
"""Called with iteration, upper and lower value."""


@dataclass(frozen=True, eq=False)
class Task:
    """A network to be bounded for all inputs, and what a method may use for it.

    Attributes:
        network: what is bounded.
        norm: of its output.
        watch: called by iterative methods.
        device: where torch computes.
        deadline: a time of `time.monotonic` at which iterative methods stop and give what they have.
    """

    network: Network
    norm: Norm = "l2"
    watch: Watch | None = None
    device: str = "cpu"
    deadline: float = inf

    @cached_property
    def parts(self) -> Stages:
        """The network as a chain of matrices.

        Raises:
            NotProvable: it is none, or a matrix is too large.
        """
        return stages(self.network)

    @cached_property
    def narrow(self) -> "Task | None":
        """The same with a square first matrix in place of a wide one; None where that is not wide."""
        if self.network.inputs <= self.network.length(first_linear(self.network)):
            return None
        with suppress(NotProvable):
            return self.about(narrowed(self.network))
        return None

    @cached_property
    def system(self) -> Increments:
        """The network as one system of increments.

        Raises:
            NotProvable: it is too large.
        """
        return Increments.of(expand(self.network))

    @property
    def left(self) -> float:
        """Seconds until the deadline, at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def conclude(self, proof: Proof) -> float:
        """What the kernel concludes from the proof.

        Raises:
            NotProvable: nothing.
        """
        return conclude(Goal(self.network, None, self.norm), proof)

    def about(self, network: Network) -> "Task":
        """The same of another network, all outputs."""
        return replace(self, network=network, norm="l2")

    def goes_on(self, iteration: int, upper: float, lower: float) -> bool:
        """Reports a step; False once the time is spent."""
        if self.watch is not None:
            self.watch(iteration, upper, lower)
        return time.monotonic() < self.deadline

    def pace(self) -> Callable[[int, float, float], bool]:
        """`goes_on` of steps that all take about as long, as does the proof behind them: it ends where there is no time for both."""
        last = inf  # the first step has all preparations in it

        def goes_on(iteration: int, upper: float, lower: float) -> bool:
            nonlocal last
            now = time.monotonic()
            step, last = max(0.0, now - last), now
            return self.goes_on(iteration, upper, lower) and now + 2 * step < self.deadline

        return goes_on


@dataclass(frozen=True, eq=False)
class Proven:
    """A proof and what the kernel concludes from it.

    Attributes:
        bound: the conclusion.
        proof: of the network of the task.
        method: what proposed it.
        status: how its solver ended.
        sdp_lower: a dual value: no multipliers of this method prove less. Floating point; None where there is none.
        iterations: of its solver.
    """

    bound: float
    proof: Proof
    method: str
    status: Status = Status.OPTIMAL
    sdp_lower: float | None = None
    iterations: int = 0
