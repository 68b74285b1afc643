"""NumPy's .npy and .npz, nothing of them unpickled; object arrays that are lists of arrays are read as data."""

import re
import zipfile
from math import prod
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy

from sdplip.errors import UnreadableFile
from sdplip.stored import once
from sdplip.weights.content import Room, opened, room_of
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.objects import array_list


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name, or `{"": array}` of an .npy; of a list of arrays `weights[0]`, ..., by the last word of its name.

    Raises:
        UnreadableFile: truncated, damaged, larger than a file of its size may be, or with an object array that is no list of
            arrays, which only unpickling could read.
    """
    with refuse_damaged(path, "a NumPy file"), opened(path) as file:
        if file.read(2) == b"PK":
            return _members(file, path)
        size = file.seek(0, 2)
        file.seek(0)
        if _check_header(file, size):
            return _listed(re.split(r"[_.\s]", path.name.split(".")[0])[-1], file, path)
        file.seek(0)
        return {"": np.load(file, allow_pickle=False)}


def _members(file: BinaryIO, path: Path) -> dict[str, np.ndarray]:
    room, found = room_of(path), dict[str, np.ndarray]()
    with zipfile.ZipFile(file) as archive:
        once((member.filename, None) for member in archive.infolist())
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as stream:  # what it holds is no longer than what it says
                if _check_header(stream, member.file_size, room):
                    room.take(member.file_size)
                    found |= _listed(name, stream, path)
                    continue
            with archive.open(member) as stream:
                found[name] = npy.read_array(stream, allow_pickle=False)
    return found


def _listed(name: str, stream: IO[bytes], path: Path) -> dict[str, np.ndarray]:
    """The arrays of a list, from behind its header."""
    try:
        return {f"{name}[{k}]": array for k, array in enumerate(array_list(stream))}
    except Exception:  # whatever else a pickle may be
        raise UnreadableFile(
            f"`{path}` holds an object array that is no list of arrays, a pickle, and reading it could execute code. Load it where"
            " you trust it and save one plain array a layer: `numpy.savez(file, W0=W[0], W1=W[1])`."
        ) from None


def _check_header(stream: IO[bytes], size: int, room: Room | None = None) -> bool:
    """The array of the header fits into the bytes that follow, and into memory; whether it is one of objects."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        return True
    count = prod(map(int, shape)) * dtype.itemsize
    if count > size:
        raise ValueError(f"an array of {count} bytes in {size}")
    if room is not None:
        room.take(count)
    return False
