"""What all tables for people share: the console, the columns, and numbers rounded outward."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from sdplip.arithmetic import decimals

WIDTH = 160
"""Columns when the output is no terminal."""


def json_lines(document: dict[str, Any]) -> None:
    """Prints the document as JSON, without NaN or infinity, which JSON does not know."""
    print(json.dumps(document, indent=2, allow_nan=False))


def open_console() -> Console:
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(width=wide, markup=False, highlight=False, emoji=False)


def open_table(*left: str, **right: str) -> Table:
    """Columns of text, then columns of numbers (titles from the keyword where the value is empty)."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in left:
        table.add_column(title, overflow="fold")
    for key, title in right.items():
        text = key in ("verdict", "reason", "form", "scaling")
        table.add_column(title or key, justify="left" if text else "right", overflow="fold")
    return table


def shape_of(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def above(x: float, digits: int = 7) -> str:
    """`x` in decimal, rounded up; within 1e-5 of 1 as `1 + 2e-13`."""
    return f"1 {_sign(x)} {_rest(x, up=True)}" if 0 < abs(x - 1) < 1e-5 else decimals.above(x, digits)


def below(x: float, digits: int = 7) -> str:
    """`x` in decimal, rounded down, likewise."""
    return f"1 {_sign(x)} {_rest(x, up=False)}" if 0 < abs(x - 1) < 1e-5 else decimals.below(x, digits)


def interval(lower: float, upper: float) -> str:
    """The interval rounded outward."""
    return f"[{below(lower)}, {above(upper)}]"


def _sign(x: float) -> str:
    return "+" if x > 1 else "-"


def _rest(x: float, *, up: bool) -> str:
    """The distance from 1, which is exact, to one digit outward."""
    return (decimals.above if up == (x > 1) else decimals.below)(abs(x - 1), 1)
