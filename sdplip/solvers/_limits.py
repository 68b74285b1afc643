"""When an iterative solver ends: at its gap, at a limit, by the user, or where double precision goes no further."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from sdplip.solvers.solution import Progress, Status


class Bracketed(Protocol):
    """A point with what is known of its distance from the optimum."""

    @property
    def objective(self) -> float: ...
    @property
    def lower(self) -> float: ...
    @property
    def gap(self) -> float: ...


Point = TypeVar("Point", bound=Bracketed)


@dataclass(frozen=True)
class Limits:
    """Relative gap to reach, most steps, and seconds since `begin` (None: no limit)."""

    gap: float
    steps: int
    seconds: float | None
    begin: float

    def run(
        self,
        points: Iterator[Point],
        first: Point,
        progress: Callable[[Progress], None] | None,
        unit: float = 1.0,
    ) -> tuple[Point, Status, int]:
        """The last of `points` (`first` where there is none), how it ended, and the number of steps; `progress` in `unit`."""
        best, count, status = first, 0, Status.STOPPED
        limit = math.inf if self.seconds is None else self.seconds
        try:
            for best in points:
                count, seconds = count + 1, time.perf_counter() - self.begin
                if progress is not None:
                    progress(Progress(count, best.objective * unit, best.lower * unit, best.gap, seconds))
                if best.gap <= self.gap:
                    return best, Status.OPTIMAL, count
                if count >= self.steps or seconds >= limit:
                    break
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        except _singular():
            status = Status.FAILED
        return best, status, count


def _singular() -> tuple[type[Exception], ...]:
    """What NumPy, and torch if it takes part, raise of matrices that cannot be factored."""
    torch = sys.modules.get("torch")
    return (np.linalg.LinAlgError,) if torch is None else (np.linalg.LinAlgError, torch.linalg.LinAlgError)
