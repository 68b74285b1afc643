"""The random numbers of one step: drawn for the whole global batch, kept for the rows of this process.

Note [augmentation and sharding]: every process seeds a generator with the step's seed and draws every number for all `size`
images of the global batch, in the same order, whatever its own rows are. So row i of the batch is transformed in the same way
however many processes share the batch. What is drawn is a few numbers an image, so drawing them everywhere costs nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on their way to the device. Only pinned memory is copied to a GPU while the host goes on."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


@dataclass(frozen=True)
class Draws:
    """A source of one random number an image, for `rows` of a global batch of `size` images, on `device`.

    The numbers come from the generator's device: a generator on the CPU gives the same ones for training on any device.
    """

    generator: torch.Generator
    size: int
    rows: slice
    device: torch.device

    def uniform(self, low: float, high: float) -> Float[Tensor, " rows"]:
        """Numbers in [low, high]."""
        u = torch.rand(self.size, generator=self.generator, device=self.generator.device)
        return sent(low + (high - low) * u[self.rows], self.device)

    def integers(self, low: int, high: int) -> Int64[Tensor, " rows"]:
        """Whole numbers in [low, high], both ends included."""
        i = torch.randint(low, high + 1, (self.size,), generator=self.generator, device=self.generator.device)
        return sent(i[self.rows], self.device)

    def groups(self, number: int) -> list[Int64[Tensor, " group"]]:
        """The rows, each put into one of so many groups by the throw of a die."""
        i = torch.randint(number, (self.size,), generator=self.generator, device=self.generator.device)
        return [sent((i[self.rows] == k).nonzero()[:, 0], self.device) for k in range(number)]

    def coin(self) -> Bool[Tensor, " rows"]:
        """True for half of the images."""
        return self.integers(0, 1) == 1
