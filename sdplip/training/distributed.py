"""Several processes that train one model: started by torchrun, one process where its variables are not set."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from sdplip.errors import InvalidConfig, InvalidRun, ProcessLost, SdplipError
from sdplip.solvers.devices import why_not


@dataclass(frozen=True)
class Team:
    """The processes of one run.

    Attributes:
        rank, world: this process, number of processes.
        device: where this process computes.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of `values` over all processes, in all of them."""
        if self.world > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def agreed(self, *numbers: float) -> tuple[float, ...]:
        """The numbers of the first process, in all processes: clocks and signals differ between them."""
        if self.world == 1:
            return numbers
        values = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.broadcast(values, 0)
        return tuple(values.tolist())

    def alike(self, seen: bool, what: str) -> None:
        """Refuse, in all processes, what some of them see and some do not.

        Raises:
            InvalidRun: they differ.
        """
        if self.world == 1:
            return
        count = int(self.total(torch.tensor(float(seen), device=self.device)))
        if count not in (0, self.world):
            raise InvalidRun(
                f"{count} of {self.world} processes see {what}, the others do not. Put the folder of the run on a disk that all"
                " machines share, or start anew with `--no-resume`."
            )

    def all(self, here: bool) -> bool:
        """Whether it is so in every process."""
        if self.world == 1:
            return here
        return int(self.total(torch.tensor(float(here), device=self.device))) == self.world

    def told(self, sentence: str | None) -> str | None:
        """The first sentence that any process has, in all of them."""
        if self.world == 1:
            return sentence
        sentences: list[str | None] = [None] * self.world
        distributed.all_gather_object(sentences, sentence)
        return next((s for s in sentences if s is not None), None)

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.world > 1:
            distributed.barrier()

    def parallel(self, module: nn.Module, *, unused: bool) -> nn.Module:
        """The module, its gradients averaged over all processes in each backward pass.

        Args:
            unused: whether some parameters take no part in some steps.
        """
        if self.world == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=unused, gradient_as_bucket_view=True)


@contextmanager
def team(device: str) -> Iterator[Team]:
    """A block in which the processes that torchrun started know each other.

    Raises:
        InvalidConfig: no such device.
        ProcessLost: another process has ended or cannot be reached.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Team(0, 1, device_named(device, 0))
        return
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    place = device_named(device, int(os.environ.get("LOCAL_RANK", "0")))
    if place.type == "cuda":
        torch.cuda.set_device(place)
    started = not distributed.is_initialized()
    try:
        if started:
            _meet("nccl" if place.type == "cuda" else "gloo", rank, world)
        yield Team(rank, world, place)
    except RuntimeError as error:
        if isinstance(error, SdplipError) or not _is_of_others(error):
            raise
        raise ProcessLost(
            "Another process of this run has ended, or cannot be reached, so this one ends too; its own message says why. The same"
            " command goes on from the last checkpoint."
        ) from None
    finally:
        if started and distributed.is_initialized():
            gc.collect()  # the parallel wrapper stands in cycles, and its backend threads live as long as it does
            distributed.destroy_process_group()


def _meet(backend: str, rank: int, world: int) -> None:
    """Start the group. torchrun keeps its store when it starts the processes again, with the addresses of those that ended in it: each
    start has keys of its own."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store, *_ = next(distributed.rendezvous("env://"))  # pyright: ignore[reportPrivateImportUsage]
    store = distributed.PrefixStore(f"sdplip-{attempt}", store)  # pyright: ignore[reportPrivateImportUsage]
    distributed.init_process_group(backend, store=store, rank=rank, world_size=world)


def _is_of_others(error: RuntimeError) -> bool:
    """Whether it comes from what connects the processes; gloo raises no class of its own."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in words)


def device_named(name: str, local: int = 0) -> torch.device:
    """The device that `train.device` means to process `local` of this machine; `auto` is a CUDA device if there is one.

    A process that sees one GPU only, as some schedulers arrange it, takes that one.

    Raises:
        InvalidConfig: torch does not know it, or it is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{0 if torch.cuda.device_count() == 1 else local}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InvalidConfig(
            f"`train.device` = {name!r} cannot be used: {why_not(name)}. Use cpu, or auto."
        ) from None
    if device.type == "meta":
        raise InvalidConfig("`train.device` = 'meta' holds no numbers. Use cpu, cuda, or auto.")
    return device
