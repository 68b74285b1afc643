"""Schedule-free training: a mean of the weights in place of a falling learning rate."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sdplip.errors import InvalidConfig
from sdplip.training.optimisers.around import AbstractAround, settled
from sdplip.training.optimisers.muon import evaluated


class ScheduleFree(AbstractAround):
    r"""Gradients at $y = (1 - \beta) z + \beta x$, steps of `inner` at $z$, and $x$ the mean of all $z$ (Defazio et al. 2024).

    The learning rate stays constant (after a warm-up, whose steps count in the mean by the squares of their rates). The parameters hold
    $y$ between steps and $x$, the result, within `averaged()`. Orthogonal weights: all three are brought back to the manifold.

    Args:
        inner: without momentum of its own, which $\beta$ replaces.
        beta: $\beta$, in [0, 1).

    Raises:
        InvalidConfig: another $\beta$.
    """

    def __init__(self, inner: torch.optim.Optimizer, beta: float = 0.9) -> None:
        if not 0 <= beta < 1:
            raise InvalidConfig(f"`beta` must lie in [0, 1), but is {beta}.")
        super().__init__(inner)
        self.beta = beta

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = evaluated(closure)
        for y, _ in self.weights():
            if y not in self.state:
                self.state[y] = {"z": y.clone(), "x": y.clone(), "total": 0.0}
            y.copy_(self.state[y]["z"])
        self.inner.step()
        for y, group in self.weights():
            state, square = self.state[y], float(group["lr"]) ** 2
            state["z"].copy_(y)
            state["total"] += square
            if square:
                settled(state["x"].lerp_(y, square / state["total"]), group)
            settled(y.lerp_(state["x"], self.beta), group)
        return loss

    @torch.no_grad()
    def project(self) -> None:
        """The means and the weights of the steps become exactly orthogonal, where they are to be."""
        super().project()
        for y, group in self.weights():
            for name in ("x", "z"):
                if y in self.state:
                    settled(self.state[y][name], group, exact=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A block in which the parameters are $x$: to validate and to save them."""
        kept = [(y, y.detach().clone()) for y, _ in self.weights() if y in self.state]
        with torch.no_grad():
            for y, _ in kept:
                y.copy_(self.state[y]["x"])
        try:
            yield
        finally:
            with torch.no_grad():
                for y, old in kept:
                    y.copy_(old)
