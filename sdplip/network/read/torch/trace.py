"""A forward pass that is written down while it runs: torch computes with numbers, and every operation on numbers that come from
the input is told to the network. What the table of operations does not know is refused, by its name and line."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sdplip.errors import InvalidWeight, RefusedModule
from sdplip.network.graph import INPUT
from sdplip.network.read.arrays import Array, start
from sdplip.network.read.torch import calls, table
from sdplip.network.read.torch.layers import Follow
from sdplip.network.read.torch.session import Trace
from sdplip.network.read.torch.shadows import Shadows, address

BATCH = 2
"""Samples with which a forward pass is followed."""

Leaf = Callable[[nn.Module, str, Array, Tensor, Follow], Array | None]
"""`(module, path, input, output that it computes, follow) -> output`: what a module that stays whole makes of an array, whose
batch stands in front; None if it is to be followed after all."""


class _Operations(TorchDispatchMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if self.trace.asleep:
            return func(*args, **kwargs)
        with self.trace.sleeping():  # what we do to look at tensors is no part of forward
            return calls.run(self.trace, func, args, kwargs)


class _Functions(TorchFunctionMode):
    """Functions of torch that are known by their name rather than by their operations, and those that leave torch."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, trace = kwargs or {}, self.trace
        if not trace.asleep and (func in table.FUNCTIONS or func in table.REFUSED):
            with trace.sleeping():
                if calls.touched(trace, (args, kwargs)):
                    if func in table.REFUSED:
                        raise trace.refuse(func.__name__, table.REFUSED[func])
                    return calls.function(trace, func, table.FUNCTIONS[func], args, kwargs)
        return func(*args, **kwargs)


def trace(
    module: nn.Module,
    x: Tensor,
    leaf: Callable[[nn.Module], Any | None],
    whole: Leaf,
) -> tuple[Array, Tensor, Trace]:
    """The array that `module` makes of `x` `(BATCH, ...)`, and the numbers that it computed.

    Args:
        leaf: what is known about a module that stays whole; None for those that are followed.
        whole: what such a module makes of an array.

    Raises:
        RefusedModule: something in forward that is not understood, with its line.
    """
    array = start(x.shape, batch_axis=0, batch=len(x))
    shadows = Shadows(array.tape)
    x = x.clone()
    shadows.write(x, array)
    owned = {
        key: name
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if (key := address(tensor)) is not None
    }
    run = Trace(array.tape, shadows, owned, sys._getframe(), _Operations)
    run.checks.note(array, x)
    with _watched(run, module, leaf, whole), torch.no_grad(), eager(), _Functions(run), _Operations(run):
        y = _called(run, module, x)
    return _output(run, y), y, run


def _called(run: Trace, module: nn.Module, x: Tensor) -> Any:
    try:
        y = module(x)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if isinstance(error, RefusedModule) or run.refused is not None:
            raise run.refused or error from error.__cause__
        raise RefusedModule(
            f"`{type(module).__name__}` cannot run on {len(x)} inputs of shape {tuple(x.shape[1:])}: {error}"
        ) from error
    if run.refused is not None:  # forward has swallowed it
        raise run.refused
    return y


def _output(run: Trace, y: Any) -> Array:
    if not isinstance(y, Tensor):
        raise RefusedModule(
            f"forward returns a {type(y).__name__}, but a bound is about one tensor. Wrap the module in one that returns the"
            " tensor it is to be about."
        )
    if not y.is_floating_point() or y.ndim < 1 or len(y) != run.tape.batch or not y.numel():
        raise RefusedModule(
            f"forward returns {y.dtype} of shape {tuple(y.shape)} for {run.tape.batch} samples. It must return one row of real"
            " numbers a sample."
        )
    with run.working("return"):
        found = calls.read(run, y, "return")
        if found is None:
            return calls.constant(run, y)
        if found.batch is None or found.batch.axis or found.batch.lead != 1:
            raise InvalidWeight("The first axis of the output is not the batch alone.")
        if found.value != INPUT and y.ndim > 1:
            run.tape.builder.reshape(found.value, tuple(y.shape[1:]))
        return found


@contextmanager
def eager() -> Iterator[None]:
    """What torch.compile compiled runs as it was written; warnings of torch stay away."""
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says about the module concerns whoever runs it
        yield


@contextmanager
def _watched(
    run: Trace, module: nn.Module, leaf: Callable[[nn.Module], Any | None], whole: Leaf
) -> Iterator[None]:
    """The names of modules are known while they run, and those that stay whole are not looked into."""
    changed = list[tuple[nn.Module, Any]]()
    try:
        for path, child in module.named_modules():
            if isinstance(child, torch.jit.ScriptModule):
                continue
            own = vars(child).get("forward")
            keep = own is None and leaf(child) is not None
            changed.append((child, own))
            vars(child)["forward"] = _wrapped(run, child, path, own or child.forward, whole if keep else None)
        yield
    finally:
        for child, own in changed:
            if own is None:
                vars(child).pop("forward", None)
            else:
                vars(child)["forward"] = own


def _wrapped(
    run: Trace, module: nn.Module, path: str, forward: Callable[..., Any], whole: Leaf | None
) -> Callable[..., Any]:
    def watched(*args: Any, **kwargs: Any) -> Any:
        run.path.append(path)
        try:
            if whole is None or len(args) != 1 or kwargs or run.asleep:
                return forward(*args, **kwargs)
            with run.sleeping():
                found = _kept(run, module, path, forward, whole, args[0])
            return forward(*args) if found is None else found
        finally:
            run.path.pop()

    return watched


def _kept(run: Trace, module: nn.Module, path: str, forward: Callable[..., Any], whole: Leaf, x: Any) -> Any:
    """What a module that stays whole computes, written down by its rule."""
    kind = type(module).__name__
    if any(torch.is_autocast_enabled(device) for device in ("cpu", "cuda")):
        return None  # which rounds the weights once more
    array = calls.read(run, x, kind) if isinstance(x, Tensor) else None
    if array is None or array.batch is None or array.batch.axis:
        return None
    with run.working(kind):
        y = forward(x)
        if not isinstance(y, Tensor):
            return None
        found = whole(module, path, array, y, _follower(run, x))
        if found is None:
            return None
        calls.made(run, found, y)
    return y


def _follower(run: Trace, like: Tensor) -> Follow:
    """Runs parts of a module on arrays of which only the numbers are known."""

    def follow(part: nn.Module, array: Array) -> Array:
        x = run.checks.tensor(run.tape, array, like)
        run.shadows.write(x, array)
        with run.sleeping(False):
            y = part(x)
        found = calls.read(run, y, type(part).__name__)
        return calls.constant(run, y) if found is None else found

    return follow


def refuse_state(module: nn.Module, before: Sequence[tuple[str, Any]]) -> None:
    """Refuses a module that is another one after its forward pass.

    Raises:
        RefusedModule: a number of it changed.
    """
    for (name, old), (_, new) in zip(before, state(module), strict=False):
        if old is not new and old != new:
            raise RefusedModule(
                f"forward changes `{name}` from {old} to {new}, so that it is another function at every call. Freeze it, or"
                " call `.eval()`."
            )


def state(module: nn.Module) -> list[tuple[str, Any]]:
    """The plain numbers and words that the modules hold."""
    return [
        (f"{path}.{key}" if path else key, value)
        for path, child in module.named_modules()
        for key, value in vars(child).items()
        if isinstance(value, bool | int | float | str)
    ]
