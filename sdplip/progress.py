"""Progress of long work: a bar of rich on a terminal's stderr, one of HTML in a notebook, nothing elsewhere.

Each context gives the callback that a computation takes, or None where nobody would see it.
"""

import html
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdplip.bounds.answer import Tried
    from sdplip.reports.optimum import Watch
    from sdplip.solvers import Progress as SolverProgress
    from sdplip.training import Progress as RunProgress

    Step = Callable[[int, float, float], None]

PATIENCE = 2.0
"""Seconds before a bar appears."""

DIGITS = 8
"""The bar is full when the relative gap is 1e-8; each digit of the gap is an equal part of it."""

EVERY = 0.1
"""Seconds from one drawing in a notebook to the next."""

KEEPS = "(Ctrl-C keeps the best so far)"


class AbstractBar(ABC):
    """A bar that can be drawn again and again."""

    @abstractmethod
    def show(self, share: float | None, text: str) -> None:
        """Draws `share` of the whole (None: not known) and the text beside it."""

    @abstractmethod
    def say(self, line: str) -> None:
        """A line above the bar, which stays."""

    @abstractmethod
    def close(self) -> None:
        """Takes the bar away."""


class Terminal(AbstractBar):
    """rich, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        text = TextColumn("{task.fields[text]}", markup=False)
        console = Console(stderr=True, markup=False, highlight=False)
        self.bars = Progress(BarColumn(bar_width=20), text, console=console, transient=True)
        self.task = self.bars.add_task("", total=1.0, text="")

    def show(self, share: float | None, text: str) -> None:
        self.bars.start()
        self.bars.update(self.task, total=None if share is None else 1.0, completed=share or 0.0, text=text)

    def say(self, line: str) -> None:
        self.bars.console.print(line, soft_wrap=True)

    def close(self) -> None:
        self.bars.stop()


class Notebook(AbstractBar):
    """One output of the cell that is drawn anew; IPython alone is needed, no widgets."""

    def __init__(self) -> None:
        self.handle: Any = None
        self.last, self.lines = -math.inf, list[str]()

    def show(self, share: float | None, text: str) -> None:
        if time.monotonic() - self.last < EVERY:
            return
        self.last = time.monotonic()
        value = "" if share is None else f' value="{share:.4f}"'
        self._draw(f'<progress max="1"{value}></progress> {html.escape(text)}')

    def say(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        if self.handle is not None:
            self._draw("")

    def _draw(self, last: str) -> None:
        from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

        body = "<br>".join([*map(html.escape, self.lines), last])
        drawn = HTML(f'<div style="font-family: monospace">{body}</div>')
        if self.handle is None:
            self.handle = display(drawn, display_id=True)
        else:
            self.handle.update(drawn)


@contextmanager
def bar() -> Iterator[AbstractBar | None]:
    """The bar for where this runs; None where nobody would see it."""
    found = Notebook() if in_notebook() else Terminal() if sys.stderr.isatty() else None
    try:
        yield found
    finally:
        if found is not None:
            found.close()


def in_notebook() -> bool:
    """Whether the code runs in a cell of a notebook."""
    shell = sys.modules.get("IPython")  # a kernel has loaded it
    found = None if shell is None else shell.get_ipython()
    return found is not None and type(found).__name__ in ("ZMQInteractiveShell", "Shell")  # Jupyter, Colab


@contextmanager
def progress_bar() -> "Iterator[Watch | None]":
    """A callback that draws the gap of a running solve of a layer after two seconds."""
    with solve_bar() as watch:
        named = None if watch is None else lambda layer, step: watch(step, f"{layer.name}: ")
        yield named


@contextmanager
def solve_bar() -> "Iterator[Callable[..., None] | None]":
    """A callback that draws the gap of a running solve after two seconds."""
    with bar() as drawn:
        if drawn is None:
            yield None
            return

        def watch(step: "SolverProgress", head: str = "") -> None:
            if step.seconds >= PATIENCE:
                gap = min(1.0, max(step.gap, 1e-16)) if math.isfinite(step.gap) else 1.0
                drawn.show(_digits(gap), f"{head}gap {gap:.1e}, {step.seconds:.0f} s {KEEPS}")

        yield watch


@contextmanager
def network_bar() -> "Iterator[Step | None]":
    """A callback that draws the gap of a running solve of a network after two seconds."""
    with bound_bar() as (watch, _):
        yield watch


@contextmanager
def bound_bar() -> "Iterator[tuple[Step | None, Callable[[Tried], None] | None]]":
    """Two callbacks for the bound of a network: the bar of the solve that runs, and a line for each method that is done, both
    after two seconds."""
    from sdplip.arithmetic.decimals import above

    begin, waiting = time.perf_counter(), list[str]()
    with bar() as drawn:
        if drawn is None:
            yield None, None
            return

        def watch(iteration: int, upper: float, lower: float) -> None:
            seconds = time.perf_counter() - begin
            if seconds >= PATIENCE:
                known = upper > 0 and math.isfinite(lower / upper)
                gap = min(1.0, max(1 - lower / upper, 1e-16)) if known else 1.0
                drawn.show(
                    _digits(gap),
                    f"iteration {iteration}, {lower:.7g} to {upper:.7g}, gap {gap:.1e}, {seconds:.0f} s {KEEPS}",
                )

        def report(done: "Tried") -> None:
            what = done.note if done.bound is None else f"at most {above(done.bound, 7)}"
            waiting.append(f"{done.method}: {what}, {done.seconds:.1f} s")
            if time.perf_counter() - begin >= PATIENCE:
                for line in waiting:
                    drawn.say(line)
                waiting.clear()

        yield watch, report


@contextmanager
def image_bar(what: str) -> "Iterator[Callable[[int, int], None] | None]":
    """A callback that draws images done after two seconds."""
    begin = time.perf_counter()
    with bar() as drawn:
        if drawn is None:
            yield None
            return

        def watch(done: int, total: int) -> None:
            seconds = time.perf_counter() - begin
            if seconds >= PATIENCE:
                left = _clock(seconds * (total - done) / max(done, 1))
                drawn.show(done / max(total, 1), f"{what} {done}/{total}, {left} left")

        yield watch


@contextmanager
def run_bar() -> "Iterator[Callable[[RunProgress], None] | None]":
    """A callback that draws the progress of a training run, at once."""
    with bar() as drawn:
        yield None if drawn is None else lambda now: drawn.show(now.share, text_of(now))


@contextmanager
def sweep_bar() -> "Iterator[Callable[[str, int, int, RunProgress], None] | None]":
    """A callback that draws the progress of a sweep: the share of all runs, and the run at work."""
    with bar() as drawn:

        def watch(name: str, done: int, total: int, now: "RunProgress") -> None:
            assert drawn is not None
            drawn.show((done + now.share) / total, f"run {done + 1} of {total}, {name}: {text_of(now)}")

        yield None if drawn is None else watch


def text_of(now: "RunProgress") -> str:
    """`epoch 3, loss 0.412, clean 91.2 %, certified 80.3 %, 2300 images/s, 1:05 left`."""
    parts = [f"{now.share:.0%}", f"epoch {now.epoch}", f"loss {now.loss:.3f}"]
    if now.clean is not None and now.certified is not None:
        parts += [f"clean {now.clean:.1%}", f"certified {now.certified:.1%}"]
    parts.append(f"{now.images_per_second:.0f} images/s")
    if now.left < 1e7:
        parts.append(f"{_clock(now.left)} left")
    return ", ".join(parts)


def _digits(gap: float) -> float:
    """The share of `DIGITS` that a gap has reached."""
    return min(1.0, -math.log10(gap) / DIGITS)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(min(seconds, 1e7)), 60)
    hours, minutes_ = divmod(minutes, 60)
    return f"{hours}:{minutes_:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
