"""torch's .pt and .pth: state dicts and other tensors, read with `weights_only=True`."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, UnreadableFile
from sdplip.weights.damaged import refuse_damaged

STATE = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights", "params")


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the file by name, bfloat16 widened to float32.

    Of a checkpoint that holds one state dict under a usual key ("state_dict", "model", ...) the names are those of the state
    dict; of any other nesting they are joined by dots, and optimizer and scheduler states are left out.

    Raises:
        UnreadableFile: truncated, damaged, or with anything that only unpickling could read.
        InvalidWeight: a quantised or 8-bit floating-point matrix.
    """
    import torch

    with refuse_damaged(path, "a torch file"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise UnreadableFile(
                f"`{path}` holds more than tensors (a pickled module, for example), and reading it could execute code."
                " Save `model.state_dict()` instead: `torch.save(model.state_dict(), file)`."
            ) from None
        tensors = dict(_flatten(_state(content), ""))
    read = {name: _array(name, tensor, path) for name, tensor in tensors.items()}
    return {name: array for name, array in read.items() if array is not None}


def _state(content: Any) -> Any:
    """The state dict of a checkpoint, where there is exactly one; else everything that is not an optimizer's."""
    import torch

    if not isinstance(content, Mapping) or any(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    states = [content[key] for key in STATE if isinstance(content.get(key), Mapping)]
    if len(states) == 1:
        return states[0]
    return {
        key: value
        for key, value in content.items()
        if not str(key).startswith(("optim", "sched", "lr_sched"))
    }


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value.detach()
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _flatten(entry, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _flatten(entry, f"{name}[{index}]")


def _array(name: str, tensor: Any, path: Path) -> np.ndarray | None:
    """The tensor in NumPy, or None for a vector of a type that NumPy lacks.

    Raises:
        InvalidWeight: NumPy has no type for this matrix.
    """
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.to(torch.float32)
    try:
        if not tensor.is_quantized:
            return tensor.to_dense().resolve_conj().resolve_neg().numpy()
    except (TypeError, NotImplementedError):
        pass
    if tensor.ndim < 2:
        return None
    raise InvalidWeight(
        f"`{name}` in `{path}` has type {tensor.dtype}, a quantised weight. Dequantise it, and save it as float32."
    )
