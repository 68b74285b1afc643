"""Where a number that is not finite came from."""

from typing import Any

import torch
from torch import Tensor, nn


def first_not_finite(objective: nn.Module, model: nn.Module, *inputs: Any) -> str | None:
    """The layer with the first weight, output or gradient that is not finite, in the order in which they are computed; None
    if all are finite this time.

    Runs the step `objective(*inputs)` once more, forward and backward; gradients are left as they come.
    """
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            return f"the weight `{name}` holds numbers that are not finite"
    bad: list[str] = []
    hooks = [
        module.register_forward_hook(_watch(name, bad)) for name, module in model.named_modules() if name
    ]
    try:
        loss = objective(*inputs)
        if bad:
            return f"the output of layer `{bad[0]}` is not finite"
        if not loss.isfinite():
            return "the loss is not finite although all logits are"
        model.zero_grad(set_to_none=True)  # those of the step hold what other processes added
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    names = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"the gradient of `{names[-1]}` is not finite" if names else None


def _watch(name: str, bad: list[str]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
        if isinstance(output, Tensor) and not output.isfinite().all():
            bad.append(name)

    return hook


def length(gradients: list[Tensor]) -> Tensor:
    """Euclidean length of all gradients together."""
    return torch.nn.utils.get_total_norm(gradients)
