"""What all tables for people share: the console, the columns, and numbers rounded outward."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sdplip.arithmetic import decimals
from sdplip.lines import command, folded, room

WIDTH = 160
"""Columns when the output is no terminal."""

WIDE, NARROW = 3, 2
"""Columns between two columns of a table."""

INDENT = 2
"""Of rows below their first cell."""


def open_console() -> Console:
    return Console(width=room(sys.stdout) or WIDTH, markup=False, highlight=False, emoji=False)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Prints sentences, folded where people see them."""
    console.print(folded(text, room(sys.stdout)), style=style, soft_wrap=True)


def say_command(console: Console, text: str, words: str) -> None:
    """Prints a sentence that ends with a shell command, which gets lines of its own where it does not fit behind it."""
    width = room(sys.stdout)
    if width is None or len(text) + 1 + len(words) <= width:
        console.print(f"{text} {words}", soft_wrap=True)
        return
    say(console, text)
    console.print(command(words, width), soft_wrap=True)


@dataclass(frozen=True)
class Grid:
    """A table whose cells stay whole. Where it is too wide it comes closer together; then columns that are spare go; then the first
    column stands above the others; at last it becomes several tables with the first column in each.

    Attributes:
        titles: of the columns.
        left: of each column, whether it is text.
        spare: columns that may go, the first of them first.
        rows: cells and style of each row.
    """

    titles: tuple[str, ...]
    left: tuple[bool, ...]
    spare: tuple[int, ...] = ()
    rows: list[tuple[tuple[str | Text, ...], str | None]] = field(default_factory=list)

    def add_row(self, *cells: str | Text, style: str | None = None) -> None:
        """Cells that are missing at the end stay empty."""
        self.rows.append(((*cells, *[""] * (len(self.titles) - len(cells))), style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        most = options.max_width
        every = range(len(self.titles))
        fewer = [[k for k in every if k not in self.spare[:gone]] for gone in range(len(self.spare) + 1)]
        for columns in fewer:
            for gap in (WIDE, NARROW) if len(columns) == len(every) else (NARROW,):
                if self._span(columns, gap) <= most:
                    yield self._table(self._widths(columns, most, gap), gap)
                    yield from self._gone(columns, most)
                    return
        for columns in fewer:
            for gap in (WIDE, NARROW):
                if self._span(columns[1:], gap) <= most - INDENT:
                    yield from self._stacked(columns[1:], most, gap, console, options)
                    yield from self._gone(columns, most)
                    return
        for group in self._groups(most):
            yield self._table(self._widths(group, most, WIDE), WIDE)

    def _gone(self, columns: Sequence[int], most: int) -> Iterator[Text]:
        titles = [title for k, title in enumerate(self.titles) if k not in columns]
        if titles:
            words = f"Not shown: {', '.join(titles)}. Widen the terminal, or use --json.\n"
            yield Text(folded(words, most), "dim")

    def _stacked(
        self, columns: Sequence[int], most: int, gap: int, console: Console, options: ConsoleOptions
    ) -> RenderResult:
        """The table of the other columns, with the first cell above each row."""
        widths = self._widths(columns, most - INDENT, gap)
        lines = console.render_lines(self._table(widths, gap), options, pad=False)
        end = len(lines) - 1 - len(self.rows)  # a row is a line, and the last line is empty
        for k, line in enumerate(lines):
            if 0 <= k - end < len(self.rows):
                yield Text(f" {self.rows[k - end][0][0]}", overflow="fold")
            yield Segment(" " * INDENT)
            yield from line
            yield Segment.line()

    def _groups(self, most: int) -> list[list[int]]:
        """Columns that fit side by side, the first one with each."""
        groups = [[0]]
        for k in range(1, len(self.titles)):
            if len(groups[-1]) > 1 and self._span([*groups[-1], k], WIDE) > most:
                groups.append([0])
            groups[-1].append(k)
        return groups

    def _span(self, columns: Sequence[int], gap: int) -> int:
        """Characters of a line; the first column may be folded to half of the room."""
        return sum(map(self._width, columns)) + gap * (len(columns) - 1) + 2

    def _widths(self, columns: Sequence[int], most: int, gap: int) -> dict[int, int]:
        """Of each column: its cells, and titles on one line as far as there is room."""
        widths = {k: self._width(k) for k in columns}
        if 0 in widths and self._span(columns, gap) > most:
            widths[0] = min(widths[0], max(20, most // 2))
        left = most - 2 - sum(widths.values()) - gap * (len(widths) - 1)
        for k in widths:
            more = min(len(self.titles[k]) - widths[k], left)
            if more > 0:
                widths[k], left = widths[k] + more, left - more
        return widths

    def _width(self, column: int) -> int:
        """Characters of the longest cell or word of the title."""
        cells = [len(cells[column]) for cells, _ in self.rows]
        return max([*cells, *map(len, self.titles[column].split())], default=1)

    def _table(self, widths: dict[int, int], gap: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=gap == NARROW)
        for k, width in widths.items():
            side = "left" if self.left[k] else "right"
            table.add_column(self.titles[k], overflow="fold", justify=side, width=width)
        for cells, style in self.rows:
            table.add_row(*(cells[k] for k in widths), style=style)
        return table


def open_table(*left: str, spare: Sequence[str] = (), **right: str) -> Grid:
    """Columns of text, then columns of numbers (titles from the keyword where the value is empty); those of `spare` may go."""
    text = ("verdict", "reason", "form", "scaling")
    titles = (*left, *(title or key for key, title in right.items()))
    keys = [*left, *right]
    sides = (*(True for _ in left), *(key in text for key in right))
    return Grid(titles, sides, tuple(keys.index(name) for name in spare))


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
