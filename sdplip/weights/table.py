"""One matrix as text: numbers with commas, semicolons, tabs or spaces between them, a row a line."""

import re
from pathlib import Path

import numpy as np

from sdplip.shapes import Float
from sdplip.weights.content import content
from sdplip.weights.damaged import refuse_damaged


def arrays(path: Path) -> dict[str, Float[np.ndarray, "m n"]]:
    """`{"": matrix}` in float64; empty lines and what follows `#` are left out.

    Raises:
        UnreadableFile: headings, words, rows of different lengths.
    """
    with refuse_damaged(path, "a table of numbers"):
        lines = content(path).decode("utf-8-sig").splitlines()
        rows = [_row(k, text) for k, line in enumerate(lines, 1) if (text := line.partition("#")[0].strip())]
        if len({len(row) for row in rows}) > 1:
            raise ValueError("its rows have different lengths")
        return {"": np.array(rows)} if rows else {}


def _row(number: int, text: str) -> list[float]:
    parts = re.split(r"\s*[,;\t]\s*|\s+", text.rstrip(",;\t "))
    try:
        return [float(part) for part in parts]
    except ValueError:
        word = next(part for part in parts if not _is_number(part))
        raise ValueError(f"line {number} holds {word[:20]!r}, which is no number") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
