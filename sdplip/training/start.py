"""A run as it starts, or as its checkpoint left it."""

from pathlib import Path

import torch
from torch import nn

from sdplip.errors import InvalidConfig, InvalidRun
from sdplip.nn.losses import AbstractRegression
from sdplip.training import run as folder
from sdplip.training.build import build_loss, build_model
from sdplip.training.checkpoint import load_checkpoint
from sdplip.training.config import RunConfig
from sdplip.training.data import Batches, DataSet, fingerprint, mean
from sdplip.training.distributed import Team
from sdplip.training.environment import write_environment
from sdplip.training.job import Job
from sdplip.training.margins import has_head
from sdplip.training.metrics import Metrics
from sdplip.training.objective import Objective
from sdplip.training.own import check, from_factory
from sdplip.training.precision import channels_last, compiled
from sdplip.training.schedules import build_optimiser


def _network(config: RunConfig, given: nn.Module | None, data: DataSet) -> nn.Module:
    """The network of a run file, or the user's own, which is refused now rather than after an hour."""
    image, classes = data.train.shape, len(data.classes)
    if data.regression != isinstance(build_loss(config.loss), AbstractRegression):
        raise InvalidConfig(
            f"The targets of {data.name} are {'numbers' if data.regression else 'classes'}, but `loss.name` is"
            f" {config.loss.name!r}. Use {'mse or mae' if data.regression else 'a loss of classes, such as cross_entropy'}."
        )
    if data.regression and (config.data.augment or config.train.precision == "bfloat16"):
        raise InvalidConfig(
            "Rows of a table are neither augmented nor run in bfloat16. Remove `data.augment`, use float32."
        )
    if config.model.factory is None:
        return build_model(
            config.model, image_shape=image, classes=classes, mean=() if data.regression else mean(data.train)
        )
    model = from_factory(config.model.factory) if given is None else given
    check(model, image, classes)
    if build_loss(config.loss).needs_pairwise and not has_head(model):
        raise InvalidConfig(
            f"The loss {config.loss.name!r} needs the rows of a linear head, but the network is no `nn.Sequential` that ends in"
            " one. Use `loss.name` = cross_entropy, tau_cross_entropy, multi_margin or hkr, or put the head last."
        )
    return model


def started(
    config: RunConfig,
    out: Path,
    given: nn.Module | None,
    data: DataSet,
    members: Team,
    begin: float,
    *,
    resume: bool,
) -> Job:
    """The run as it starts, or as its checkpoint left it."""
    half = config.train.precision == "bfloat16"
    torch.manual_seed(config.train.seed)
    model = _network(config, given, data).to(members.device).train()
    if channels_last(config):
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = build_optimiser(config.optimiser, model, half=half)
    path = out / folder.CHECKPOINT
    goes_on = resume and path.exists()
    members.alike(goes_on, f"`{path}`")
    runner = compiled(model, members.device) if config.train.compile else model
    objective = Objective(model, runner, build_loss(config.loss), "bfloat16" if half else "float32")
    batches = Batches(len(data.train), config.train.batch, config.train.seed, members.rank, members.world)
    job = Job(config, out, members, data.to(members.device), model, objective, optimiser, batches, begin)
    if goes_on:
        _restore(job, path)
    job.objective = members.parallel(objective, unused=config.model.refresh_every > 1)
    members.wait()  # all have looked into the folder and read the checkpoint before the first writes
    folder.begin(out, config, members, resume=resume)
    if members.first:
        write_environment(out, config, data, members)
        job.metrics = Metrics(out, job.counters.metrics, tensorboard=config.train.tensorboard)
    return job


def _restore(job: Job, path: Path) -> None:
    job.counters, extra = load_checkpoint(path, job.model, job.optimiser)
    if job.counters.data != fingerprint(job.data.train):
        raise InvalidRun(
            f"The data are not those that `{path}` was trained on. Give the same data, or start anew with `--no-resume`."
        )
    job.losses = extra.pop("losses").to(job.members.device)
    means = {name: extra.pop(name) for name in list(extra) if name.startswith("average.")}
    if job.average is not None:
        job.average.recall({name.removeprefix("average."): mean for name, mean in means.items()})
    job.weights = {name.removeprefix("selected."): t for name, t in extra.items()} or None
    job.clean, job.certified = job.counters.clean, job.counters.certified
    job.validated = job.step if not job.losses[1] else -1
    job.resume_clock()
