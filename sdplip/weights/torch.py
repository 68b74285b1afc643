"""torch's .pt and .pth: state dicts and other tensors, read with `weights_only=True`."""

import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile, is_zipfile

import numpy as np

from sdplip.errors import InvalidWeight, MissingDependency, UnreadableFile
from sdplip.weights.content import Room, opened, room_of
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.pickled import STAND_INS, Stored

STATE = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")
MOST = 1 << 18
"""Entries of the largest checkpoint that is read."""


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the file by name, bfloat16 widened to float32, and the arrays and numbers that stand beside them.

    Of a checkpoint that holds one state dict under a usual key ("state_dict", "model", ...) the names are those of the state
    dict, and other tables of tensors (optimizers, a second network) follow under their own keys; of any other nesting all names
    are joined by dots.

    Raises:
        UnreadableFile: truncated, damaged, larger than a file of its size may be, or with anything that only unpickling could
            read.
        InvalidWeight: a quantised or 8-bit floating-point matrix.
        MissingDependency: torch is not installed.
    """
    with refuse_damaged(path, "a torch file"), opened(path) as stream:
        room = room_of(path)
        found = dict(_flatten(_state(_loaded(stream, path, room)), ""))
        read = {name: _array(name, entry, path, room) for name, entry in found.items()}
    return {name: array for name, array in read.items() if array is not None}


def _loaded(stream: BinaryIO, path: Path, room: Room) -> Any:
    try:
        import torch
    except ImportError:
        raise MissingDependency(
            f"Reading `{path}` needs torch. Install it, or save the weights as .safetensors or .npz, which NumPy reads alone."
        ) from None
    if is_zipfile(stream):
        stream.seek(0)
        with ZipFile(stream) as archive:
            room.take(sum(member.file_size for member in archive.infolist()))
    stream.seek(0)
    try:
        with torch.serialization.safe_globals(list(STAND_INS)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of storages as older files have them
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnreadableFile(
            f"`{path}` holds more than tensors (a pickled module, for example), and reading it could execute code."
            " Save `model.state_dict()` instead: `torch.save(model.state_dict(), file)`."
        ) from None


def _state(content: Any) -> Any:
    """Where a table without tensors holds one state dict under a usual key: its entries, then the other tables."""
    import torch

    if not isinstance(content, Mapping) or any(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    states = [key for key in STATE if isinstance(content.get(key), Mapping)]
    if len(states) != 1:
        return content
    others = {key: value for key, value in content.items() if key != states[0] and _holds_tensors(value)}
    return {**content[states[0]], **others}


def _holds_tensors(value: Any) -> bool:
    return any(
        entry.ndim > 0 for _, entry in _flatten(value, "") if not isinstance(entry, Stored | int | float)
    )


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Tensors, arrays and numbers with their names.

    Raises:
        ValueError: tables in tables without end, as a few bytes of a pickle can say.
    """
    import torch

    waiting, met = [(name, value)], 0
    while waiting:
        name, value = waiting.pop()
        met += 1
        if met > MOST:
            raise ValueError(f"it holds more than {MOST} entries")
        if isinstance(value, torch.Tensor):
            yield name, value.detach()
        elif isinstance(value, Stored | np.generic) or type(value) in (int, float):
            yield name, value
        elif isinstance(value, Mapping):
            waiting += [
                (f"{name}.{key}" if name else str(key), entry) for key, entry in reversed(list(value.items()))
            ]
        elif isinstance(value, list | tuple):
            waiting += [(f"{name}[{k}]", value[k]) for k in reversed(range(len(value)))]


def _array(name: str, entry: Any, path: Path, room: Room) -> np.ndarray | None:
    """The entry in NumPy, or None for a vector of a type that NumPy lacks and for what holds no numbers.

    Raises:
        InvalidWeight: NumPy has no type for this matrix.
    """
    import torch

    if not isinstance(entry, torch.Tensor):
        return entry.array() if isinstance(entry, Stored) else np.asarray(entry)
    room.take(entry.numel() * entry.element_size())
    if entry.dtype == torch.bfloat16:
        entry = entry.to(torch.float32)
    try:
        if not entry.is_quantized:
            return entry.to_dense().resolve_conj().resolve_neg().numpy()
    except (TypeError, NotImplementedError):
        pass
    if entry.ndim < 2:
        return None
    raise InvalidWeight(
        f"`{name}` in `{path}` has type {entry.dtype}, a quantised weight. Dequantise it, and save it as float32."
    )
