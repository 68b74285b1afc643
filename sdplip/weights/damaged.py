"""What a parser raises on a broken file, said in one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdplip.errors import SdplipError, UnreadableFile


@contextmanager
def refuse_damaged(path: Path, form: str) -> Iterator[None]:
    """A block that parses `path`; whatever the parser raises leaves it as UnreadableFile, without the parser's traceback."""
    try:
        yield
    except SdplipError:
        raise
    except (
        Exception
    ) as error:  # a parser of foreign bytes raises anything: struct, zlib, Value, Type, Index, Memory, ...
        reason = next(iter(str(error).splitlines()), "").strip().rstrip(".:") or type(error).__name__
        raise UnreadableFile(
            f"`{path}` is truncated or damaged: it cannot be read as {form} ({reason}). Copy or save the file again."
        ) from None
