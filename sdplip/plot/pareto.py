"""The front of a sweep: clean against certified accuracy on the validation split."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sdplip.plot.style import INK, PALE, PALETTE, blank, quiet, short
from sdplip.training.trials import Sweep, Trial


def draw_front(found: Sweep) -> Figure:
    """One mark a trial, filled where it is on the front, which a line joins; a ring around the chosen one."""
    figure = blank(7, 4.6)
    axes = figure.subplots()
    known = [trial for trial in found.trials if trial.clean is not None and trial.certified is not None]
    front = sorted((trial for trial in known if trial.front), key=_place)
    axes.plot(*_points(front), color=PALETTE[0], linewidth=1.4, zorder=2)
    axes.plot(*_points(front), color=PALETTE[0], marker="o", linestyle="none", label="front", zorder=3)
    behind = [trial for trial in known if not trial.front]
    if behind:
        axes.plot(
            *_points(behind),
            color=PALETTE[1],
            marker="s",
            fillstyle="none",
            linestyle="none",
            label="behind it",
            zorder=3,
        )
    if found.chosen is not None:
        axes.plot(
            *_points([found.chosen]),
            color=INK,
            marker="o",
            markersize=13,
            fillstyle="none",
            linestyle="none",
            label="chosen",
            zorder=4,
        )
    keys = {key for trial in known for key in trial.values}
    for trial in known:
        words = ", ".join(trial.values.values()) if len(keys) == 1 else trial.name
        axes.annotate(
            short(words, 40), _place(trial), xytext=(7, 7), textcoords="offset points", fontsize=8, color=INK
        )
    axes.margins(0.15)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    named = f" (labels: {next(iter(keys))})" if len(keys) == 1 else ""
    axes.set_xlabel(f"right on the validation split{named}", fontsize=9, color=INK)
    axes.set_ylabel(f"certified beyond {found.eps:.4g}, proven", fontsize=9, color=INK)
    axes.grid(color=PALE, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    quiet(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
    return figure


def _place(trial: Trial) -> tuple[float, float]:
    return trial.clean or 0.0, trial.certified or 0.0


def _points(trials: list[Trial]) -> tuple[list[float], list[float]]:
    places = list(map(_place, trials))
    return [x for x, _ in places], [y for _, y in places]
