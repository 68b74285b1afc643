r"""LipSDP: the best multipliers of all neurons at once (Neuron), or one for each layer (Layer), by interior point.

Fazlyab et al., NeurIPS 2019. The coupled multipliers of "LipSDP-Network" are refused: they bound differences of increments of two
neurons, which different secant slopes produce, and prove 1 for $W_1 = [[-2, 3], [-2, 2]]$, $W_2 = [-1, 1]$, whose
constant is $\sqrt{13}$.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch

from sdplip.bounds.numerics.barrier import central
from sdplip.bounds.numerics.blocks import Blocks
from sdplip.bounds.numerics.chain import FEW_LAYERS, Chain, Proposal, is_shallow
from sdplip.bounds.numerics.interior import Iterate, iterates
from sdplip.bounds.numerics.riccati import gain, metric_after, riccati
from sdplip.bounds.numerics.shallow import Shallow
from sdplip.bounds.numerics.whole import quicker
from sdplip.errors import InvalidProblem
from sdplip.solvers.solution import Status

GoesOn = Callable[[int, float, float], bool]
NARROW = 1e-4
"""Slope intervals are widened to this length: a neuron of one slope has multipliers without bound."""
MOST_STEPS = 55
"""Of the barrier method, after which the other one goes on; it usually takes 25 to 45."""
NEARLY = 1e-6
"""Relative gap of the squared bound below which a method that can go no further is called optimal."""
LARGE, WIDE = 1500, 1e-5
"""Neurons from which on both methods end at this relative gap of the squared bound, if the one that is asked for is smaller."""


@dataclass(frozen=True)
class LipSDP:
    """The interior-point method with its options.

    Attributes:
        form: "neuron" or "layer"; "network" is refused.
        gap: relative gap of the squared bound at which the method stops.
        max_iterations: at which it stops in any case.
        device: where torch computes.
        barrier: whether wide chains of few layers have the barrier method.
    """

    form: Literal["neuron", "layer", "network"] = "neuron"
    gap: float = 1e-8
    max_iterations: int = 80
    device: str = "cpu"
    barrier: bool = True

    @property
    def name(self) -> str:
        return f"lipsdp-{self.form}"

    def __call__(self, chain: Chain, goes_on: GoesOn | None = None) -> Proposal:
        """Proposed multipliers; `goes_on` receives iteration, upper and lower value, and says whether to go on.

        Raises:
            InvalidProblem: the coupled multipliers were asked for.
        """
        if self.form == "network":
            raise InvalidProblem(
                "LipSDP-Network is not a bound: with coupled multipliers it returns 1 for W1 = [[-2, 3], [-2, 2]], W2 = [-1, 1],"
                " whose Lipschitz constant is sqrt(13). Use the form 'neuron'."
            )
        slopes = tuple(map(_widened, chain.slopes))
        if not chain.slopes:
            return Proposal(())
        scaled = _Scaled.of(chain.weights, slopes, self.device)
        groups = _groups(scaled.blocks) if self.form == "layer" else None
        widths = [*scaled.blocks.sizes, len(scaled.blocks.weights[-1])]
        shallow = self.barrier and groups is None and scaled.blocks.relu and is_shallow(widths)
        gap = max(self.gap, WIDE) if chain.order >= LARGE and len(chain.slopes) <= FEW_LAYERS else self.gap
        best = least = None
        status, iterations = Status.FAILED, 0
        for iterations, point in enumerate(_points(scaled, groups, shallow, gap), 1):
            rests = best is not None and abs(point.gap) > 0.9 * abs(best.gap) and abs(point.gap) < 1e-5
            stalled = rests and not shallow  # the barrier method ends by itself
            best = point if best is None or abs(point.gap) < abs(best.gap) else best
            least = point if least is None or point.y[0] < least.y[0] else least
            ends = (scaled.size * float(v) ** 0.5 for v in (point.y[0], max(point.lower, 0.0)))
            more = goes_on is None or goes_on(iterations, *ends)
            status = _status(point, gap, iterations >= self.max_iterations, stalled)
            if status is not Status.FAILED:
                break
            if not more:
                status = Status.STOPPED
                break
        if best is None or least is None:
            return Proposal(scaled.multipliers(scaled.start), NARROW, Status.FAILED)
        if status is Status.FAILED:
            status = Status.OPTIMAL if abs(best.gap) < NEARLY else Status.INACCURATE
        lower = scaled.size * max(best.lower, 0.0) ** 0.5
        used = least if status is Status.STOPPED else best
        return Proposal(scaled.multipliers(used.y), NARROW, status, lower, iterations)


def _points(scaled: "_Scaled", groups: torch.Tensor | None, shallow: bool, gap: float) -> Iterator[Iterate]:
    """Points of the quicker method; where the barrier breaks down far from the optimum the other one goes on from its last."""
    y, left = scaled.start, 1.0
    for point in islice(central(Shallow(scaled.blocks), y, gap), MOST_STEPS) if shallow else ():
        y, left = point.y, point.gap
        yield point
    if left > NEARLY:
        yield from iterates(quicker(scaled.blocks), y, groups)


def _status(point: Iterate, gap: float, over: bool, stalled: bool) -> Status:
    """FAILED means: not ended yet."""
    if abs(point.gap) <= gap or (stalled and abs(point.gap) < NEARLY):
        return Status.OPTIMAL
    if stalled:
        return Status.INACCURATE
    return Status.STOPPED if over else Status.FAILED


def _widened(slopes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    alpha, beta = slopes
    return alpha, np.maximum(beta, alpha + NARROW)


def _groups(blocks: Blocks) -> torch.Tensor:
    sizes = torch.tensor([1, *blocks.sizes[1:]])
    return torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(blocks.alpha.device)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """The problem of order one: every weight of norm 1, a wide first and a tall last one replaced by triangular factors."""

    blocks: Blocks
    start: torch.Tensor
    norms: list[float]

    @staticmethod
    def of(
        weights: tuple[np.ndarray, ...], slopes: tuple[tuple[np.ndarray, np.ndarray], ...], device: str
    ) -> "_Scaled":
        norms = [float(np.linalg.norm(W, 2)) for W in weights]
        Ws = [W / norm for W, norm in zip(weights, norms, strict=True)]
        if Ws[0].shape[1] > Ws[0].shape[0]:
            Ws[0] = np.linalg.qr(Ws[0].T)[1].T
        if Ws[-1].shape[0] > Ws[-1].shape[1]:
            Ws[-1] = np.linalg.qr(Ws[-1])[1]
        start = _start(Chain(tuple(Ws), slopes))

        def there(v: np.ndarray) -> torch.Tensor:
            return torch.tensor(np.ascontiguousarray(v), dtype=torch.float64, device=device)

        alpha, beta = (there(np.concatenate([pair[side] for pair in slopes])) for side in (0, 1))
        return _Scaled(Blocks([there(W) for W in Ws], alpha, beta), there(start), norms)

    @property
    def size(self) -> float:
        """Product of the norms that were divided out."""
        return float(np.prod(self.norms))

    def multipliers(self, y: torch.Tensor) -> tuple[np.ndarray, ...]:
        r"""From the inequality with rho to the normalisation $X_0 = I$ of the weights as given."""
        lam = (2 * y[1:] / y[0]).cpu()
        squares = np.cumprod(np.square(self.norms[:-1]))
        return tuple(v.numpy() / s for v, s in zip(self.blocks.layers(lam), squares, strict=True))


def _start(chain: Chain) -> np.ndarray:
    """A strictly feasible (rho, lambda), from the spectral Riccati recursion with a little room in every layer."""
    X, kept = np.eye(chain.weights[0].shape[1]), []
    for k, (alpha, beta) in enumerate(chain.slopes):
        rest = Chain(chain.weights[k : k + 2], chain.slopes[k : k + 1])
        root = np.linalg.cholesky(X)
        inner = Chain((np.linalg.solve(root, rest.weights[0].T).T, rest.weights[1]), rest.slopes)
        lam = riccati(inner).multipliers[0] / 1.01
        after = metric_after(X, chain.weights[k], lam, alpha, beta)
        while after is None:
            lam = lam / 2
            after = metric_after(X, chain.weights[k], lam, alpha, beta)
        kept.append(lam)
        X = after
    rho = 1.1 * gain(X, chain.weights[-1])
    return np.concatenate([[rho], *(rho / 2 * lam for lam in kept)])
