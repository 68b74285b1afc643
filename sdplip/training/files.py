"""Files of a run, each written whole or not at all."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from sdplip.errors import InvalidRun, OutOfResources


def write_atomic(path: Path, contents: bytes) -> None:
    """Write `contents` to `path`: whoever reads it sees the old file or the new one, whatever happens in between.

    Raises:
        OutOfResources: the disk is full; the old file is as it was.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise disk_error(error, path, len(contents)) from None
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def disk_error(error: OSError, path: Path, size: int) -> Exception:
    """What to raise for an error of writing to `path`: a full disk gets its own sentence."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    return OutOfResources(
        f"The disk is full: {size / 2**20:.1f} MiB for `{path}` were not written, and earlier files of the run are intact."
        " Free space, and run the same command again to go on."
    )


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write one JSON document, atomically."""
    write_atomic(path, (json.dumps(document, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON document.

    Raises:
        InvalidRun: it is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidRun(f"`{path}` is damaged ({error}). Delete the folder and train again.") from None
    if not isinstance(document, dict):
        raise InvalidRun(f"`{path}` is no JSON object. Delete the folder and train again.")
    return document
