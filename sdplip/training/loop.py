"""`train`: a run from its configuration to its weights, interrupted and continued at any step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sdplip.errors import Diverged, InvalidConfig, OutOfResources, SdplipError
from sdplip.nn.given import module
from sdplip.shapes import said
from sdplip.training import run as folder
from sdplip.training.config import ModelConfig, RunConfig, preset
from sdplip.training.data import (
    Augmentation,
    Batch,
    Batches,
    Source,
    as_data_set,
    augmentation,
    load,
)
from sdplip.training.data.draws import sent
from sdplip.training.diagnose import first_not_finite, length
from sdplip.training.distributed import team
from sdplip.training.finish import summarised
from sdplip.training.job import Job
from sdplip.training.lock import locked
from sdplip.training.metrics import Line
from sdplip.training.own import recorded
from sdplip.training.precision import channels_last, resolved, threads
from sdplip.training.progress import Progress, clock
from sdplip.training.run import RunSummary
from sdplip.training.schedules import factor
from sdplip.training.start import started

EVERY = 0.2
"""Seconds from one report to the next."""

GPU_CHECK = 20
"""Steps from one look at the loss to the next where looking means waiting for the device."""


def train(
    config: RunConfig | str,
    out: Path | str,
    *,
    model: nn.Module | None = None,
    data: Source | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[Line], None] | None = None,
    stop: Callable[[], bool] | None = None,
    resume: bool = True,
) -> RunSummary:
    """Train the network of `config`, or one of your own, write everything to the folder `out`, and say what came of it.

    On a CPU the weights depend on the configuration, the data, the number of threads and of processes alone; interruptions leave
    no trace in them. With `train.minutes` they depend on the speed of the machine too. Under torchrun, every process calls this.

    Args:
        config: a run file, or the name of a preset.
        model: a network of your own that `lipschitz` accepts, trained in place of the one that `config.model` describes. In the
            end it holds the selected weights; `load_run(out, model=...)` gives them back to another one of its class.
        data: instead of what `config.data` names: a `DataSet`, a path, arrays `(images, labels)`, a torch `Dataset` or
            `DataLoader` (`sdplip.training.data.as_data_set`).
        progress: called now and then.
        on_epoch: called with the line of metrics of each epoch.
        stop: asked at each step; True ends the run after a checkpoint, and the same call goes on with it.
        resume: go on with an unfinished run in `out`; False replaces it.

    Raises:
        InvalidConfig, InvalidData: the run cannot start as it is described.
        InvalidProblem: `model` is no module.
        RefusedModule: `model` has no proven bound.
        InvalidRun: `out` holds something else, or another process trains in it, or its checkpoint is damaged.
        Diverged: a loss or gradient is not finite; the last checkpoint stays.
        OutOfResources: disk or memory is full; the last checkpoint stays.
        ProcessLost: another process of the run has ended; the last checkpoint stays.
    """
    out = Path(out)
    config = preset(config) if isinstance(config, str) else config
    if not isinstance(config, RunConfig):
        raise InvalidConfig(f"`config` must be a run file or the name of a preset, but is {said(config)}.")
    if model is not None:
        module("model", model)
    if model is not None:
        config = replace(config, model=ModelConfig(factory=recorded(model)))
    begin = clock(config.train)()
    with team(config.train.device) as members, threads(config.train.threads), _memory(config):
        there = folder.precision_there(out) if resume else None
        config = resolved(config, there=there, everywhere=members.all)
        done = folder.prepare(out, config, resume=resume)
        members.alike(done is not None, f"a finished run in `{out}`")
        if done:
            if model is not None:
                folder.load_run(out, model=model)
            return done
        with (
            locked(out, first=members.first),
            torch.random.fork_rng([members.device] if members.device.type == "cuda" else []),
        ):
            found = load(config.data) if data is None else as_data_set(data, config.data)
            job = started(config, out, model, found, members, begin, resume=resume)
            job.on_epoch = on_epoch
            try:
                finished = _run(job, progress, stop or (lambda: False))
                return summarised(job, finished)
            finally:
                job.objective = job.model  # nothing holds the processes' group beyond its end


def _run(job: Job, progress: Callable[[Progress], None] | None, stop: Callable[[], bool]) -> bool:
    """Steps until the end; False if `stop` asked to leave before."""
    augment = augmentation(job.config.data.augment)
    job.saved = reported = time.monotonic()
    if job.config.train.minutes is not None and job.step == 0:
        job.rehearse()
    for batch in _stream(job.batches, job.step):
        share, halt = job.members.agreed(job.share, float(stop()))
        if share >= 1:
            break
        if halt:
            job.save()
            return False
        _step(job, batch, augment, share)
        if job.step % job.batches.steps == 0:
            job.validate()
        if job.due():
            job.save()
        if progress and job.members.first and time.monotonic() - reported >= EVERY:
            reported = time.monotonic()
            progress(job.progress())
    if job.validated != job.step:
        job.validate()
    job.save()
    if progress and job.members.first:
        progress(job.progress())
    return True


def _stream(batches: Batches, step: int) -> Iterator[Batch]:
    """The batches of all steps from `step` on, without end."""
    epoch, start = divmod(step, batches.steps)
    while True:
        yield from batches.epoch(epoch, start)
        epoch, start = epoch + 1, 0


def _step(job: Job, batch: Batch, augment: Augmentation, share: float) -> None:
    """One step of the optimiser."""
    train = job.config.train
    if train.minutes is None:
        share = (job.step + 0.5) / job.total
    split = job.data.train[sent(batch.indices, job.members.device)]
    images = augment(split.images, batch.generator(), rows=batch.rows, size=batch.size)
    if channels_last(job.config):
        images = images.contiguous(memory_format=torch.channels_last)
    inputs = (images, split.labels, share)
    job.optimiser.zero_grad(set_to_none=True)
    loss = job.objective(*inputs)
    loss.backward()
    clip = job.config.optimiser.clip
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(job.model.parameters(), clip)
    _check(job, loss, inputs)
    multiple = factor(job.config.optimiser, share)
    job.lr = job.config.optimiser.lr * multiple
    for group, peak in zip(job.optimiser.param_groups, job.peaks, strict=True):
        group["lr"] = peak * multiple
    job.optimiser.step()
    if job.average is not None:
        job.average.update(job.step + 1)
    job.losses += torch.stack([loss.detach().double(), loss.new_ones((), dtype=torch.float64)])
    job.counters = replace(job.counters, step=job.step + 1)


def _check(job: Job, loss: Tensor, inputs: tuple[Tensor, Tensor, float]) -> None:
    """Stop before an update that would spoil the weights: each step on a CPU, now and then on a GPU."""
    if job.members.device.type != "cpu" and job.step % GPU_CHECK:
        return
    gradients = [p.grad for p in job.model.parameters() if p.grad is not None]
    if bool((loss.detach() + length(gradients)).isfinite()):
        return
    alone = job.objective.module if isinstance(job.objective, DistributedDataParallel) else job.objective
    found = first_not_finite(
        alone, job.model, *inputs
    )  # of this process: the others may have found all finite
    where = job.members.told(found) or "it could not be found a second time"
    kept = f"`{job.out / folder.CHECKPOINT}` keeps the last good state"
    if not (job.out / folder.CHECKPOINT).exists():
        kept = "No checkpoint was due before"
    raise Diverged(
        f"Training stopped at step {job.step + 1}, where the loss is {loss.item():.3g}: {where}. {kept}."
        f" Lower `optimiser.lr` = {job.config.optimiser.lr:g}, or set `optimiser.clip`, and train into a new folder."
    )


@contextmanager
def _memory(config: RunConfig) -> Iterator[None]:
    """A block whose lack of memory is one sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(
            error
        )
        if not short or isinstance(error, SdplipError):
            raise
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        smaller = max(1, config.train.batch // 2)
        raise OutOfResources(
            f"The memory is spent ({reason}). Use a smaller batch (`train.batch={smaller}`), a smaller network,"
            " or another device, and a new folder."
        ) from None
