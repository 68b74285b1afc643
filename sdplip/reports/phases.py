r"""The optimum of a strided convolution in the linear form, where one $t_i$ must serve every phase of channel $i$.

A stride splits input channel $i$ into phases $\varphi$ (pixels modulo the stride), and $C^\top C \preceq T$ becomes a condition
of stride 1 on all (channel, phase) pairs. With prices $c_{i\varphi} \ge 0$ of sum at most 1 in each channel, every such $t$
has $\sum_i t_i \ge \sum_{i\varphi} c_{i\varphi} t_i \ge \min c \cdot t'$ over one $t'$ a pair, and $\max_\varphi t'_{i\varphi}$
is feasible. Prices that rise where $t'$ is large bring the two together (Lagrangian duality); a few rounds are enough.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from sdplip.convolution.kernels import polyphase
from sdplip.convolution.layout import layout
from sdplip.geometry import Geometry
from sdplip.kernel.condition import convolution_trace_lower_bound
from sdplip.solvers import ConvolutionMinTrace, Solution

ROUNDS, GAP = 12, 2e-3
"""Prices are set anew at most so often, and until the relative gap is this small."""


@dataclass(frozen=True, eq=False)
class Phased:
    """The same convolution with stride 1: channels are (channel, phase) pairs, channel first."""

    K: Float[np.ndarray, "out channels_times_phases *taps"]
    geometry: Geometry
    phases: int


def without_stride(K: Float[np.ndarray, "out channels *taps"], geometry: Geometry) -> Phased:
    """The polyphase form of a strided convolution whose image size is known; `geometry` is expanded."""
    axes = layout(K, geometry).stationary
    P = polyphase(K, axes)
    size = tuple(-(-h // s) for h, s in zip(axes.image_size or (), axes.stride, strict=True))
    mode = "circular" if axes.circular else "zeros"
    moved = Geometry(padding_mode=mode, groups=axes.groups, image_size=size)
    return Phased(P.reshape(-1, *P.shape[2:]), moved, P.shape[2] // K.shape[1])


def solve_phased(
    layer: Phased, solve: Callable[[ConvolutionMinTrace], Solution]
) -> tuple[Solution, Float[np.ndarray, " channels"], float]:
    """The last solution, the best `t` a channel, and the best proven lower bound of its trace."""
    n = layer.K.shape[1] * layer.geometry.groups
    prices = np.ones((n // layer.phases, layer.phases))
    best, lower, rounds = np.full(len(prices), np.inf), -np.inf, 0
    while True:
        cost = prices / prices.sum(-1, keepdims=True) + 1e-6
        cost = cost / cost.sum(-1, keepdims=True) * (1 - 2.0**-48)  # so that each row has a sum below 1
        solution = solve(ConvolutionMinTrace.from_kernel(layer.K, layer.geometry, cost=cost.reshape(-1)))
        t, dual = solution.t.reshape(cost.shape), solution.dual
        best, rounds = min(best, t.max(-1), key=np.sum), rounds + 1
        if dual is None:
            return solution, best, lower
        proven = convolution_trace_lower_bound(layer.K, dual, layer.geometry, cost=cost.reshape(-1))
        lower = max(lower, proven)
        unfinished = solution.objective - proven > GAP * solution.objective  # interrupted, or out of time
        if unfinished or rounds == ROUNDS or best.sum() - lower <= GAP * best.sum():
            return solution, best, lower
        mean = t.mean(-1, keepdims=True)
        prices = cost * np.where(mean > 0, t / np.where(mean > 0, mean, 1), 1) ** 2
