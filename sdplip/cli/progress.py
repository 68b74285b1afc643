"""The progress bar of a long solve: on stderr, only on a terminal, only after two seconds."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdplip.reports import Layer
    from sdplip.reports.optimum import Watch
    from sdplip.solvers import Progress

PATIENCE = 2.0
"""Seconds before a bar appears."""

DIGITS = 8
"""The bar is full when the relative gap is 1e-8; each digit of the gap is an equal part of it."""


@contextmanager
def progress_bar() -> "Iterator[Watch | None]":
    """A callback that draws the gap of a running solve; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.fields[layer]}", markup=False),
        BarColumn(),
        TextColumn("gap {task.fields[gap]:.1e}, {task.fields[seconds]:.0f} s (Ctrl-C keeps the best so far)"),
    )
    bars = Bars(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, int] = {}

    def watch(layer: "Layer", step: "Progress") -> None:
        if step.seconds < PATIENCE:
            return
        bars.start()
        if layer.name not in tasks:
            for old in tasks.values():
                bars.update(bars.task_ids[old], visible=False)
            tasks[layer.name] = len(tasks)
            bars.add_task("", total=DIGITS, layer=layer.name, gap=1.0, seconds=0.0)
        gap = min(1.0, max(step.gap, 1e-16)) if math.isfinite(step.gap) else 1.0
        bars.update(
            bars.task_ids[tasks[layer.name]], completed=-math.log10(gap), gap=gap, seconds=step.seconds
        )

    try:
        yield watch
    finally:
        bars.stop()
