"""What a bound of a network is: a proven number with its proof, and what is known about how far it could come down."""

from dataclasses import dataclass, field
from typing import Any

from sdplip.display import brief, figure, html
from sdplip.kernel.proof import Goal, Proof
from sdplip.solvers.solution import Status


@dataclass(frozen=True)
class Tried:
    """One method of "auto": what it gave, and how long it took.

    Attributes:
        method: its name.
        bound: None where it gave none.
        seconds: wall time.
        note: why it gave none, or was left out.
    """

    method: str
    bound: float | None
    seconds: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class NetworkBound:
    """A Lipschitz bound of a network with its proof.

    Attributes:
        bound: what the kernel concludes from `proof`; no solver is trusted for it.
        lower: largest Jacobian norm that was found: the true constant is not below it (up to its own rounding).
        sdp_lower: dual value: no multipliers of this method prove less. Floating point; None where the method has none.
        method: what `bound` comes from; of "auto", the winner.
        status: how the solver ended.
        goal: what is bounded: network, region, norm.
        proof: of the goal.
        order: number of hidden neurons.
        seconds: wall time, proof included.
        iterations: of the solver.
        others: bound of every method that gave one, the winner included.
        row: the output of the largest bound, where `bound` is of the largest output alone ("linf"); None of all outputs ("l2", and
            "linf" where all at once had the least bound).
        tried: every method, in order.
        note: what the caller should know: that time was up, or an interrupt.
        lower_proven: whether `lower` is proven, rounding included, as the method "exact" does it.
        witness: a point with a Jacobian of the norm `lower`, where that is proven and some point has it.
    """

    bound: float
    lower: float
    sdp_lower: float | None
    method: str
    status: Status
    goal: Goal
    proof: Proof
    order: int
    seconds: float
    iterations: int
    others: dict[str, float]
    row: int | None = None
    tried: tuple[Tried, ...] = ()
    note: str = field(default="")
    lower_proven: bool = False
    witness: Any = None

    __repr__ = brief("bound", "lower", "method", "order", "seconds")
    _repr_html_ = html
    plot = figure

    @property
    def value(self) -> float:
        """The bound."""
        return self.bound

    @property
    def multipliers(self) -> Any:
        """Of the outermost proof that has some; None where none has."""
        proof = self.proof
        while "multipliers" not in proof.data and len(proof.parts) == 1:
            (proof,) = proof.parts
        return proof.data.get("multipliers")

    @property
    def gap(self) -> float | None:
        """`bound` minus `sdp_lower`, relative to `bound`; None without a dual value."""
        return (
            None if self.sdp_lower is None or self.bound == 0 else (self.bound - self.sdp_lower) / self.bound
        )
