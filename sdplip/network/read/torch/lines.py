"""Where in a program an operation stands: the innermost line of it that is neither torch's nor ours."""

import contextlib
import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

TORCH = str(Path(torch.__file__).parent)
OURS = str(Path(__file__).parents[3])
BETWEEN = (TORCH, str(Path(__file__).parent), contextlib.__file__, "<frozen", "<string>")
"""Files that stand between a line and what it does."""


@dataclass(frozen=True)
class Line:
    """A line of a program."""

    file: str
    number: int
    text: str

    def __str__(self) -> str:
        return (
            f"{self.file}, line {self.number}: `{self.text}`" if self.text else f"{self.file}:{self.number}"
        )


def current(until: FrameType) -> Line | None:
    """The line that runs now, called by the frame `until`; None if all is torch's or ours.

    Lines of our layers count where no line of another program does.
    """
    frame, ours = sys._getframe(1), None
    while frame is not None and frame is not until:
        name = frame.f_code.co_filename
        if not name.startswith(BETWEEN):
            if not name.startswith(OURS):
                return _line(name, frame.f_lineno)
            ours = ours or _line(name, frame.f_lineno)
        frame = frame.f_back
    return ours


def _line(name: str, number: int) -> Line:
    return Line(Path(name).name, number, linecache.getline(name, number).strip())
