"""Whether a module is one function: at every call, on batches of every size, with gradients or without."""

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.errors import RefusedModule
from sdplip.network.read.torch import trace
from sdplip.network.read.torch.agreement import Checks
from sdplip.network.read.torch.shadows import numbers_of
from sdplip.shapes import Float

Shape = tuple[int, ...]
RUNS = ((1, False), (3, True), (3, False), (1, True), (1, False))
"""Batches and modes of gradients."""


def compare(
    module: nn.Module,
    expected: Callable[[Tensor], Float[np.ndarray, "batch n"]],
    shape: Shape,
    out: Shape,
    checks: Checks,
) -> None:
    """Runs the module on batches of other sizes, with and without gradients, beside what is expected of it.

    Raises:
        RefusedModule: they differ by more than rounding.
    """
    like, known = floating(module, shape), dict[int, tuple[Tensor, Float[np.ndarray, "batch n"]]]()
    for batch, gradients in RUNS:
        if batch not in known:
            x = inputs(batch, shape, like, seed=batch)
            known[batch] = x, expected(x)
        x, understood = known[batch]
        y = run(module, x, gradients)
        if not isinstance(y, Tensor) or tuple(y.shape) != (batch, *out):
            raise RefusedModule(
                f"`{type(module).__name__}` returns {batch} samples in the shape {tuple(getattr(y, 'shape', ()))}, not"
                f" {(batch, *out)}. Its outputs must be one row a sample."
            )
        computed = numbers_of(y).reshape(batch, -1)
        size = float(abs(understood[np.isfinite(understood)]).max(initial=0.0))
        allowed = checks.unit**0.75 * max(size, 2.0**-500) + 2.0**12 * checks.unit * checks.largest
        bad = ~(abs(understood - computed) <= allowed) & np.isfinite(understood)
        if bad.any():
            raise RefusedModule(
                f"`{type(module).__name__}` computes {computed[bad][0]:.9g} where {understood[bad][0]:.9g} is expected of it, on"
                f" {batch} samples {'with' if gradients else 'without'} gradients. Something in it changes from call to call, or"
                " with the size of the batch, or with the mode of gradients."
            )


def one_by_one(module: nn.Module) -> Callable[[Tensor], Float[np.ndarray, "batch n"]]:
    """What the module computes of each sample alone."""

    def expected(x: Tensor) -> Float[np.ndarray, "batch n"]:
        return np.concatenate([numbers_of(run(module, row, False)).reshape(1, -1) for row in x.split(1)])

    return expected


def run(module: nn.Module, x: Tensor, gradients: bool) -> Tensor:
    """The output, where `gradients` of an input that needs them, if the module can do that.

    Raises:
        RefusedModule: the module cannot run.
    """
    with trace.eager(), torch.set_grad_enabled(gradients):
        if gradients:
            with suppress(RuntimeError):  # operations without a gradient
                return module(x.clone().requires_grad_().clone())
        try:
            return module(x.clone())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise RefusedModule(
                f"`{type(module).__name__}` runs on {trace.BATCH} samples, but not on {len(x)}: {error}"
            ) from error


def inputs(batch: int, shape: Shape, like: Tensor, seed: int) -> Tensor:
    """Random samples, the same ones at every call; the generators of torch are left alone."""
    numbers = np.random.default_rng(seed).standard_normal((batch, *shape))
    return torch.from_numpy(np.asarray(numbers)).to(like.device, like.dtype)


def floating(module: nn.Module, shape: Shape) -> Tensor:
    """A tensor of the kind that the module computes with: its first floating one. Without any, double precision or torch's
    default, whichever it runs in.

    Raises:
        RefusedModule: weights without numbers.
    """
    tensors = (*module.parameters(), *module.buffers())
    for tensor in tensors:
        if torch.nn.parameter.is_lazy(tensor):
            raise RefusedModule("A weight has no shape yet. Run the module once on an input.")
        if tensor.is_meta:
            raise RefusedModule("The weights are on the meta device and hold no numbers. Load them first.")
    for tensor in tensors:
        if tensor.is_floating_point():
            return torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    double = torch.empty(0, dtype=torch.float64)
    try:
        run(module, inputs(trace.BATCH, shape, double, 0), False)
    except RefusedModule:
        return torch.empty(0)
    return double
