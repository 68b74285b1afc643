"""Curves as figures: certified accuracy over radius, a training run, singular values."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from sdplip.arithmetic.decimals import percent_above, percent_below
from sdplip.html.charts import DASHES, INK, Axis, Series, chart
from sdplip.html.elements import Node

if TYPE_CHECKING:
    from sdplip.reports import LayerComparison
    from sdplip.robustness.curve import Curve
    from sdplip.training.metrics import Line

POINTS, PLACES = 400, 100
"""Places at which a curve is drawn, and at which it says its value under the pointer."""
LEAST = 0.005
"""The axis ends where the curve falls below this accuracy."""


def certified_chart(curve: "Curve", proven: str = "certified: proven") -> Node:
    """Certified accuracy, and what attacks leave: the truth lies between. Drawn from below where there are too many steps.

    `proven` is the name of the lower side, which whoever has only read it in a file must not call proven.
    """
    end = _end(curve)
    grid = np.linspace(0, end, POINTS + 1)
    at = curve.accuracy[np.searchsorted(curve.radii, grid, side="right") - 1]
    solid = list(
        zip(grid[:-1].tolist(), at[1:].tolist(), strict=True)
    )  # the least value until the next place
    series = [Series(proven, solid, "steps")]
    if curve.attacks:
        names = ", ".join(dict.fromkeys(point.attack for point in curve.attacks))
        series.append(Series(f"after attack ({names}): an upper side", curve.upper_side, "steps", 1, "6 3"))
        marks = [(point.eps, point.accuracy) for point in curve.attacks]
        series.append(Series("attacked radii", marks, "marks", 1))
    top = min(1.0, 1.08 * curve.clean) or 1.0
    x = Axis("radius r (l2 distance of inputs)", 0.0, end)
    return chart(
        series,
        x,
        Axis("right and certified beyond r", 0.0, top, True),
        _hover(curve, end, proven.partition(":")[0]),
    )


def _end(curve: "Curve") -> float:
    """The largest radius that has something to show."""
    last = float(curve.radii[min(int((curve.accuracy >= LEAST).sum()), len(curve.radii) - 1)])
    return 1.04 * max([last, *(point.eps for point in curve.attacks)]) or 1.0


def _hover(curve: "Curve", end: float, word: str) -> list[tuple[float, str]]:
    digits = max(0, 3 - math.floor(math.log10(end)) - 1)
    said = []
    for place in dict.fromkeys(f"{end * k / PLACES:.{digits}f}" for k in range(PLACES + 1)):
        words = f"r = {place}: {word} {percent_below(curve.at(place))}"
        if curve.attacks:
            left = min(a for r, a in curve.upper_side if Fraction(r) <= Fraction(place))
            words += f", truth at most {percent_above(left)}"
        said.append((float(place), words))
    return said


def training_charts(metrics: "Sequence[Line]") -> list[Node]:
    """Loss, and the monitored accuracies of the validation split, over epochs."""
    epochs = [float(line.epoch) for line in metrics]
    if len(epochs) < 2:
        return []
    x = Axis("epoch", min(0.0, epochs[0]), epochs[-1])
    figures = []
    losses = [line.loss for line in metrics]
    finite = [v for v in losses if math.isfinite(v)]
    if finite:
        low, high = min(0.0, *finite), max(finite)
        hover = [(e, f"epoch {e:g}: loss {v:.4g}") for e, v in zip(epochs, losses, strict=True)]
        shown = [(e, v) for e, v in zip(epochs, losses, strict=True) if math.isfinite(v)]
        figures.append(
            chart([Series("training loss", shown)], x, Axis("loss", low, high + (high == low)), _thin(hover))
        )
    judged = [line for line in metrics if line.clean is not None and line.certified is not None]
    if len(judged) > 1:
        at = [float(line.epoch) for line in judged]
        eps = f"{judged[-1].eps:.4g}"
        names = {"clean": "clean", "certified": f"certified at {eps} as monitored (an estimate)"}
        series = [
            Series(
                name,
                list(zip(at, [vars(line)[key] for line in judged], strict=True)),
                colour=k,
                dash=DASHES[k],
            )
            for k, (key, name) in enumerate(names.items())
        ]
        hover = [
            (e, f"epoch {e:g}: clean {line.clean:.1%}, certified {line.certified:.1%}")
            for e, line in zip(at, judged, strict=True)
        ]
        figures.append(chart(series, x, Axis("share of the validation images", 0.0, 1.0, True), _thin(hover)))
    return figures


def spectra_chart(layer: "LayerComparison") -> Node:
    r"""Singular values of $W T^{-1/2}$ of every scaling, largest first. Floating point."""
    series, top = list[Series](), 1.0
    for k, row in enumerate(layer.rows):
        s = row.spectrum.singular_values
        s = s if len(s) > 1 else np.repeat(s, 2)
        keep = np.unique(np.linspace(0, len(s) - 1, min(len(s), 200)).round().astype(int))
        points = [(float(i) / (len(s) - 1), float(s[i])) for i in keep]
        best = row.optimum is not None
        look = (INK, None) if best else (k, DASHES[k % len(DASHES)])
        series.append(Series(row.name, points, colour=look[0], dash=look[1]))
        top = max(top, float(s[0]))
    x = Axis("share of the singular values, largest first", 0.0, 1.0, True)
    return chart(series, x, Axis("singular values of W T^(-1/2)", 0.0, 1.05 * top), _spectra_hover(layer))


def _spectra_hover(layer: "LayerComparison") -> list[tuple[float, str]]:
    """The optimum beside the range of the others: all of them would not fit into a line."""
    said = []
    for k in range(41):
        values = [(row, row.spectrum.singular_values) for row in layer.rows]
        at = [(row, float(s[round(k / 40 * (len(s) - 1))])) for row, s in values]
        best = ", ".join(f"{row.name} {s:.3f}" for row, s in at if row.optimum is not None)
        rest = [s for row, s in at if row.optimum is None]
        others = f", others {min(rest):.3f} to {max(rest):.3f}" if rest else ""
        said.append((k / 40, f"{100 * k / 40:g}%: {best}{others}"))
    return said


def _thin(hover: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    every = list(hover)
    step = max(1, len(every) // PLACES)
    return every[::step]
