"""Small figures in SVG: steps, lines and marks over two axes, and bars. They show values under the pointer without a script."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from sdplip.html.elements import Node, tag

WIDE, HIGH = 480.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 20.0, 24.0, 40.0
"""Margins; what is under the pointer is said in the upper one, where nothing is drawn."""
Place = Callable[[float], float]
"""From a value to a place in the figure."""
COLOURS, INK = 6, -1
DASHES = (None, "6 3", "2 2", "8 3 2 3", "1 3", "10 4")


@dataclass(frozen=True)
class Series:
    """What is drawn of one name.

    Attributes:
        kind: "steps" hold from a point to the next, "line" connects points, "marks" are hollow circles.
        colour: number of a colour of the sheet, or `INK`.
        dash: as SVG has it; None is solid.
    """

    name: str
    points: Sequence[tuple[float, float]]
    kind: Literal["steps", "line", "marks"] = "line"
    colour: int = 0
    dash: str | None = None

    @property
    def style(self) -> str:
        colour = "--ink" if self.colour == INK else f"--c{self.colour % COLOURS}"
        return f"stroke:var({colour});fill:none;stroke-width:1.8"


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`."""

    title: str
    low: float
    high: float
    percent: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 to 1 on the axis."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round numbers, five or so."""
        rough = (self.high - self.low) / 7
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * k for k in (1, 2, 5, 10) if size * k >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def word(self, value: float) -> str:
        return f"{100 * value:.6g}%" if self.percent else f"{value + 0.0:.6g}"


def chart(series: Sequence[Series], x: Axis, y: Axis, hover: Sequence[tuple[float, str]] = ()) -> Node:
    """The figure; `hover` says at which places of the x axis which words appear under the pointer."""
    right, bottom = WIDE - RIGHT, HIGH - BOTTOM

    def across(value: float) -> float:
        return LEFT + (right - LEFT) * min(1.0, max(0.0, x.share(value)))

    def down(value: float) -> float:
        return bottom - (bottom - TOP) * min(1.0, max(0.0, y.share(value)))

    parts = [_frame(x, y, across, down)]
    parts += [_drawn(one, x, across, down) for one in series]
    parts += _strips(hover, across, bottom)
    names = ", ".join(one.name for one in series)
    svg = tag("svg", *parts, viewBox=f"0 0 {WIDE:g} {HIGH:g}", role="img", aria_label=f"{y.title} over {x.title}: {names}")  # fmt: skip
    return tag("figure", svg, legend(series))


def legend(series: Sequence[Series]) -> Node:
    """One sample and name each."""

    def one(item: Series) -> Node:
        line = tag("line", x1=0, x2=26, y1=5, y2=5, style=item.style, stroke_dasharray=item.dash)
        dot = tag("circle", cx=13, cy=5, r=3.5, style=f"{item.style};fill:var(--paper)")
        sample = tag("svg", dot if item.kind == "marks" else line, viewBox="0 0 26 10", aria_hidden="true")
        return tag("span", sample, item.name)

    return tag("figcaption", tag("div", *map(one, series), class_="legend"))


def _frame(x: Axis, y: Axis, across: Place, down: Place) -> Node:
    right, bottom = WIDE - RIGHT, HIGH - BOTTOM
    parts = []
    for value in y.ticks():
        at = down(value)
        parts.append(tag("line", x1=LEFT, x2=right, y1=at, y2=at, class_="rule"))
        parts.append(tag("text", y.word(value), x=LEFT - 5, y=at + 4, text_anchor="end", class_="soft"))
    for value in x.ticks():
        at = across(value)
        parts.append(tag("text", x.word(value), x=at, y=bottom + 16, text_anchor="middle", class_="soft"))
    parts.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(tag("text", x.title, x=right, y=bottom + 34, text_anchor="end"))
    parts.append(tag("text", y.title, x=4, y=14, class_="title"))
    return tag("g", *parts)


