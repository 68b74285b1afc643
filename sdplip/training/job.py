"""A run at work: its state, its clock, its validations and checkpoints."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sdplip.training.build import tolerance_of
from sdplip.training.checkpoint import Counters, save_checkpoint
from sdplip.training.config import RunConfig
from sdplip.training.data import Batches, DataSet, Split, fingerprint
from sdplip.training.distributed import Team
from sdplip.training.metrics import Line, Metrics
from sdplip.training.optimisers import Average, ScheduleFree, project
from sdplip.training.progress import Progress, clock
from sdplip.training.run import CHECKPOINT, save_model
from sdplip.training.sides import sides
from sdplip.training.validate import validate


@dataclass
class Job:
    """A run at work.

    Attributes:
        objective: the loss of a batch, over all processes.
        begin: when this process began, on the clock of the run.
        counters: what a restart needs; `counters.seconds` counts the time before `begin`.
        losses: sum of the losses of this epoch, and their number.
        weights: the selected ones, on the CPU; None where the last ones are selected.
        clean, certified: of the last validation.
        validated: step of the last validation.
        lr: of the last step.
        rate, last_loss: images per second and mean loss of the epoch before.
        reserve: seconds of a time budget that are kept for the last validation.
        peaks: of the learning rate, one a group of the optimiser.
        average: the running mean of the weights; None without one.
    """

    config: RunConfig
    out: Path
    members: Team
    data: DataSet
    model: nn.Module
    objective: nn.Module
    optimiser: torch.optim.Optimizer
    batches: Batches
    begin: float
    counters: Counters = field(default_factory=Counters)
    metrics: Metrics | None = None
    losses: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    weights: dict[str, Tensor] | None = None
    clean: float | None = None
    certified: float | None = None
    validated: int = 0
    lr: float = 0.0
    rate: float = 0.0
    last_loss: float = float("nan")
    reserve: float = 0.0
    on_epoch: Callable[[Line], None] | None = None
    mark: tuple[float, int] = (0.0, 0)
    saved: float = 0.0
    peaks: tuple[float, ...] = field(init=False)
    average: Average | None = field(init=False)

    def __post_init__(self) -> None:
        self.peaks = tuple(group["lr"] for group in self.optimiser.param_groups)
        decay = self.config.train.average
        self.average = None if decay is None else Average(self.model, decay)
        self.losses = self.losses.to(self.members.device)
        self.validated = self.counters.step
        self.resume_clock()

    @property
    def own(self) -> bool:
        """Whether the network is the user's own, of which no layer is taken to be what it aims at."""
        return self.config.model.factory is not None

    @property
    def step(self) -> int:
        """Steps done."""
        return self.counters.step

    def now(self) -> float:
        """The clock of the run, in seconds."""
        return clock(self.config.train)()

    @property
    def seconds(self) -> float:
        """Since the start of the run, over all restarts."""
        return self.counters.seconds + self.now() - self.begin

    @property
    def total(self) -> int:
        """Steps of a run without a time budget."""
        return self.config.train.steps or self.config.train.epochs * self.batches.steps

    @property
    def share(self) -> float:
        """Of the run that is done: of its steps, or of the time that leaves room for the last validation."""
        if self.config.train.minutes is None:
            return self.step / self.total
        return self.seconds / max(60 * self.config.train.minutes - self.reserve, 1e-9)

    @property
    def images_per_second(self) -> float:
        """In training, since the last validation; of the epoch before at its start."""
        then, step = self.mark
        if step == self.step:
            return self.rate
        return (self.step - step) * self.batches.batch / max(self.now() - then, 1e-9)

    @property
    def loss(self) -> float:
        """Mean of this epoch; of the one before at its start."""
        total, count = self.losses.tolist()
        return total / count if count else self.last_loss

    def resume_clock(self) -> None:
        """Count images per second from here."""
        self.mark = (self.now(), self.step)

    def progress(self) -> Progress:
        """Where the run stands."""
        share = min(1.0, self.share)
        if self.config.train.minutes is None:
            rate = self.images_per_second
            left = (self.total - self.step) * self.batches.batch / rate if rate else float("inf")
        else:
            left = max(0.0, 60 * self.config.train.minutes - self.seconds)
        epoch = -(-self.step // self.batches.steps)
        return Progress(
            self.step,
            share,
            epoch,
            self.loss,
            self.clean,
            self.certified,
            self.images_per_second,
            self.seconds,
            left,
        )

    def rehearse(self) -> None:
        """Time a validation, so that a time budget leaves room for the last one."""
        held, begin = self.data.validation, self.now()
        if held is not None:
            self._measured(held)
        self.reserve = 1.25 * (self.now() - begin)
        self.resume_clock()

    def close(self) -> None:
        """Close the files."""
        if self.metrics:
            self.metrics.close()

    def validate(self) -> None:
        """Measure the network on the validation split, keep the best weights, write a line of metrics.

        Weights that are orthogonal themselves become exactly so first: what is measured is what is kept.
        """
        project(self.optimiser)
        loss = self.loss  # on a GPU, this waits for the steps
        self.rate = self.images_per_second
        begin = self.now()
        self._weigh()
        bound, lower = self._bounded()
        self.reserve = max(self.reserve, 1.25 * (self.now() - begin))
        self.losses.zero_()
        self.last_loss = loss
        self.validated = self.step
        line = Line(
            step=self.step,
            epoch=-(-self.step // self.batches.steps),
            loss=loss,
            lr=self.lr,
            clean=self.clean,
            certified=self.certified,
            eps=self.config.train.eps,
            images_per_second=self.rate,
            seconds=self.seconds,
            bound=bound,
            lower=lower,
        )
        if self.metrics:
            self.metrics.write(line)
        if self.on_epoch and self.members.first:
            self.on_epoch(line)
        self.resume_clock()

    def _weigh(self) -> None:
        """Measure the weights and their means, and select; without a validation split the last means are selected."""
        held, found = self.data.validation, []
        for block in self._candidates():
            with block:
                if held is not None:
                    found.append(self._measured(held))
                    self._select(*found[-1])
                elif not isinstance(block, nullcontext):
                    self._keep()
        if found:
            self.clean, self.certified = max(found, key=lambda pair: pair[::-1])

    def _candidates(self) -> list[AbstractContextManager]:
        """Blocks in which the model has the weights that may be selected, the preferred ones last."""
        if isinstance(self.optimiser, ScheduleFree):
            return [self.optimiser.averaged()]
        mean = [] if self.average is None else [self.average.applied()]
        return [nullcontext(), *mean]

    def _measured(self, held: Split) -> tuple[float, float]:
        tolerance = tolerance_of(self.config.loss) if self.data.regression else 1.0
        return validate(
            self.model, held, self.config.train.eps, self.members, own=self.own, tolerance=tolerance
        )

    def _bounded(self) -> tuple[float | None, float | None]:
        """What is proven of the network as it stands, where it is due, and the largest Jacobian found."""
        every = self.config.train.bound_every
        epoch, rest = divmod(self.step, self.batches.steps)
        if every is None or rest or epoch % every or not self.members.first:
            return None, None
        return sides(self.model, (self.data.validation or self.data.train).images)

    def save(self) -> None:
        """Write a checkpoint, and the weights selected so far."""
        self.saved = time.monotonic()
        if not self.members.first:
            return
        assert self.metrics is not None
        extra = {f"selected.{name}": tensor for name, tensor in (self.weights or {}).items()}
        extra["losses"] = self.losses
        if self.average is not None:
            extra |= {f"average.{name}": mean for name, mean in self.average.tensors().items()}
        if not self.counters.data:
            self.counters = replace(self.counters, data=fingerprint(self.data.train))
        counters = replace(self.counters, seconds=self.seconds, metrics=self.metrics.length)
        save_checkpoint(self.out / CHECKPOINT, self.model, self.optimiser, extra, counters)
        save_model(self.out, self.weights or self.model.state_dict(), self.data)

    def due(self) -> bool:
        """Whether the next checkpoint is."""
        train = self.config.train
        if train.checkpoint_steps and self.step % train.checkpoint_steps == 0:
            return True
        if train.checkpoint_minutes == 0:
            return self.step % self.batches.steps == 0
        return time.monotonic() - self.saved >= 60 * train.checkpoint_minutes

    def _select(self, clean: float, certified: float) -> None:
        """Keep these weights if they certify as much as any before them, and are right as often among equals.

        Of a regression the last ones: the share within a tolerance says too little of how good they are.
        """
        old = self.counters
        if (
            not self.data.regression
            and old.clean is not None
            and old.certified is not None
            and (certified, clean) < (old.certified, old.clean)
        ):
            return
        self.counters = replace(old, clean=clean, certified=certified, selected=self.step)
        self._keep()

    def _keep(self) -> None:
        """Remember the weights as they are."""
        if self.members.first:
            state = self.model.state_dict()
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
