"""Files that appear whole or not at all: whatever happens while one is written, the old file or none is what is there."""

import os
import tempfile
from pathlib import Path

JSON_SCHEMA = 1
"""Version of the keys that commands print with `--json`; it grows when a key changes its meaning or goes."""


def write_bytes(path: str | os.PathLike[str], *contents: bytes) -> None:
    """Writes a file, one piece after the other; a failure or an interrupt leaves nothing behind.

    Raises:
        OSError: with the name of the file, also where the disk is full.
    """
    path = Path(path)
    handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines(contents)
        Path(part).chmod(0o666 & ~_umask())
        os.replace(part, path)
    except BaseException as error:
        Path(part).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """The same with text, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
