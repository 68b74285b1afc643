"""Progress bars of long work: on stderr, only on a terminal, only after two seconds."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdplip.bounds.answer import Tried
    from sdplip.reports import Layer
    from sdplip.reports.optimum import Watch
    from sdplip.solvers import Progress

    Step = Callable[[int, float, float], None]

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


@contextmanager
def network_bar() -> "Iterator[Step | None]":
    """A callback that draws the gap of a running solve after two seconds; None where nobody would see it."""
    with bound_bar() as (watch, _):
        yield watch


@contextmanager
def bound_bar() -> "Iterator[tuple[Step | None, Callable[[Tried], None] | None]]":
    """Two callbacks for the bound of a network: the bar of the solve that runs, and a line for each method that is done, both
    after two seconds; None where nobody would see them."""
    if not sys.stderr.isatty():
        yield None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    text = TextColumn(
        "iteration {task.fields[iteration]}, gap {task.fields[gap]:.1e}, {task.fields[seconds]:.0f} s"
        " (Ctrl-C keeps the best so far)"
    )
    console = Console(stderr=True, markup=False, highlight=False)
    bar = Progress(TextColumn("lipsdp"), BarColumn(), text, console=console, transient=True)
    task = bar.add_task("", total=DIGITS, iteration=0, gap=1.0, seconds=0.0)
    begin, waiting = time.perf_counter(), list[str]()

    def watch(iteration: int, upper: float, lower: float) -> None:
        seconds = time.perf_counter() - begin
        if seconds < PATIENCE:
            return
        bar.start()
        gap = min(1.0, max(1 - lower / upper, 1e-16)) if upper > 0 and math.isfinite(lower / upper) else 1.0
        bar.update(task, completed=-math.log10(gap), iteration=iteration, gap=gap, seconds=seconds)

    def report(done: "Tried") -> None:
        from sdplip.cli.render import above

        what = done.note if done.bound is None else f"at most {above(done.bound)}"
        waiting.append(f"{done.method}: {what}, {done.seconds:.1f} s")
        if time.perf_counter() - begin >= PATIENCE:
            for line in waiting:
                bar.console.print(line, soft_wrap=True)
            waiting.clear()

    try:
        yield watch, report
    finally:
        bar.stop()


@contextmanager
def image_bar(what: str) -> "Iterator[Callable[[int, int], None] | None]":
    """A callback that draws images done after two seconds; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    )  # fmt: skip
    task, begin = bar.add_task("", total=None), time.perf_counter()

    def watch(done: int, total: int) -> None:
        if time.perf_counter() - begin > PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield watch
    finally:
        bar.stop()
