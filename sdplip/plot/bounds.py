"""Proven Lipschitz bounds of one network, method by method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from sdplip.arithmetic.decimals import above, below
from sdplip.bounds.answer import NetworkBound
from sdplip.plot.style import INK, PALE, PALETTE, blank, quiet, short


@dataclass(frozen=True)
class Row:
    """A method's bound, where there is no more of it; `seconds` None: not known."""

    method: str
    bound: float
    seconds: float | None
    lower: float


def draw_methods(found: NetworkBound) -> Figure:
    """One row for each method of one `NetworkBound`, best last."""
    took = {tried.method: tried.seconds for tried in found.tried}
    values = found.others or {found.method: found.bound}
    order = sorted(values.items(), key=lambda row: -row[1])
    rows = [Row(name, value, took.get(name), found.lower) for name, value in order]
    return draw_bounds(rows, f"{found.goal.network.inputs} inputs, {found.goal.network.outputs} outputs")


def draw_bounds(results: Sequence[NetworkBound | Row], title: str) -> Figure:
    """One row a method: its proven bound, and how far it stands above the largest Jacobian that was found.

    The axis is logarithmic unless a bound is 0. The line is the lower side of the true constant: no bound can come below it.
    """
    figure = blank(8, 0.42 * len(results) + 1.5)
    axes = figure.subplots()
    lower = max((result.lower for result in results), default=0.0)
    values = [result.bound for result in results]
    places = range(len(results) - 1, -1, -1)
    best = min(values)
    logarithmic = best > 0 and all(map(math.isfinite, values))
    start = lower if lower > 0 or not logarithmic else best
    if logarithmic:
        axes.set_xscale("log")
    for place, result in zip(places, results, strict=True):
        colour = PALETTE[0] if result.bound == best else INK
        axes.plot([start, result.bound], [place, place], color=PALE, linewidth=2, zorder=1)
        axes.plot([result.bound], [place], "o", color=colour, markersize=8, zorder=3)
        axes.annotate(
            above(result.bound, 5) + ("" if result.seconds is None else f"  ({result.seconds:.2g} s)"),
            (result.bound, place),
            xytext=(9, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
            fontweight="bold" if result.bound == best else "normal",
        )
    if lower > 0:
        axes.axvline(lower, color="black", linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
        axes.annotate(
            f"largest Jacobian found: {below(lower, 5)}",
            (lower, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="left",
            fontsize=9,
            color=INK,
        )
    _limits(axes, start, max(values), logarithmic=logarithmic)
    axes.set_ylim(-0.6, len(results) - 0.4)
    axes.set_yticks(list(places), [result.method for result in results])
    axes.set_xlabel("proven Lipschitz bound, the lower the better", fontsize=9, color=INK)
    axes.set_title(short(title, 90), fontsize=10, color=INK, loc="left", pad=18)
    quiet(axes)
    return figure


def _limits(axes: Axes, start: float, largest: float, *, logarithmic: bool) -> None:
    """Room for the numbers on the right, and ticks in plain digits also within one decade."""
    if not logarithmic:
        axes.set_xlim(min(start, 0), 1.4 * largest or 1.0)
        return
    span = max(math.log(largest / start), 0.05)
    axes.set_xlim(start * math.exp(-0.04 * span), largest * math.exp(0.4 * span))
    if span < math.log(4):
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span < math.log(1e4) else (1.0,)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
