"""Lookahead: fast weights explore, slow ones follow half of the way."""

from collections.abc import Callable
from typing import Any

import torch

from sdplip.errors import InvalidConfig
from sdplip.training.optimisers.around import AbstractAround, settled


class Lookahead(AbstractAround):
    r"""After every `period` steps of `inner` the slow weights move, $s \leftarrow s + \alpha (w - s)$, and $w \leftarrow s$ (Zhang et al. 2019).

    Orthogonal weights return to the manifold each time, as in LipNeXt's manifold lookahead.

    Args:
        inner: any optimiser of torch, or `Muon`.
        period: steps of the fast weights.
        share: $\alpha$, in (0, 1].

    Raises:
        InvalidConfig: a period below 1, or another share.
    """

    def __init__(self, inner: torch.optim.Optimizer, period: int = 6, share: float = 0.5) -> None:
        if period < 1 or not 0 < share <= 1:
            raise InvalidConfig(
                f"`period` must be at least 1 and `share` lie in (0, 1], but they are {period} and {share}."
            )
        super().__init__(inner)
        self.period, self.share = period, share

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        for w, _ in self.weights():
            if w not in self.state:
                self.state[w] = {"slow": w.clone(), "taken": 0}
        loss = self.inner.step(closure) if closure is not None else self.inner.step()
        for w, group in self.weights():
            state = self.state[w]
            state["taken"] += 1
            if state["taken"] % self.period == 0:
                settled(state["slow"].lerp_(w, self.share), group)
                w.copy_(state["slow"])
        return loss
