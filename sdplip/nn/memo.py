r"""Values that depend on weights only, kept for as long as these weights stay as they are."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Compute = Callable[..., Tensor]


class Memo:
    r"""The value of a function of tensors, computed once for each state of the tensors.

    A state is the tensor object, its version counter, and its memory (which is kept alive, so an address is never reused).
    Every way of changing a parameter that PyTorch records is therefore seen: optimiser steps, assignments, `load_state_dict`,
    moves of device or dtype, `p.data = ...`. In-place changes through `p.data` are the one thing that PyTorch does not record;
    call `eval()` again after them. Copies and pickles of a memo are empty.
    """

    def __init__(self) -> None:
        self._entry: tuple[list[tuple], Tensor] | None = None

    def __call__(self, compute: Compute, *tensors: Tensor) -> Tensor:
        """`compute(*tensors)`. Its gradient is right too: the value is known, the gradient computes it again."""
        state = _state(tensors)
        if state is None:
            return compute(*tensors)
        entry = self._entry
        if entry is None or not _same(entry[0], state):
            with torch.inference_mode(False), torch.no_grad():
                entry = (state, compute(*tensors))
            if _state(entry[1:]) is None:  # inside a function transform: its tensors end with it
                return compute(*tensors)
            self._entry = entry
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
            return _Known.apply(compute, entry[1], *tensors)
        return entry[1]

    def drop(self) -> None:
        """Forget the value."""
        self._entry = None

    def __reduce__(self) -> tuple[type["Memo"], tuple[()]]:
        return Memo, ()


class _Known(torch.autograd.Function):
    """A function whose value is known already. Backward evaluates it once more, to differentiate it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(compute: Compute, value: Tensor, *tensors: Tensor) -> Tensor:  # noqa: ARG004
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:  # noqa: ARG004
        ctx.compute = inputs[0]
        ctx.save_for_backward(*inputs[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        again = torch.is_grad_enabled()
        wanted = [i for i, needed in enumerate(ctx.needs_input_grad[2:]) if needed]
        with torch.enable_grad():
            tensors = ctx.saved_tensors
            value = ctx.compute(*tensors)
            found = torch.autograd.grad(
                value, [tensors[i] for i in wanted], gradient, create_graph=again, allow_unused=True
            )
        gradients: list[Tensor | None] = [None] * (2 + len(tensors))
        for i, g in zip(wanted, found, strict=True):
            gradients[2 + i] = g
        return tuple(gradients)


def _state(tensors: tuple[Tensor, ...]) -> list[tuple] | None:
    """What must stay equal; None for tensors without memory of their own (function transforms, inference mode)."""
    if any(tensor.is_inference() for tensor in tensors):
        return None
    try:
        return [(t, t._version, t.data_ptr(), t.dtype, t.device, t.detach()) for t in tensors]
    except RuntimeError:  # "Cannot access data pointer of Tensor that doesn't have storage"
        return None


def _same(kept: list[tuple], now: list[tuple]) -> bool:
    return len(kept) == len(now) and all(
        a[0] is b[0] and a[1:5] == b[1:5] for a, b in zip(kept, now, strict=True)
    )
