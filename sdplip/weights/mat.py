"""MATLAB's .mat of version 5 to 7: matrices, cell arrays of them (LipSDP's `weights`), nested structs. `mat73` reads 7.3.

# Note [own decoder]: `scipy.io.loadmat` indexes tables with bytes of the file unchecked, so that a damaged file can end the
# process instead of raising. The format is small; here every length is checked against the bytes that are there.

# Note [cells of numbers]: `savemat(file, {"weights": np.array([W], dtype=object)})` with one layer, or with layers of one shape,
# writes one cell a number, because NumPy makes an array of that shape and numbers in it. Such cells are put together again.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidWeight, UnreadableFile
from sdplip.shapes import Shaped
from sdplip.stored import once
from sdplip.weights import mat73
from sdplip.weights.content import Room, content, opened, room_of
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.names import is_vector, says_bias, says_weight

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


@dataclass(frozen=True, eq=False)
class File:
    """What all parts of one file share: byte order, memory that is left, the path for messages."""

    order: str
    room: Room
    path: Path


def arrays(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The numeric arrays by name: `weights[0]` of a cell, `params.fc1_weight` of a struct.

    MATLAB has no 1-D arrays, so `1 x n` and `n x 1` are ambiguous. They come out with one axis where the name says vector
    (`fc1_bias`, `b2`, `input_mean`), and where a file holds several of them, no matrix, and no name that says weight.

    Raises:
        UnreadableFile: truncated, damaged, larger than a file of its size may be, or with a class object or function handle.
        InvalidWeight: a cell of numbers that may be a list or a matrix.
        MissingDependency: version 7.3 without the package `h5py`.
    """
    with refuse_damaged(path, "a MATLAB file"):
        whole = memoryview(content(path))
        if whole[: len(mat73.START)] == mat73.START:
            found = mat73.entries(path)
        else:
            order = {b"IM": "<", b"MI": ">"}[bytes(whole[126:128])]
            found = once(_variables(whole[128:], File(order, room_of(path), path)))
    matrices = [name for name, array in found.items() if sum(axis != 1 for axis in array.shape) > 1]
    only_vectors = len(found) > 1 and not matrices and not any(map(says_weight, found))
    return {
        name: array.reshape(-1) if only_vectors or is_vector(name, array.shape) else array
        for name, array in found.items()
    }


def says_order(path: Path) -> bool:
    """Whether the file keeps the order in which variables were saved, as those before version 7.3 do."""
    with opened(path) as stream:
        return stream.read(len(mat73.START)) != mat73.START


def _variables(whole: memoryview, file: File) -> Iterator[tuple[str, np.ndarray]]:
    for kind, body in _elements(whole, file.order):
        if kind == COMPRESSED:
            ((kind, body),) = _elements(memoryview(_inflated(body, file.room)), file.order)
        if kind != MATRIX:
            raise ValueError(f"element type {kind} is no variable")
        for name, array in _matrix(body, "", file):
            if name and (array.shape != (0, 0) or says_weight(name)):  # `[]` is MATLAB's "nothing"
                yield name, array


def _inflated(body: memoryview, room: Room) -> bytes:
    unpacking = zlib.decompressobj()
    found = unpacking.decompress(body, room.left + 1)
    room.take(len(found))
    if not unpacking.eof:
        raise ValueError("a compressed variable is incomplete")
    return found


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


def _matrix(body: memoryview, outer: str, file: File) -> Iterator[tuple[str, np.ndarray]]:
    """The numeric arrays in one array element, which is called `outer` if it lies in a cell or struct."""
    if not body:
        yield outer, np.empty((0, 0))
        return
    parts = _elements(body, file.order)
    flags = int(_numbers(parts, file)[0])
    kind = flags & 0xFF
    shape = () if kind == OPAQUE else tuple(map(int, _numbers(parts, file)))
    own = _text(parts)
    name = outer or own
    if kind in (OBJECT, FUNCTION, OPAQUE):
        raise UnreadableFile(
            f"`{name}` in `{file.path}` is a MATLAB class object or function handle, which only MATLAB can read."
            " Save its matrices: `W1 = net.Layers(2).Weights; save(file, 'W1', '-v7')`."
        )
    if min(shape, default=0) < 0:
        raise ValueError(f"an array has shape {shape}")
    if kind == CELL:
        yield from _cell(name, shape, parts, file)
    elif kind == STRUCT:
        for label, field in _fields(parts, file, shape):
            yield from _matrix(field, f"{name}{label}", file)
    elif kind in CLASS:
        yield name, _array(parts, file, shape, flags)
    elif kind != CHAR:
        raise ValueError(f"array class {kind} is not known")


