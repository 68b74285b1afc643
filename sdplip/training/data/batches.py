"""Which images a step trains on: a function of (seed, epoch, step), the same however many processes share the work."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from sdplip.errors import InvalidData
from sdplip.training.data.order import permutation, seed_of


@dataclass(frozen=True, eq=False)
class Batch:
    """This process's share of one global batch.

    Attributes:
        step: counted from 0 within the epoch.
        indices: places in the training split of the share's images, on the CPU.
        rows: where the share stands in the global batch.
        size: images in the global batch.
        seed: of this step's augmentation, the same in all processes.
    """

    step: int
    indices: Int64[Tensor, " share"]
    rows: slice
    size: int
    seed: int

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator for this step's augmentation. On the CPU its numbers are the same for training on any device."""
        return torch.Generator(device).manual_seed(self.seed)


@dataclass(frozen=True)
class Batches:
    """The batches of every epoch. Batch k of an epoch is its order's entries `k * batch` to `(k + 1) * batch - 1`.

    The order is a permutation that depends on (seed, epoch) alone, so training may start again at any step, and with `world`
    processes the shares of all ranks, one after the other, are the batch of one process. The last `n % batch` images of an
    epoch's order are left out of it (others in every epoch), so that all batches and shares have one size: mean gradients of
    equal shares average to the mean gradient of the batch.

    Attributes:
        n: images in the training split.
        batch: images in the global batch, over all processes.
        seed: a whole number, not negative.
        rank, world: this process, number of processes.

    Raises:
        InvalidData: a batch larger than the split, one that `world` does not divide, or a negative seed.
    """

    n: int
    batch: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= self.n:
            raise InvalidData(
                f"`train.batch` must be between 1 and the {self.n} training images, but it is {self.batch}. Set it with `--set train.batch=N`."
            )
        if self.batch % self.world:
            raise InvalidData(
                f"`train.batch` is the batch over all processes, and {self.world} processes cannot share {self.batch} images"
                f" equally. Use {-(-self.batch // self.world) * self.world}."
            )
        if self.seed < 0:
            raise InvalidData(f"`train.seed` must not be negative, but it is {self.seed}. Use 0 or more.")
        if not 0 <= self.rank < self.world:
            raise InvalidData(
                f"Rank {self.rank} is not one of {self.world} processes. Start them with torchrun."
            )

    @property
    def steps(self) -> int:
        """Batches in an epoch."""
        return self.n // self.batch

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's shares of the batches `start`, `start + 1`, ... of an epoch (both counted from 0)."""
        order = torch.from_numpy(permutation(self.n, self.seed, epoch))
        share = self.batch // self.world
        rows = slice(self.rank * share, (self.rank + 1) * share)
        for step in range(start, self.steps):
            batch = order[step * self.batch : (step + 1) * self.batch]
            yield Batch(step, batch[rows], rows, self.batch, seed_of(self.seed, epoch, step))
