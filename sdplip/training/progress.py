"""What a run reports while it works, and the clock that it goes by."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sdplip.training.config import TrainConfig


@dataclass(frozen=True)
class Progress:
    """What a run reports while it works.

    Attributes:
        step: steps of the optimiser done.
        share: of the whole run, in [0, 1].
        epoch: passes over the training split that have begun.
        loss: mean over the epoch so far.
        clean, certified: of the last validation, `certified` as monitored; None before it.
        images_per_second: since the last validation.
        seconds, left: so far, and until the end as far as one can tell, on the clock of `train.clock`.
    """

    step: int
    share: float
    epoch: int
    loss: float
    clean: float | None
    certified: float | None
    images_per_second: float
    seconds: float
    left: float


def clock(train: TrainConfig) -> Callable[[], float]:
    """What counts the seconds of a run: wall time, or the processor time of this process."""
    return time.process_time if train.clock == "cpu" else time.monotonic
