"""One operation of torch: it runs, and what it did to shadows is written down by the rule that the table has for it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from sdplip.errors import InvalidWeight
from sdplip.network.operators import Diagonal, Gather
from sdplip.network.read.arrays import Array, Batch, person, share
from sdplip.network.read.torch import table
from sdplip.network.read.torch.session import Trace
from sdplip.network.read.torch.shadows import address, numbers_of


def run(trace: Trace, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What `func` computes; its shadow is written down.

    Raises:
        RefusedModule: an operation on numbers that come from the input which is not in the table; randomness; a change of the
            module itself.
    """
    name = func._schema.name.partition("::")[2]
    _refuse_changes(trace, func, name, args, kwargs)
    if not touched(trace, (args, kwargs)):
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise trace.refuse(
                name,
                "it draws random numbers, so that the network is another one at every call. Call `.eval()` first, or take the"
                " randomness out.",
            )
        return func(*args, **kwargs)
    base = name.rstrip("_") if _writes(func) else name
    if name in table.FORGET or (base in table.PLACES and _writes(func)):
        return func(*args, **kwargs)
    if _is_view(func):
        return _view(trace, func, name, args, kwargs)
    if base in table.MOVES:
        return _moved(trace, func, name, args, kwargs)
    rule = table.RULES.get(base)
    if rule is None:
        found = _decomposed(trace, func, args, kwargs)
        if found is not NotImplemented:
            return found
        raise trace.refuse(name, table.REASONS.get(base, table.UNKNOWN))
    with trace.working(name):
        given = {key: _given(trace, value, name) for key, value in _bound(func, args, kwargs)}
        out = func(*args, **kwargs)
        if any(_has_array(value) for value in given.values()):
            _write_down(trace, name, rule(table.Call(trace.tape, base, given, out)), out)
        elif _writes(func):  # constants in a storage that has a shadow
            trace.shadows.write(out, trace.shadows.constant_codes(out))
    return out


