"""MATLAB's .mat of version 7.3, which is HDF5: matrices, cell arrays of them, structs, sparse matrices.

MATLAB writes arrays by columns, so that HDF5 shows their axes in reverse; cells hold references to what lies elsewhere in the file.
"""

import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, UnreadableFile
from sdplip.weights.content import Room, content, room_of
from sdplip.weights.hdf5 import library, text
from sdplip.weights.names import natural

START = b"MATLAB 7.3"
NUMBERS = {
    "double",
    "single",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}
IGNORED = {"char", "string", "function_handle"}
DEEPEST = 16
"""Cells and structs in each other."""
MOST = 1 << 16
"""Entries of the largest file that is read: references may lead in circles."""


def entries(path: Path) -> dict[str, np.ndarray]:
    """The numeric arrays by name: `weights[0]` of a cell, `params.fc1_weight` of a struct.

    Raises:
        MissingDependency: the package `h5py` is not installed.
        UnreadableFile: class objects, links, more memory than a file of its size may ask for.
        InvalidWeight: cells of single numbers, which may be a list or a matrix.
        Exception: as h5py and NumPy, of damaged files.
    """
    h5py = library(path)
    with h5py.File(BytesIO(content(path)), "r") as file:
        reader = _Reader(file, room_of(path), path)
        return {
            name: array
            for key in sorted(file, key=natural)
            if not key.startswith("#")
            for name, array in reader.read(file, key, key, DEEPEST)
        }


class _Reader:
    """One file: memory that is left, entries that may follow."""

    def __init__(self, file: Any, room: Room, path: Path):
        self.file, self.room, self.path, self.left = file, room, path, MOST

    def read(self, group: Any, key: str, name: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
        """What a group holds under a key."""
        import h5py

        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise UnreadableFile(
                f"`{name}` in `{self.path}` is a link, not an array. Save the arrays themselves."
            )
        yield from self.entry(group[key], name, depth)

    def entry(self, entry: Any, name: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
        """The arrays of a dataset or group."""
        import h5py

        self.left -= 1
        if depth == 0 or self.left < 0:
            raise ValueError("cells in cells without end")
        kind = text(entry.attrs.get("MATLAB_class", b"struct" if isinstance(entry, h5py.Group) else b""))
        if "MATLAB_object_decode" in entry.attrs or kind not in {*NUMBERS, *IGNORED, "cell", "struct"}:
            raise UnreadableFile(
                f"`{name}` in `{self.path}` is a MATLAB object of class {kind[:40]!r}, which only MATLAB can read. Save its"
                " matrices: `W1 = net.Layers(2).Weights; save(file, 'W1')`."
            )
        if isinstance(entry, h5py.Group):
            if "MATLAB_sparse" in entry.attrs:
                yield name, self._sparse(entry)
                return
            for key in sorted(entry, key=natural) if kind == "struct" else []:
                yield from self.read(entry, key, f"{name}.{key}", depth - 1)
        elif kind in IGNORED or entry.attrs.get("MATLAB_empty", 0):
            return
        elif h5py.check_ref_dtype(entry.dtype) is h5py.Reference:
            yield from self._cell(entry, name, depth)
        elif kind in NUMBERS:
            yield name, self._numbers(entry, kind)

    def _cell(self, entry: Any, name: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
        """Of a cell, or of one field of an array of structs, in MATLAB's order."""
        self.room.take(16 * entry.size)
        found = list[tuple[str, np.ndarray]]()
        references = entry[()].reshape(-1)  # by columns, as the axes stand in reverse
        for k, reference in enumerate(references):
            if reference:
                found += self.entry(self.file[reference], f"{name}[{k}]", depth - 1)
        if len(references) > 1 and len(found) == len(references) and all(a.shape == (1, 1) for _, a in found):
            raise InvalidWeight(
                f"`{name}` in `{self.path}` is a cell of {len(found)} single numbers, which may be as many layers or one. Save one"
                " matrix a layer."
            )
        yield from found

    def _numbers(self, entry: Any, kind: str) -> np.ndarray:
        if entry.is_virtual or entry.external:
            raise UnreadableFile(
                f"An array in `{self.path}` lies in other files. Save the arrays themselves."
            )
        self.room.take(entry.size * entry.dtype.itemsize)
        array = np.asarray(entry[()]).T
        if array.dtype.names == ("real", "imag"):
            array = array["real"] + 1j * array["imag"]
        return array.astype(bool) if kind == "logical" else array

    def _sparse(self, group: Any) -> np.ndarray:
        """A matrix by columns: values, rows, and where the columns begin."""
        starts = self._numbers(group["jc"], "")
        values, rows = (
            self._numbers(group[key], "") if key in group else np.zeros(0) for key in ("data", "ir")
        )
        shape = int(group.attrs["MATLAB_sparse"]), len(starts) - 1
        starts, rows = starts.astype(np.int64), rows.astype(np.int64)
        counts = np.diff(starts)
        right = starts[0] == 0 and (counts >= 0).all() and starts[-1] == len(rows) == len(values)
        if not right or shape[0] < 0 or (len(rows) and not 0 <= rows.min() <= rows.max() < shape[0]):
            raise ValueError("a sparse matrix out of order")
        self.room.take(math.prod(shape) * 8)
        dense = np.zeros(shape)
        np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), counts)), values)
        return dense
