"""`metrics.jsonl`, one line an epoch, and the same numbers for TensorBoard."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdplip.errors import MissingDependency
from sdplip.training.files import disk_error


@dataclass(frozen=True)
class Line:
    """What an epoch did.

    Attributes:
        step, epoch: done so far.
        loss: mean over the epoch.
        lr: of the last step.
        clean: share of the validation images that are classified right; None without a validation split.
        certified: the same at every image within `eps`, by the constants that the layers aim at (a monitored estimate: no proof).
        images_per_second: in training, without validation.
        seconds: since the start of the run.
        bound: proven Lipschitz bound of the network as it stands; None in epochs without one (`train.bound_every`).
        lower: the largest Jacobian found beside it, from validation images on.
    """

    step: int
    epoch: int
    loss: float
    lr: float
    clean: float | None
    certified: float | None
    eps: float
    images_per_second: float
    seconds: float
    bound: float | None = None
    lower: float | None = None


def read_lines(folder: Path) -> list[Line]:
    """The lines of a run folder; none where it has none, or they are damaged."""
    try:
        text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
        return [Line(**json.loads(line)) for line in text.splitlines()]
    except (OSError, ValueError, TypeError):
        return []


class Metrics:
    """Writer of the metrics of one run.

    Args:
        folder: of the run.
        length: bytes of the file that count; later ones, of steps that a restart repeats, are dropped.
        tensorboard: whether to write events too.

    Raises:
        MissingDependency: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, length: int, *, tensorboard: bool) -> None:
        self.path = folder / "metrics.jsonl"
        self.path.touch()
        self.length = min(length, self.path.stat().st_size)
        os.truncate(self.path, self.length)
        self.board = _board(folder) if tensorboard else None

    def write(self, line: Line) -> None:
        """Append a line.

        Raises:
            OutOfResources: the disk is full.
        """
        text = json.dumps({key: _rounded(key, value) for key, value in asdict(line).items()}) + "\n"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            os.truncate(self.path, self.length)
            raise disk_error(error, self.path, len(text)) from None
        self.length += len(text.encode())
        if self.board is not None:
            for key, value in asdict(line).items():
                if value is not None and key not in ("step", "eps"):
                    self.board.add_scalar(key, value, line.step)
            self.board.flush()

    def close(self) -> None:
        """Finish the event file."""
        if self.board is not None:
            self.board.close()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependency(
            "`train.tensorboard` = true needs TensorBoard. Install it with `pip install sdplip[tensorboard]`."
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))


def _rounded(key: str, value: Any) -> Any:
    """Six digits; all of a proven number, which must not become smaller."""
    return float(f"{value:.6g}") if isinstance(value, float) and key != "bound" else value