def function(trace: Trace, func: Any, rule: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """What a function of torch computes that is known by its name."""
    name = func.__name__
    with trace.working(name):
        given = [_given(trace, value, name) for value in args]
        words = {key: _given(trace, value, name) for key, value in kwargs.items()}
        out = func(*args, **kwargs)
        if any(_has_array(value) for value in (*given, *words.values())):
            _write_down(trace, name, rule(trace.tape, *given, **words), out)
    return out


def made(trace: Trace, array: Array, out: Tensor) -> None:
    """Says that `out` holds `array`, after a look at its numbers."""
    if array.full != tuple(out.shape):
        raise InvalidWeight(
            f"Torch computes an array of shape {tuple(out.shape)}, but it was understood as {array.full}."
        )
    trace.checks.check(trace.tape, array, out)
    trace.shadows.write(out, array)


def touched(trace: Trace, what: Any) -> bool:
    """Whether any tensor in it may come from the input."""
    return any(trace.shadows.knows(tensor) or address(tensor) in trace.poisoned for tensor in _tensors(what))


def read(trace: Trace, tensor: Tensor, name: str) -> Array | None:
    """The array that a tensor holds, None of constants.

    Raises:
        RefusedModule: positions of maxima and their kind.
    """
    key = address(tensor)
    if key in trace.poisoned:
        raise trace.refuse(
            name, f"it uses what `{trace.poisoned[key][1]}` found, which depends on the input and jumps."
        )
    array = trace.shadows.read(tensor)
    if array is not None:
        trace.checks.untouched(trace.tape, array, tensor)
    return array


def constant(trace: Trace, y: Tensor) -> Array:
    """An array of constants, as a value of the network: nothing of the input, and a shift."""
    shape = (1, *y.shape[1:])
    like = Array(trace.tape, 0, shape, Batch(0))
    b = share(like, numbers_of(y)).reshape(-1)
    at = person(shape, like.batch)
    value = trace.tape.add(Gather(np.full(len(b), -1), trace.tape.length(0)), 0, shape=at)
    value = trace.tape.add(Diagonal(np.ones(len(b)), b), value, shape=at)
    return Array(trace.tape, value, shape, like.batch)


def _tensors(what: Any) -> Iterator[Tensor]:
    if isinstance(what, Tensor):
        yield what
    elif isinstance(what, tuple | list):
        for part in what:
            yield from _tensors(part)
    elif isinstance(what, dict):
        for part in what.values():
            yield from _tensors(part)


def _bound(func: Any, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arguments by the names of the schema, defaults filled in; `self` is called `x`."""
    for k, argument in enumerate(func._schema.arguments):
        key = "x" if argument.name == "self" else argument.name
        if k < len(args) and not argument.kwarg_only:
            yield key, args[k]
        elif argument.name in kwargs:
            yield key, kwargs[argument.name]
        else:
            yield key, argument.default_value if argument.has_default_value() else None


def _given(trace: Trace, value: Any, name: str) -> Any:
    """An argument as rules see it: arrays, constants as NumPy arrays, and anything else."""
    if isinstance(value, Tensor):
        array = read(trace, value, name)
        if array is None:
            if value.is_floating_point() or value.layout is not torch.strided:
                return numbers_of(value)
            return value.detach().cpu().numpy()
        return array
    if isinstance(value, tuple | list):
        return [_given(trace, part, name) for part in value]
    return value


def _has_array(value: Any) -> bool:
    return isinstance(value, Array) or (isinstance(value, list) and any(map(_has_array, value)))


def _write_down(trace: Trace, name: str, found: Any, out: Any) -> None:
    """The shadows of what an operation returns: arrays, positions that nobody may use, or nothing."""
    if isinstance(out, Tensor):
        found, out = (found,), (out,)
    for array, tensor in zip(found, out, strict=True):
        if array is table.POSITIONS:
            if (key := address(tensor)) is not None:
                trace.poisoned[key] = (StorageWeakRef(tensor.untyped_storage()), name)
        elif isinstance(array, Array):
            made(trace, array, tensor)


def _refuse_changes(trace: Trace, func: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
    """What a module holds must stay as it is."""
    if not _writes(func) or name in table.PLACES:
        return
    for argument, (_, value) in zip(func._schema.arguments, _bound(func, args, kwargs), strict=True):
        if argument.alias_info is not None and argument.alias_info.is_write:
            for tensor in _tensors(value):
                if (owned := trace.owned.get(address(tensor) or -1)) is not None:
                    raise trace.refuse(
                        name,
                        f"it changes `{owned}` of the module, so that the network is another one at every call. Call `.eval()`"
                        " first, or compute without changing it.",
                    )


def _writes(func: Any) -> bool:
    return func._schema.is_mutable


def _is_view(func: Any) -> bool:
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _view(trace: Trace, func: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Views need no rule: they look at the same storage, whose shadow says what stands there."""
    out = func(*args, **kwargs)
    old = next(t for t in _tensors((args, kwargs)))
    for tensor in _tensors(out):
        if (
            tensor.dtype != old.dtype
            or tensor.is_neg()
            or tensor.is_conj()
            or tensor.layout is not torch.strided
        ):
            raise trace.refuse(name, "it reads the bits of numbers as something else.")
        if (trace.shadows.knows(old) and not trace.shadows.knows(tensor)) and tensor.numel():
            trace.shadows.write(tensor, func(trace.shadows.codes(old), *args[1:], **kwargs))
    return out


def _moved(trace: Trace, func: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """An operation that moves, copies or overwrites entries: it runs on codes as it runs on numbers."""
    with trace.working(name):
        for tensor in _tensors((args, kwargs)):
            if address(tensor) in trace.poisoned:
                read(trace, tensor, name)
        names = {id_: key for id_, (key, _) in enumerate(_bound(func, args, kwargs))}
        codes = tuple(_coded(trace, value, names.get(k, "")) for k, value in enumerate(args))
        words = {key: _coded(trace, value, key) for key, value in kwargs.items()}
        words = {
            key: torch.float64 if isinstance(value, torch.dtype) else value for key, value in words.items()
        }
        words = {
            key: torch.device("cpu") if isinstance(value, torch.device) else value
            for key, value in words.items()
        }
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            if not tensor.is_floating_point():
                raise trace.refuse(name, f"it turns numbers into {tensor.dtype}, which rounds them.")
        moved = func(*codes, **words)
        for tensor, code in zip(_tensors(out), _tensors(moved), strict=True):
            trace.checks.rounded(tensor)
            trace.shadows.write(tensor, code)
    return out


PLACE = ("index", "indices", "mask", "condition", "repeats")
"""Names of arguments that say where entries go."""


def _coded(trace: Trace, value: Any, key: str) -> Any:
    """An argument of an operation that moves entries, with codes in place of numbers."""
    if isinstance(value, Tensor):
        return value.cpu() if key in PLACE else trace.shadows.codes(value)
    if isinstance(value, tuple | list):
        return type(value)(_coded(trace, part, key) for part in value)
    if key in ("value", "fill_value", "other", "x") and isinstance(value, bool | int | float):
        return trace.shadows.code(float(value))
    if isinstance(value, torch.dtype):
        return torch.float64
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _decomposed(trace: Trace, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Operations that torch itself defines by others, where they arrive whole."""
    if not func._can_decompose():
        return NotImplemented
    with trace.again(trace), trace.sleeping(False):
        return func.decompose(*args, **kwargs)
