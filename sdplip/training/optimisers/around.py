"""Optimisers around another one: its groups are theirs, and one `state_dict` holds the state of both."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sdplip.nn.abstract_scaling import precision
from sdplip.nn.manifold import as_matrices, polar, retracted
from sdplip.training.optimisers.muon import Muon

PREFIX = "around_"
"""Of the names of our own state in a `state_dict`."""


class AbstractAround(torch.optim.Optimizer, ABC):
    """A step of the optimiser `inner`, and something before and after it.

    Attributes:
        inner: whose learning rates, groups and state stay where they are.
    """

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, dict(inner.defaults))
        self.param_groups = inner.param_groups

    @abstractmethod
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step; `closure` computes the loss anew, which is returned."""

    def project(self) -> None:
        """As `Muon.project`, where `inner` is one."""
        if isinstance(self.inner, Muon):
            self.inner.project()

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        document, own = self.inner.state_dict(), super().state_dict()
        for index, values in own["state"].items():
            there = document["state"].get(index, {})
            document["state"][index] = {**there, **{PREFIX + name: value for name, value in values.items()}}
        return document

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Both go on where that state was."""
        parts: list[dict[int, dict[str, Any]]] = []
        for ours in (False, True):
            picked = {
                index: {name: value for name, value in values.items() if name.startswith(PREFIX) == ours}
                for index, values in state_dict["state"].items()
            }
            parts.append({index: values for index, values in picked.items() if values})
        self.inner.load_state_dict({**state_dict, "state": parts[0]})
        own = {
            index: {name.removeprefix(PREFIX): v for name, v in values.items()}
            for index, values in parts[1].items()
        }
        super().load_state_dict({**state_dict, "state": own})
        self.param_groups = self.inner.param_groups

    def weights(self) -> Iterator[tuple[Tensor, dict[str, Any]]]:
        """Every parameter that is trained, with its group."""
        return ((p, group) for group in self.param_groups for p in group["params"] if p.requires_grad)


def settled(weight: Tensor, group: dict[str, Any], *, exact: bool = False) -> None:
    """Bring a mean of orthogonal weights back to the manifold, in place; others stay.

    Args:
        exact: by the polar factor in double precision.
    """
    if not group.get("manifold", False):
        return
    W = as_matrices(weight, group["blocks"])
    W = polar(W) if exact else retracted(retracted(W.to(precision(weight))))
    weight.copy_(W.reshape(weight.shape))
