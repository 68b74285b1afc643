"""Certified accuracy over radius."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from sdplip.plot.style import INK, MARKS, PALE, PALETTE, blank, quiet, short
from sdplip.robustness.curve import Curve
from sdplip.robustness.published import PublishedRow

SHAPES = ("X", "*", "p", "h", "<", ">", "d", "8", "H", "s")
"""Marks of published rows: other ones than those of the curves, as far as they go."""

LEAST = 0.005
"""Without a given radius the axis ends where the last curve falls below this accuracy."""


def draw_curves(
    curves: Sequence[Curve], references: Sequence[PublishedRow] = (), *, max_radius: float | None = None
) -> Figure:
    """Solid steps: certified. Dashed steps: what attacks leave, so that the truth lies between. Marks: published rows.

    Hollow marks are rows that are not certified. Curves differ by colour and by their mark, so the figure reads in grey.

    Args:
        max_radius: where the axis ends; by default where everything of interest has ended.
    """
    figure = blank(9, 4.8)
    axes = figure.subplots()
    end = max_radius or _end(curves, references)
    handles = [_draw_curve(axes, curve, i, len(curves), end) for i, curve in enumerate(curves)]
    names = dict.fromkeys(point.attack for curve in curves for point in curve.attacks)
    if names:
        label = f"after attack ({', '.join(map(short, names))}): an upper side"
        handles.append(Line2D([], [], color=PALE, linestyle=(0, (5, 3)), linewidth=1.2, label=label))
    handles += [_draw_reference(axes, row, i, end) for i, row in enumerate(references)]
    axes.set_xlim(0, end)
    axes.set_ylim(0, _top(curves, references))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("radius r (l2, images in [0, 1])", fontsize=10, color=INK)
    axes.set_ylabel("correct and certified beyond r", fontsize=10, color=INK)
    axes.grid(color=PALE, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    quiet(axes)
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8.5)
    return figure


def _draw_curve(axes: Axes, curve: Curve, i: int, among: int, end: float) -> Line2D:
    colour, mark = PALETTE[i % len(PALETTE)], MARKS[(i + i // len(PALETTE)) % len(MARKS)]
    x, y = np.append(curve.radii, np.inf), np.append(curve.accuracy, curve.accuracy[-1])
    axes.plot(np.minimum(x, 2 * end), y, color=colour, linewidth=1.7, drawstyle="steps-post", zorder=3)
    places = end * (np.arange(6) + (i + 0.5) / among) / 6  # the curves take turns, so marks do not meet
    heights = [curve.at(float(r)) for r in places]
    axes.plot(places, heights, color=colour, marker=mark, linestyle="none", markersize=5, zorder=4)
    if curve.attacks:
        upper, hollow = curve.upper_side, {"markerfacecolor": "white", "markersize": 5, "linestyle": "none"}
        radii, left = [r for r, _ in upper], [accuracy for _, accuracy in upper]
        axes.plot(
            np.minimum([*radii, np.inf], 2 * end), [*left, left[-1]], color=colour, linewidth=1.2,
            linestyle=(0, (5, 3)), drawstyle="steps-post", zorder=2.5,
        )  # fmt: skip
        eps, accuracy = [p.eps for p in curve.attacks], [p.accuracy for p in curve.attacks]
        axes.plot(eps, accuracy, color=colour, marker=mark, zorder=4.5, **hollow)  # pyright: ignore[reportArgumentType]
    return Line2D([], [], color=colour, marker=mark, markersize=5, linewidth=1.7, label=_legend(curve))


def _legend(curve: Curve) -> str:
    """The name; of certificates with a probability that and the cost on a line below."""
    return short(curve.name, 44) + curve.label.removeprefix(curve.name).replace(" (", "\n(", 1)


def _draw_reference(axes: Axes, row: PublishedRow, i: int, end: float) -> Line2D:
    points = [(0.0, row.clean)] if row.clean is not None else []
    points += [(float(Fraction(r)), percent) for r, percent in row.certified if Fraction(r) <= Fraction(end)]
    inside = "white" if row.doubt else INK
    shape = SHAPES[i % len(SHAPES)]
    x, y = [r for r, _ in points], [percent / 100 for _, percent in points]
    axes.plot(x, y, color=PALE, linewidth=0.7, linestyle=(0, (1, 2)), zorder=1.5)
    label = f"{row.model}, {'not certified' if row.doubt else 'published'}{' *' if row.extra_data else ''}"
    edge = INK if row.doubt else "white"  # so that filled marks on top of each other stay apart
    style = {"marker": shape, "markersize": 7.5, "markerfacecolor": inside, "markeredgecolor": edge}
    (marks,) = axes.plot(x, y, linestyle="none", clip_on=False, zorder=5, label=label, **style)  # pyright: ignore[reportArgumentType]
    return marks


def _end(curves: Sequence[Curve], references: Sequence[PublishedRow]) -> float:
    """The largest radius that has something to show."""
    ends = [float(Fraction(r)) for row in references for r, _ in row.certified]
    for curve in curves:
        ends += [point.eps for point in curve.attacks]
        ends.append(float(curve.radii[min(int((curve.accuracy >= LEAST).sum()), len(curve.radii) - 1)]))
    return 1.04 * max(ends, default=0.0) or 1.0


def _top(curves: Sequence[Curve], references: Sequence[PublishedRow]) -> float:
    highest = [curve.clean for curve in curves] + [(row.clean or 0) / 100 for row in references]
    return min(1.0, 1.08 * max(highest, default=1.0)) or 1.0
