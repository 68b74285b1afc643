"""What every source must pass: images in bytes, one label each, every label a class."""

import numpy as np
import torch
from jaxtyping import Shaped, UInt8

from sdplip.errors import InvalidData
from sdplip.training.data.dataset import Split


def checked(
    images: UInt8[np.ndarray, "n c h w"], labels: Shaped[np.ndarray, " n"], classes: int, source: str
) -> Split:
    """The split, if it is one.

    Raises:
        InvalidData: no image, another number of labels than of images, or a label that is no class.
    """
    if len(images) == 0:
        raise InvalidData(f"{source} holds no image. Download the data set again.")
    if len(images) != len(labels):
        raise InvalidData(
            f"{source} holds {len(images)} images but {len(labels)} labels. Save one label an image."
        )
    whole_labels(labels, source)
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InvalidData(
            f"{source} has the label {labels[wrong[0]]} at image {wrong[0]}, but its {classes} classes are 0 to {classes - 1}"
            f" ({wrong.size} such labels). "
            + (
                "A split with labels -1 is unlabelled: choose one with labels."
                if (labels < 0).any()
                else "Is it another data set?"
            )
        )
    return Split(
        torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(labels.astype(np.int64, copy=True))
    )


def whole_labels(labels: Shaped[np.ndarray, " n"], source: str) -> None:
    """Nothing, for a vector of whole numbers.

    Raises:
        InvalidData: labels of another shape, or of another type (a missing label makes floats of them).
    """
    if labels.ndim != 1:
        raise InvalidData(
            f"{source} has labels of shape {labels.shape}. One whole number an image is needed."
        )
    if labels.dtype.kind not in "iu":
        missing = labels.dtype.kind == "f" and np.isnan(labels).any()
        raise InvalidData(
            f"{source} has labels of type {labels.dtype}{', some of them missing (NaN)' if missing else ''}."
            " Save whole numbers, 0 for the first class: `labels.astype(numpy.int64)`."
        )


def same_shape(found: tuple[int, ...], expected: tuple[int, ...] | None, name: str, source: str) -> None:
    """Nothing, if the images have the shape `(channels, height, width)` that the data set `name` is known for.

    Raises:
        InvalidData: another shape.
    """
    if expected is not None and found != expected:
        raise InvalidData(
            f"{source} has images of {_times(found)}, but {name} has {_times(expected)}. Point at the folder of {name},"
            " or name the data `parquet`, which takes any shape."
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
