"""What all tables for people share: the console, the columns, and numbers rounded outward."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from sdplip.arithmetic import decimals

WIDTH = 160
"""Columns when the output is no terminal."""


def open_console() -> Console:
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(width=wide, markup=False, highlight=False, emoji=False)


GAP = 3
"""Columns between two columns of a table."""


@dataclass(frozen=True)
class Grid:
    """A table whose cells stay whole: where it is too wide for the terminal, it becomes several with the first column in each.

    Attributes:
        titles: of the columns.
        left: of each column, whether it is text.
        rows: cells and style of each row.
    """

    titles: tuple[str, ...]
    left: tuple[bool, ...]
    rows: list[tuple[tuple[str | Text, ...], str | None]] = field(default_factory=list)

    def add_row(self, *cells: str | Text, style: str | None = None) -> None:
        """Cells that are missing at the end stay empty."""
        self.rows.append(((*cells, *[""] * (len(self.titles) - len(cells))), style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        for group in self._groups(options.max_width):
            yield self._table(group)

    def _groups(self, room: int) -> list[dict[int, int]]:
        """Columns that fit side by side, the first one with each, and their widths."""
        first = min(self._width(0), max(20, room // 2))
        groups, left = [{0: first}], room - first - 2
        for k in range(1, len(self.titles)):
            wide = self._width(k)
            if len(groups[-1]) > 1 and left < wide + GAP:
                groups.append({0: first})
                left = room - first - 2
            groups[-1][k] = wide
            left -= wide + GAP
        for group in groups:  # titles on one line as far as there is room
            left = room - 2 - sum(group.values()) - GAP * (len(group) - 1)
            for k in group:
                more = min(len(self.titles[k]) - group[k], left)
                if more > 0:
                    group[k], left = group[k] + more, left - more
        return groups

    def _width(self, column: int) -> int:
        """Characters of the longest cell or word of the title."""
        cells = [len(cells[column]) for cells, _ in self.rows]
        return max([*cells, *map(len, self.titles[column].split())], default=1)

    def _table(self, group: dict[int, int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for k, width in group.items():
            side = "left" if self.left[k] else "right"
            table.add_column(self.titles[k], overflow="fold", justify=side, width=width)
        for cells, style in self.rows:
            table.add_row(*(cells[k] for k in group), style=style)
        return table


def open_table(*left: str, **right: str) -> Grid:
    """Columns of text, then columns of numbers (titles from the keyword where the value is empty)."""
    text = ("verdict", "reason", "form", "scaling")
    titles = (*left, *(title or key for key, title in right.items()))
    return Grid(titles, (*(True for _ in left), *(key in text for key in right)))


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
