"""MATLAB's .mat of version 5 to 7: matrices, cell arrays of them (LipSDP's `weights`), nested structs.

# Note [own decoder]: `scipy.io.loadmat` indexes tables with bytes of the file unchecked, so that a damaged file can end the
# process instead of raising. The format is small; here every length is checked against the bytes that are there.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sdplip.shapes import Shaped

from sdplip.errors import UnreadableFile
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.layers import is_vector, says_weight

Element = tuple[int, memoryview]
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED = 14, 15  # the element types that are not numbers
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17  # array classes
CLASS = {
    6: "f8",
    7: "f4",
    8: "i1",
    9: "u1",
    10: "i2",
    11: "u2",
    12: "i4",
    13: "u4",
    14: "i8",
    15: "u8",
    SPARSE: "f8",
}
LOGICAL, COMPLEX = 0x200, 0x800


def arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The numeric arrays by name: `weights[0]` of a cell, `params.fc1_weight` of a struct.

    MATLAB has no 1-D arrays, so `1 x n` and `n x 1` are ambiguous. They come out with one axis where the name says vector
    (`fc1_bias`, `b2`, `input_mean`), and where a file holds several of them, no matrix, and no name that says weight.

    Raises:
        UnreadableFile: truncated, damaged, or with a class object or function handle.
    """
    with refuse_damaged(path, "a MATLAB file"):
        content = memoryview(path.read_bytes())
        order = {b"IM": "<", b"MI": ">"}[bytes(content[126:128])]
        found = dict(_variables(content[128:], order, path))
    matrices = [name for name, array in found.items() if sum(axis != 1 for axis in array.shape) > 1]
    only_vectors = len(found) > 1 and not matrices and not any(map(says_weight, found))
    return {
        name: array.reshape(-1) if only_vectors or is_vector(name, array.shape) else array
        for name, array in found.items()
    }


def _variables(content: memoryview, order: str, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    for kind, body in _elements(content, order):
        if kind == COMPRESSED:
            ((kind, body),) = _elements(memoryview(zlib.decompress(body)), order)
        if kind != MATRIX:
            raise ValueError(f"element type {kind} is no variable")
        for name, array in _matrix(body, order, "", path):
            if name and (array.shape != (0, 0) or says_weight(name)):  # `[]` is MATLAB's "nothing"
                yield name, array


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    """The data elements that follow each other in `content`: type and bytes, padded to 8 unless compressed."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # the short form: size and type in 4 bytes, then at most 4 bytes of data
            kind, size, start = kind & 0xFFFF, min(kind >> 16, 4), at + 4
        at = start + size
        if at > len(content):
            raise ValueError("it ends within an array")
        yield kind, content[start:at]
        at += 0 if kind == COMPRESSED else -at % 8


def _matrix(body: memoryview, order: str, outer: str, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The numeric arrays in one array element, which is called `outer` if it lies in a cell or struct."""
    if not body:
        yield outer, np.empty((0, 0))
        return
    parts = _elements(body, order)
    flags = int(_numbers(parts, order)[0])
    kind = flags & 0xFF
    shape = () if kind == OPAQUE else tuple(map(int, _numbers(parts, order)))
    own = _text(parts)
    name = outer or own
    if kind in (OBJECT, FUNCTION, OPAQUE):
        raise UnreadableFile(
            f"`{name}` in `{path}` is a MATLAB class object or function handle, which only MATLAB can read."
            " Save its matrices: `W1 = net.Layers(2).Weights; save(file, 'W1', '-v7')`."
        )
    if kind == CELL:
        for index in range(math.prod(shape)):
            yield from _matrix(_part(parts)[1], order, f"{name}[{index}]", path)
    elif kind == STRUCT:
        for label, field in _fields(parts, order, shape):
            yield from _matrix(field, order, f"{name}{label}", path)
    elif kind in CLASS:
        yield name, _array(parts, order, shape, flags)
    elif kind != CHAR:
        raise ValueError(f"array class {kind} is not known")


def _fields(parts: Iterator[Element], order: str, shape: tuple[int, ...]) -> Iterator[tuple[str, memoryview]]:
    width, text = int(_numbers(parts, order)[0]), bytes(_part(parts)[1])
    names = [text[at : at + width].split(b"\0")[0].decode() for at in range(0, len(text), width)]
    count = math.prod(shape) if names else 0
    for index in range(count):
        for field in names:
            yield f".{field}" if count == 1 else f"[{index}].{field}", _part(parts)[1]


def _array(parts: Iterator[Element], order: str, shape: tuple[int, ...], flags: int) -> np.ndarray:
    kind = flags & 0xFF
    rows, starts = (_numbers(parts, order), _numbers(parts, order)) if kind == SPARSE else (None, None)
    entries = _numbers(parts, order).astype(
        CLASS[kind]
    )  # MATLAB stores whole doubles as bytes: give back doubles
    if flags & COMPLEX:
        entries = entries + 1j * _numbers(parts, order)
    if flags & LOGICAL:
        entries = entries.astype(bool)
    if rows is None or starts is None:
        return entries.reshape(shape, order="F")
    dense = np.zeros(shape, entries.dtype)
    used = int(starts[-1])
    dense[rows[:used], np.repeat(np.arange(shape[1]), np.diff(starts))] = entries[:used]
    return dense


def _part(parts: Iterator[Element]) -> Element:
    part = next(parts, None)
    if part is None:
        raise ValueError("a part of an array is missing")
    return part


def _numbers(parts: Iterator[Element], order: str) -> np.ndarray:
    kind, data = _part(parts)
    if kind not in STORED:
        raise ValueError(f"number type {kind} is not known")
    return np.frombuffer(data, f"{order}{STORED[kind]}")


def _text(parts: Iterator[Element]) -> str:
    return bytes(_part(parts)[1]).decode()
