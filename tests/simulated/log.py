"""What a GPU would have done: waits of the host, kernels, and the lines of sdplip behind them."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Log:
    """What a GPU would have done.

    Attributes:
        waits: how often the host waited, by kind and line.
        launches: kernels, by line.
        wide: products of matrices and convolutions in double precision, by line.
    """

    waits: Counter[tuple[str, str]] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    wide: Counter[str] = field(default_factory=Counter)


_log: Log | None = None


@contextmanager
def logged() -> Iterator[Log]:
    """A block whose waits and launches are counted."""
    global _log
    _log = Log()
    try:
        yield _log
    finally:
        _log = None


def line() -> str:
    """The innermost line of sdplip that led here."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/sdplip/" in name:
            return f"{name.rpartition('/sdplip/')[2]}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "torch"


def wait(kind: str) -> None:
    if _log is not None:
        _log.waits[kind, line()] += 1


def launched() -> None:
    """A kernel."""
    if _log is not None:
        _log.launches[line()] += 1


def multiplied_wide() -> None:
    """A product in double precision."""
    if _log is not None:
        _log.wide[line()] += 1
