"""NumPy's .npy and .npz, never with pickles."""

import zipfile
from math import prod
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from sdplip.errors import UnreadableFile
from sdplip.weights.content import Room, opened, room_of
from sdplip.weights.damaged import refuse_damaged


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or `{"": array}` of an .npy.

    Raises:
        UnreadableFile: truncated, damaged, larger than a file of its size may be, or with an object array, which only unpickling
            could read.
    """
    with refuse_damaged(path, "a NumPy file"), opened(path) as file:
        if file.read(2) == b"PK":
            return _members(file, path)
        size = file.seek(0, 2)
        file.seek(0)
        _check_header(file, size, path)
        file.seek(0)
        return {"": np.load(file, allow_pickle=False)}


def _members(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    room, found = room_of(path), dict[str, np.ndarray]()
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            with archive.open(member) as stream:  # what it holds is no longer than what it says
                _check_header(stream, member.file_size, path, room)
            with archive.open(member) as stream:
                found[member.filename.removesuffix(".npy")] = npy.read_array(stream, allow_pickle=False)
    return found


def _check_header(stream: IO[bytes], size: int, path: Path, room: Room | None = None) -> None:
    """The array of the header fits into the bytes that follow, and into memory."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise UnreadableFile(
            f"`{path}` holds an object array, a pickle, and reading it could execute code. Load it where you trust it"
            " and save one plain array a layer: `numpy.savez(file, W0=W[0], W1=W[1])`."
        )
    count = prod(map(int, shape)) * dtype.itemsize
    if count > size:
        raise ValueError(f"an array of {count} bytes in {size}")
    if room is not None:
        room.take(count)