def _cell(
    name: str, shape: tuple[int, ...], parts: Iterator[Element], file: File
) -> Iterator[tuple[str, np.ndarray]]:
    count, found = math.prod(shape), list[tuple[str, np.ndarray]]()
    for index in range(count):
        found += _matrix(_part(parts)[1], f"{name}[{index}]", file)
    single = count > 1 and len(found) == count and all(array.shape == (1, 1) for _, array in found)
    yield from _whole(name, shape, [array for _, array in found], file) if single else found


def _whole(
    name: str, shape: tuple[int, ...], numbers: list[np.ndarray], file: File
) -> Iterator[tuple[str, np.ndarray]]:
    """See Note [cells of numbers]."""
    array = np.array([number[0, 0] for number in numbers]).reshape(shape, order="F")
    long = sum(axis != 1 for axis in shape)
    if says_bias(name):
        yield from ((f"{name}[{k}]", row.reshape(-1)) for k, row in enumerate(array))
    elif len(shape) > 2:
        yield from ((f"{name}[{k}]", part) for k, part in enumerate(array))
    elif long == 1 and says_weight(name):
        raise InvalidWeight(
            f"`{name}` in `{file.path}` is a cell of {array.size} single numbers, which may be as many layers or one. Save one"
            " matrix a layer: `savemat(file, {'W1': W1, 'W2': W2})`."
        )
    else:
        yield name, array


def _fields(parts: Iterator[Element], file: File, shape: tuple[int, ...]) -> Iterator[tuple[str, memoryview]]:
    width, text = int(_numbers(parts, file)[0]), bytes(_part(parts)[1])
    names = [text[at : at + width].split(b"\0")[0].decode() for at in range(0, len(text), width)]
    count = math.prod(shape) if names else 0
    for index in range(count):
        for field in names:
            yield f".{field}" if count == 1 else f"[{index}].{field}", _part(parts)[1]


def _array(parts: Iterator[Element], file: File, shape: tuple[int, ...], flags: int) -> np.ndarray:
    kind = flags & 0xFF
    rows, starts = (_numbers(parts, file), _numbers(parts, file)) if kind == SPARSE else (None, None)
    entries = _numbers(parts, file)
    file.room.take(max(0, entries.size * np.dtype(CLASS[kind]).itemsize - entries.nbytes))
    entries = entries.astype(CLASS[kind])  # MATLAB stores whole doubles as bytes: give back doubles
    if flags & COMPLEX:
        entries = entries + 1j * _numbers(parts, file)
    if flags & LOGICAL:
        entries = entries.astype(bool)
    if rows is None or starts is None:
        return entries.reshape(shape, order="F")
    return _full(rows, starts, entries, shape, file)


def _full(
    rows: np.ndarray, starts: np.ndarray, entries: np.ndarray, shape: tuple[int, ...], file: File
) -> np.ndarray:
    """The matrix of sparse columns: what stands twice adds up, as in MATLAB's `sparse`."""
    if rows.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
        raise ValueError("the places of a sparse matrix are no whole numbers")
    rows, starts = rows.astype(np.int64), starts.astype(np.int64)  # differences of unsigned numbers wrap
    if len(shape) != 2 or len(starts) != shape[1] + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError("the columns of a sparse matrix are out of order")
    used = int(starts[-1])
    if used > min(len(rows), len(entries)):
        raise ValueError("a sparse matrix ends early")
    rows, entries = rows[:used], entries[:used]
    if used and not 0 <= rows.min() <= rows.max() < shape[0]:
        raise ValueError(f"a sparse matrix of {shape[0]} rows names row {rows.min()} or {rows.max()}")
    file.room.take(math.prod(shape) * entries.dtype.itemsize)
    dense = np.zeros(shape, entries.dtype)
    np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), np.diff(starts))), entries)
    return dense


def _part(parts: Iterator[Element]) -> Element:
    part = next(parts, None)
    if part is None:
        raise ValueError("a part of an array is missing")
    return part


def _numbers(parts: Iterator[Element], file: File) -> np.ndarray:
    kind, data = _part(parts)
    if kind not in STORED:
        raise ValueError(f"number type {kind} is not known")
    return np.frombuffer(data, f"{file.order}{STORED[kind]}")


def _text(parts: Iterator[Element]) -> str:
    return bytes(_part(parts)[1]).decode()
