"""safetensors files, decoded here: a JSON header and bytes. NumPy has no bfloat16, and a verifier needs NumPy alone."""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.stored import once
from sdplip.weights.content import content
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.names import natural

TYPES = {f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
TYPES |= {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?", "C64": "<c8"}
HEADER = 100_000_000
"""Bytes of the longest header that the format allows."""


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors by name, bfloat16 widened to float32.

    The format's writers sort by name, so that layer 10 stands before layer 2; here numbers in names count as numbers.

    Raises:
        UnreadableFile: truncated or damaged.
        InvalidWeight: a matrix of 8-bit or smaller floating-point numbers.
    """
    with refuse_damaged(path, "a safetensors file"):
        whole = bytearray(content(path))  # arrays that may be written to
        header, data = _header(whole)
        tensors = {name: _entry(entry) for name, entry in header.items() if name != "__metadata__"}
        _check_places([place for _, _, place in tensors.values()], len(data))
        found = dict[str, np.ndarray]()
        for name in sorted(tensors, key=natural):
            kind, shape, (start, end) = tensors[name]
            array = _array(name, kind, shape, data[start:end], path)
            if array is not None:
                found[name] = array
        return found


def metadata(path: Path) -> dict[str, str]:
    """What the file says beside its tensors.

    Raises:
        UnreadableFile: truncated or damaged.
    """
    with refuse_damaged(path, "a safetensors file"):
        said = _header(bytearray(content(path)))[0].get("__metadata__", {})
        return {key: value for key, value in said.items() if isinstance(value, str)}


def _header(whole: bytearray) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(whole[:8], "little")
    if len(whole) < 8 or length > min(HEADER, len(whole) - 8):
        raise ValueError("it ends within its header")
    header = json.loads(whole[8 : 8 + length], object_pairs_hook=once)
    if not isinstance(header, dict):
        raise ValueError("its header is no table of tensors")
    return header, memoryview(whole)[8 + length :]


def _entry(entry: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or any(type(n) is not int or n < 0 for n in (*shape, start, end)):
        raise ValueError("its header holds no whole numbers where shapes and places stand")
    if kind in TYPES and end - start != prod(shape) * np.dtype(TYPES[kind]).itemsize:
        raise ValueError(f"a tensor {shape} of type {kind} has {end - start} bytes")
    return kind, tuple(shape), (start, end)


def _check_places(places: list[tuple[int, int]], size: int) -> None:
    """As the format has it: tensors follow each other without gaps and fill the file."""
    at = 0
    for start, end in sorted(places):
        if start != at or end < start:
            raise ValueError("its tensors overlap or leave gaps")
        at = end
    if at != size:
        raise ValueError(f"its tensors take {at} of {size} bytes")


def _array(name: str, kind: str, shape: tuple[int, ...], data: memoryview, path: Path) -> np.ndarray | None:
    if kind in TYPES:
        array = np.frombuffer(data, TYPES[kind]).reshape(shape)
        return _widen(array) if kind == "BF16" else array
    if len(shape) < 2:
        return None
    raise InvalidWeight(
        f"`{name}` in `{path}` has type {kind}, a quantised weight. Dequantise it, and save it as float32."
    )


def _widen(upper: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of float32."""
    return (upper.astype(np.uint32) << 16).view(np.float32)
