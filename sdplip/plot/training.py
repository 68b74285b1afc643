"""Training curves of a run."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sdplip.errors import InvalidRun
from sdplip.plot.style import INK, PALETTE, blank, quiet
from sdplip.training.metrics import Line, read_lines
from sdplip.training.run import RunSummary


def draw_run(run: RunSummary) -> Figure:
    """The training curves of the folder of a run.

    Raises:
        InvalidRun: it holds no metrics.
    """
    lines = read_lines(Path(run.folder))
    if not lines:
        raise InvalidRun(f"`{run.folder}` holds no `metrics.jsonl`, so there are no curves. Train again.")
    return draw_training(lines)


def draw_training(lines: Sequence[Line]) -> Figure:
    """Loss, and the monitored accuracies of the validation split (estimates, not proofs), over epochs."""
    figure = blank(9, 3.4)
    left, right = figure.subplots(1, 2)
    epochs = [line.epoch for line in lines]
    left.plot(epochs, [line.loss for line in lines], color=PALETTE[0], linewidth=1.7)
    left.set_title("training loss", fontsize=10, color=INK)
    judged = [line for line in lines if line.clean is not None and line.certified is not None]
    at = [line.epoch for line in judged]
    right.plot(at, [line.clean or 0.0 for line in judged], color=PALETTE[0], linewidth=1.7, label="clean")
    eps = f"certified at {lines[-1].eps:.4g}, as monitored"
    certified = [line.certified or 0.0 for line in judged]
    right.plot(at, certified, color=PALETTE[1], linewidth=1.7, linestyle=(0, (6, 2)), label=eps)
    right.set_ylim(0, 1)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_title("validation images", fontsize=10, color=INK)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    for axes in (left, right):
        axes.set_xlabel("epoch", fontsize=9, color=INK)
        quiet(axes)
    return figure
