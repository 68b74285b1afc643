"""Images and labels in memory: what every source gives, and what the loop trains on."""

import hashlib
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from sdplip.display import equal, hashed, html
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class Split:
    """Images in bytes, with one label each. A pixel's value in [0, 1] is its byte divided by 255. Or rows of a table with targets.

    Attributes:
        images: `(n, channels, height, width)`, uint8; of a table `(n, features)`, floating point, as they enter a network.
        labels: `(n,)`, int64, from 0 to the number of classes less 1; of a table `(n, outputs)`, floating point: the targets.
    """

    images: UInt8[Tensor, "n c h w"] | Float[Tensor, "n features"]
    labels: Int64[Tensor, " n"] | Float[Tensor, "n outputs"]

    __repr__ = short
    __eq__ = equal
    __hash__ = hashed

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(channels, height, width)` of one image, `(features,)` of one row."""
        return tuple(self.images.shape[1:])

    def to(self, device: torch.device | str) -> "Split":
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))

    def __getitem__(self, index: Tensor | slice) -> "Split":
        """The images and labels at these places."""
        return Split(self.images[index], self.labels[index])


@dataclass(frozen=True)
class Standard:
    """How a table was standardised: (value - mean) / std, column by column; `std` of the training rows."""

    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]
    target_mean: tuple[float, ...]
    target_std: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set: training images, images held out of them for model selection (or None), test images.

    Attributes:
        classes: the name of every label; of a table of every target.
        standard: how a table was standardised; None of images.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    classes: tuple[str, ...]
    standard: Standard | None = None

    __eq__ = equal
    __hash__ = hashed
    _repr_html_ = html

    def __repr__(self) -> str:
        held = 0 if self.validation is None else len(self.validation)
        parts = f"{len(self.train)} train, {held} validation, {len(self.test)} test"
        if self.regression:
            return (
                f"DataSet({self.name!r}: {parts} rows of {self.train.shape[0]}, {len(self.classes)} targets)"
            )
        shape = " × ".join(map(str, self.train.shape))
        return f"DataSet({self.name!r}: {parts} images of {shape}, {len(self.classes)} classes)"

    @property
    def regression(self) -> bool:
        """Whether the targets are numbers."""
        return self.train.labels.is_floating_point()

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data set on another device."""
        held = self.validation
        return replace(
            self,
            train=self.train.to(device),
            validation=None if held is None else held.to(device),
            test=self.test.to(device),
        )


def mean(split: Split) -> tuple[float, ...]:
    """The mean of every channel, in [0, 1]: the exact mean of the bytes, rounded once."""
    count = 255 * split.images[:, 0].numel()
    return tuple(int(channel.sum(dtype=torch.int64)) / count for channel in split.images.unbind(1))


def fingerprint(split: Split) -> str:
    """SHA-256 of shape, images and labels, in hexadecimal: two runs with equal fingerprints saw the same data."""
    digest = hashlib.sha256(repr(tuple(split.images.shape)).encode())
    for part in (split.images, split.labels):
        digest.update(part.cpu().contiguous().numpy().data)
    return digest.hexdigest()
