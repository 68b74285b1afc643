"""safetensors files, decoded here because NumPy has no bfloat16."""

import re
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.weights.damaged import refuse_damaged

TYPES = {f"{kind.upper()}{8 * size}": f"<{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)}
TYPES |= {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?", "C64": "<c8"}


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The tensors by name, bfloat16 widened to float32.

    The format's writers sort by name, so that layer 10 stands before layer 2; here numbers in names count as numbers.

    Raises:
        UnreadableFile: truncated or damaged.
        InvalidWeight: a matrix of 8-bit or smaller floating-point numbers.
    """
    from safetensors import deserialize

    with refuse_damaged(path, "a safetensors file"):
        tensors = dict(deserialize(path.read_bytes()))
    read = {name: _array(name, tensors[name], path) for name in sorted(tensors, key=_natural)}
    return {name: array for name, array in read.items() if array is not None}


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(digits or -1), text) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _array(name: str, tensor: dict, path: Path) -> np.ndarray | None:
    dtype, shape = tensor["dtype"], tensor["shape"]
    if dtype in TYPES:
        array = np.frombuffer(tensor["data"], TYPES[dtype]).reshape(shape)
        return _widen(array) if dtype == "BF16" else array
    if len(shape) < 2:
        return None
    raise InvalidWeight(
        f"`{name}` in `{path}` has type {dtype}, a quantised weight. Dequantise it, and save it as float32."
    )


def _widen(upper: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of float32."""
    return (upper.astype(np.uint32) << 16).view(np.float32)
