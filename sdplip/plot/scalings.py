"""All scalings of each layer beside the proven optimum."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sdplip.plot.style import DASHES, INK, PALE, PALETTE, blank, quiet, short
from sdplip.reports import CompareReport, LayerComparison, Objective, ScalingRow

ROW, LARGEST = 2.5, 400.0
"""Inches of one row, and of the highest figure that Agg can draw."""


def comparison(report: CompareReport) -> Figure:
    """One row a layer: what each scaling costs relative to the proven optimum, and the singular values that it leaves."""
    rows = len(report.layers)
    height = min(ROW * rows + 0.9, LARGEST)
    figure = blank(10, height)
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(1, 1.25))
    for (left, right), layer in zip(grid, report.layers, strict=True):
        styles = _styles(layer.rows)
        _draw_costs(left, layer, styles)
        _draw_spectra(right, layer, styles)
    cost = "trace of T" if report.objective is Objective.TRACE else "geometric mean of T"
    grid[0, 0].set_title(f"{cost}, relative to the proven optimum", fontsize=10, color=INK)
    grid[0, 1].set_title(r"singular values of $W\,T^{-1/2}$ (1 keeps the gradient)", fontsize=10, color=INK)
    grid[-1, 1].set_xlabel("share of the singular values, largest first", fontsize=9, color=INK)
    return figure


def _styles(rows: Sequence[ScalingRow]) -> list[dict[str, object]]:
    """Colour, dash and width of each row; the optimum is a solid black line."""
    styles: list[dict[str, object]] = []
    for i, row in enumerate(rows):
        if row.optimum is not None:
            styles.append({"color": "black", "linestyle": "-", "linewidth": 2.0})
        else:
            styles.append(
                {"color": PALETTE[i % len(PALETTE)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.6}
            )
    return styles


def _draw_costs(axes: Axes, layer: LayerComparison, styles: list[dict[str, object]]) -> None:
    ratios = np.array([layer.ratio(row) for row in layer.rows])
    places = np.arange(len(ratios))[::-1]
    axes.barh(places, ratios, color=[style["color"] for style in styles], height=0.62)
    axes.axvline(1, color="black", linewidth=1, linestyle=(0, (4, 3)))
    room = max(ratios.max(), 1.0)
    for place, ratio in zip(places, ratios, strict=True):
        label = "optimum" if place == 0 else f"{ratio:.2f} ×" if ratio < 1000 else f"{ratio:.1e} ×"
        axes.text(ratio + 0.02 * room, place, label, va="center", fontsize=9, color=INK)
    axes.set_xlim(0, 1.28 * room)
    axes.set_yticks(places, [short(row.name) for row in layer.rows], fontsize=9)
    shape = " × ".join(map(str, layer.layer.weight.array.shape))
    axes.set_ylabel(f"{short(layer.layer.name)}\n{shape}", fontsize=9, color=INK, fontweight="bold")
    quiet(axes)


def _draw_spectra(axes: Axes, layer: LayerComparison, styles: list[dict[str, object]]) -> None:
    top = 1.0
    ends = []
    for row, style in zip(layer.rows, styles, strict=True):
        s = row.spectrum.singular_values
        x = np.linspace(0, 1, len(s)) if len(s) > 1 else np.array([0.0, 1.0])
        y = s if len(s) > 1 else np.repeat(s, 2)
        axes.plot(x, y, **style)  # pyright: ignore[reportArgumentType]
        top = max(top, float(s[0]))
        ends.append(float(y[-1]))
    axes.axhline(1, color=PALE, linewidth=0.8, zorder=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.08 * top)
    for row, style, end, place in zip(layer.rows, styles, ends, _spread(ends, 0.105 * top), strict=True):
        axes.annotate(
            row.name,
            xy=(1, end),
            xytext=(1.05, place),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=9,
            color=str(style["color"]),
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": str(style["color"]),
                "linewidth": 0.7,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 0,
            },
        )
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    quiet(axes)


def _spread(values: Sequence[float], distance: float) -> list[float]:
    """Places near `values`, in the same order, at least `distance` apart and not below the axis."""
    order = np.argsort(values, kind="stable")
    places = np.array(values, dtype=float)
    lowest = floor = 0.3 * distance
    for i in order:
        places[i] = max(places[i], floor)
        floor = places[i] + distance
    centred = (places - values).mean()
    return (places - max(0.0, min(centred, places.min() - lowest))).tolist()
