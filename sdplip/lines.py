"""Lines of text for terminals: folded between words, so that no name and no number is broken."""

import os
import re
import textwrap
from typing import TextIO

LEAST = 20
"""Columns below which nothing is folded."""


def room(stream: TextIO) -> int | None:
    """Columns that people see: `COLUMNS`, else those of the terminal behind `stream`; None where it is no terminal."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else None
    except (OSError, ValueError):  # a stream without a file
        return None


def folded(text: str, width: int | None) -> str:
    """The text in lines of at most `width` characters as far as its words are shorter; branches of trees go on below."""
    if width is None or width < LEAST:
        return text
    return "\n".join(part for line in text.split("\n") for part in _fold(line, width))


def command(words: str, width: int | None) -> str:
    r"""A shell command, continued by ` \` where it is longer than a line."""
    if width is None or width < LEAST or len(words) <= width:
        return words
    lines = textwrap.wrap(
        words, width - 2, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return " \\\n".join(lines)


def _fold(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    found = re.match(r"[\s│├└─-]*", line)
    head = found[0] if found else ""
    below = head.replace("├─", "│ ").replace("└─", "  ").replace("-", " ")
    return textwrap.wrap(
        line[len(head) :],
        width,
        initial_indent=head,
        subsequent_indent=below if not head.strip(" ") else below + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
