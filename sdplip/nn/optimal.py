r"""The SDP's own scaling in training: the optimum of a while ago, times a bound of what the steps since then changed."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sdplip import scalings
from sdplip.condition import rescale
from sdplip.errors import UnsupportedConvolution
from sdplip.geometry import Geometry
from sdplip.nn.abstract_scaling import AbstractScaling
from sdplip.solvers import MinTrace, MixingThenInteriorPoint, Status, solve


class Optimal(AbstractScaling):
    r"""$t = s\, t^*$ with $s \ge \lVert W T^{*-1/2} \rVert_2^2$, where $t^*$ has the least trace for an earlier weight.

    Valid at every step and whatever $t^*$ is: $s\,T^* \succeq W^\top W$ says what $s$ is. Right after a solution $s \approx 1$.
    For dense layers alone. The gradient sees $s$ only, through all singular vectors near the
    top: at an optimum there are several.

    Args:
        every: training steps from one solution of $\min \sum_i t_i$, $W^\top W \preceq \mathrm{diag}(t)$, to the next.
        iterations: of the Gram iteration for $s$.

    Attributes:
        optimum: $t^*$, a buffer; all ones before the first solution, which is CPL.
        steps: training steps so far, a buffer, so that a resumed run solves where the undisturbed one does.
    """

    optimum: Tensor
    steps: Tensor

    def __init__(self, *, every: int = 100, iterations: int = 5) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be a whole number of at least 1, but is {every}.")
        self.every = every
        self.iterations = iterations

    def extra_parameters(self, n: int, weight: Tensor) -> None:
        self.register_buffer("optimum", weight.new_ones(n))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=weight.device))

    def _drop(self) -> None:
        """Forget the number of steps too: it is kept beside the buffer, since the host would wait to read that at every step."""
        super()._drop()
        self._done: int | None = None

    def compute(self, weight: Tensor) -> Float[Tensor, " n"]:
        if self.geometry is None:
            self._advance((weight.mT if self.form == "residual" else weight).detach())  # pyright: ignore[reportCallIssue, reportArgumentType]
        return super().compute(weight)

    def dense(self, W: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:
        return _stretched(W, self.optimum.to(W.dtype), self.iterations)

    def options(self) -> tuple:
        return (self.iterations,)

    def matrices(
        self, W: Float[Tensor, "layers m n"], scalings: Sequence[AbstractScaling]
    ) -> Float[Tensor, "layers n"]:
        optima = []
        for scaling, own in zip(scalings, W.detach(), strict=True):
            assert isinstance(scaling, Optimal)
            scaling._advance(own)  # pyright: ignore[reportCallIssue, reportArgumentType]
            optima.append(scaling.optimum)
        return _stretched(W, torch.stack(optima).to(W.dtype), self.iterations)

    def convolution(self, K: Tensor, geometry: Geometry) -> Tensor:  # noqa: ARG002
        raise UnsupportedConvolution(
            "The optimal scaling is for dense layers, since one SDP a step is too dear for convolutions. Use `MultiStep(4)` or"
            " `Spectral()` there, and `sdplip scale` after training."
        )

    @torch.compiler.disable  # the solver counts with NumPy: a compiled network leaves its graph here
    def _advance(self, W: Float[Tensor, "m n"]) -> None:
        """Count a step of training, and solve if one is due."""
        if not (self.training and torch.is_grad_enabled()):
            return
        if self._done is None:
            self._done = int(self.steps)
        if self._done % self.every == 0:
            self._solve(W)
        self.steps += 1
        self._done += 1

    def _solve(self, W: Float[Tensor, "m n"]) -> None:
        """Replace the optimum, unless the solver failed: any positive vector is valid."""
        solution = solve(MinTrace(W.double().cpu().numpy()), MixingThenInteriorPoint(gap=1e-4))
        if solution.status is Status.OPTIMAL and bool((solution.t > 0).all()):
            self.optimum.copy_(torch.as_tensor(solution.t))


def _stretched(
    W: Float[Tensor, "*layers m n"], t: Float[Tensor, "*layers n"], iterations: int
) -> Float[Tensor, "*layers n"]:
    """The least multiple of `t`, nearly, that is a scaling of `W`."""
    return t * scalings.spectral(rescale(W, t), iterations)
