"""The claim about pixels: how many right ones any one change of an image leaves. Its check stands in `verify`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sdplip.arithmetic.decimals import percent_below
from sdplip.shapes import Int


@dataclass(frozen=True, eq=False)
class PixelClaim:
    """After any change of image k of length `eps` or less, at least `right[k]` of its pixels are right, in exact arithmetic.

    A pixel is right where the logit of its label is larger than every other one; of one logit f class 1 is right where f > 0, class 0
    where f < 0. Outputs are `(classes, *pixels)`.

    Attributes:
        eps: l2 length of a change of the inputs, for all pixels of an image together.
        index: of each image in its file.
        sha256: of each image as it enters the network (its doubles, little-endian).
        mask: SHA-256 of the mask of each image (whole numbers of 8 bytes, little-endian; -1 does not count).
        pixels: how many of each image count.
        right: how many of these are left, at least.
    """

    eps: float
    index: Int[np.ndarray, " n"]
    sha256: tuple[str, ...]
    mask: tuple[str, ...]
    pixels: Int[np.ndarray, " n"]
    right: Int[np.ndarray, " n"]

    def accuracy(self) -> float:
        """Share of all pixels that count."""
        return int(self.right.sum()) / int(self.pixels.sum())

    def words(self) -> str:
        return (
            f"of {int(self.pixels.sum())} pixels of {len(self.index)} images at least {int(self.right.sum())}"
            f" ({percent_below(self.accuracy())}) are right after any change of each image of length {self.eps!r} or less, all its"
            " pixels together (prediction of exact arithmetic)"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "pixels", "eps": self.eps, "index": self.index, "sha256": list(self.sha256), "mask": list(self.mask),
            "pixels": self.pixels, "right": self.right,
        }  # fmt: skip
