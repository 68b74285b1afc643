"""The bytes of a file, unpacked where it is `.gz`, and how much memory a file may ask for.

# Note [room]: compressed arrays and sparse matrices say how large they are, and a few hundred bytes can say gigabytes. A file may
# ask for `ROOM` bytes, and for `FACTOR` bytes more for every byte of its own. Whatever is stored without compression fits.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from sdplip.errors import UnreadableFile

ROOM = 1 << 28
"""Bytes that every file may ask for: 256 MB."""
FACTOR = 32
"""Bytes that it may ask for more, for each byte of its own."""
GZIP = b"\x1f\x8b"


@dataclass(eq=False)
class Room:
    """Memory that a file may still ask for."""

    path: Path
    left: int

    def take(self, count: int) -> None:
        """Takes `count` bytes.

        Raises:
            UnreadableFile: more than are left.
        """
        if count > self.left:
            raise UnreadableFile(
                f"`{self.path}` asks for {count} bytes of memory, more than {FACTOR} times its own size and {ROOM >> 20} MB."
                " If that is right, save it without compression, and sparse matrices in full."
            )
        self.left -= count


def room_of(path: Path) -> Room:
    """What the file may ask for by its size on disk."""
    return Room(path, ROOM + FACTOR * path.stat().st_size)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The file as a stream that can seek, unpacked.

    Raises:
        UnreadableFile: a `.gz` file that asks for more memory than a file of its size may.
    """
    with path.open("rb") as stream:
        if stream.read(2) == GZIP:
            yield BytesIO(_unpacked(stream, path))
            return
        stream.seek(0)
        yield stream


def content(path: Path) -> bytes:
    """All bytes of the file, unpacked.

    Raises:
        UnreadableFile: a `.gz` file that asks for more memory than a file of its size may.
    """
    with opened(path) as stream:
        return stream.read()


def _unpacked(stream: BinaryIO, path: Path) -> bytes:
    room = room_of(path)
    stream.seek(0)
    with gzip.GzipFile(fileobj=stream) as packed:
        found = packed.read(room.left + 1)
    room.take(len(found))
    return found
