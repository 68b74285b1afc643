"""One run a folder at a time: a lock that goes with its process."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from sdplip.errors import InvalidRun

LOCK = ".lock"


@contextmanager
def locked(out: Path, *, first: bool) -> Iterator[None]:
    """A block in which no other run writes to the folder `out`. The lock goes with the process, however it ends.

    Raises:
        InvalidRun: another process trains in it.
    """
    if not first:
        yield
        return
    made = [path for path in (out, *out.parents) if not path.exists()]
    out.mkdir(parents=True, exist_ok=True)
    file = _held(out)
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)  # while it is held: nobody else can hold this very file
        file.close()
        with suppress(OSError):  # only empty folders that this very call has made
            for path in made:
                path.rmdir()


def _held(out: Path) -> TextIO:
    """The lock of a folder, open; whoever got hold of one that was removed meanwhile tries again."""
    while True:
        file = (out / LOCK).open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_ino == (out / LOCK).stat().st_ino:
                return file
        except FileNotFoundError:
            pass
        except OSError:
            file.close()
            raise InvalidRun(
                f"Another process is training in `{out}`. Wait for it, or choose another folder."
            ) from None
        file.close()