def _drawn(one: Series, x: Axis, across: Place, down: Place) -> Node:
    if one.kind == "marks":
        style = f"{one.style};fill:var(--paper)"
        inside = [(a, b) for a, b in one.points if x.low <= a <= x.high]
        return tag("g", *(tag("circle", cx=across(a), cy=down(b), r=3.8, style=style) for a, b in inside))
    path, last = list[str](), None
    for a, b in one.points:
        here = (across(a), down(b))
        if last is not None and one.kind == "steps":
            path.append(f"H{here[0]:.5g}V{here[1]:.5g}")
        else:
            path.append(f"{'M' if last is None else 'L'}{here[0]:.5g} {here[1]:.5g}")
        last = here
    if one.kind == "steps" and last is not None:
        path.append(f"H{WIDE - RIGHT:g}")
    return tag("path", d="".join(path), style=one.style, stroke_dasharray=one.dash)


def _strips(hover: Sequence[tuple[float, str]], across: Place, bottom: float) -> list[Node]:
    """Invisible strips side by side, each with a line and words that appear under the pointer."""
    places = [across(a) for a, _ in hover]
    ends = [LEFT, *((a + b) / 2 for a, b in pairwise(places)), WIDE - RIGHT]
    strips = []
    for (_, words), place, start, end in zip(hover, places, ends, ends[1:], strict=False):
        strips.append(
            tag(
                "g",
                tag("rect", x=start, y=0, width=max(end - start, 0.5), height=bottom),
                tag("line", x1=place, x2=place, y1=TOP, y2=bottom),
                tag("text", words, x=WIDE - RIGHT, y=14, text_anchor="end"),
                class_="at",
            )
        )
    return strips


def bars(
    rows: Sequence[tuple[str, float, str]],
    strong: int | None = None,
    mark: float | None = None,
    words: str = "",
) -> Node:
    """One horizontal bar a row (name, length, words behind it); `mark` is a dashed line across all, `words` say what it is."""
    step, label, room = 22.0, 120.0, 110.0
    largest = max([value for _, value, _ in rows if math.isfinite(value)] + [mark or 0.0], default=1.0) or 1.0
    high = step * len(rows) + 6

    def across(value: float) -> float:
        return label + (WIDE - label - room) * min(1.0, max(0.0, value / largest))

    parts = []
    for k, (name, value, said) in enumerate(rows):
        y, colour = step * k + 4, "--ink" if k == strong else "--c0"
        shown = name if len(name) <= 17 else "…" + name[-16:]
        parts += [
            tag("text", shown, x=label - 6, y=y + 13, text_anchor="end"),
            tag("rect", x=label, y=y + 2, width=max(1.0, across(value) - label), height=13, style=f"fill:var({colour})"),
            tag("text", said, x=across(value) + 5, y=y + 13),
        ]  # fmt: skip
    if mark is not None:
        at = across(mark)
        parts.append(tag("line", x1=at, x2=at, y1=0, y2=high, class_="axis", stroke_dasharray="4 3"))
    names = ", ".join(f"{name} {said}" for name, _, said in rows)
    svg = tag("svg", *parts, viewBox=f"0 0 {WIDE:g} {high:g}", role="img", aria_label=names)
    return tag("figure", svg, tag("figcaption", words) if mark is not None and words else None)


def spark(values: Sequence[float], words: str) -> Node:
    """Values as one small line, largest first."""
    found = sorted((v for v in values if math.isfinite(v)), reverse=True)
    found = [found[round(k * (len(found) - 1) / 159)] for k in range(160)] if len(found) > 160 else found
    if not found:
        return tag("span")
    found = found * 2 if len(found) == 1 else found
    top, wide, high = max(found) or 1.0, 160.0, 32.0
    path = "M" + "L".join(
        f"{wide * k / (len(found) - 1):.4g} {high - 2 - (high - 4) * max(v, 0.0) / top:.4g}"
        for k, v in enumerate(found)
    )
    line = tag("path", d=path, style="stroke:var(--c0);fill:none;stroke-width:1.5")
    return tag("svg", tag("title", words), line, viewBox=f"0 0 {wide:g} {high:g}", style="width:160px;height:32px")  # fmt: skip
