"""A data set as NumPy arrays, for training loops and examples of one's own."""

import os
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from sdplip.errors import InvalidData
from sdplip.shapes import said, short
from sdplip.training.data.augment import as_float
from sdplip.training.data.sources import whole


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images in [0, 1] as they enter a network, each byte divided by 255 and rounded once, and their labels.

    Attributes:
        train_images, test_images: `(n, channels, height, width)`, float32; of tables for regression their rows `(n, columns)`,
            standardised.
        train_labels, test_labels: `(n,)`, int64, from 0 to the number of classes less 1; of tables their targets `(n, outputs)`,
            float32.
        classes: the name of every label, or of every target.
    """

    train_images: Float32[np.ndarray, "n *shape"]
    train_labels: Int64[np.ndarray, " n"] | Float32[np.ndarray, "n outputs"]
    test_images: Float32[np.ndarray, "m *shape"]
    test_labels: Int64[np.ndarray, " m"] | Float32[np.ndarray, "m outputs"]
    classes: tuple[str, ...]

    __repr__ = short


def load_arrays(name: str = "digits", path: str | os.PathLike[str] | None = None) -> Arrays:
    """The data set `name` as arrays; nothing is held out of its training images.

    Args:
        name, path: as `data.name` and `data.path` of run files (docs/data.md): "mnist" with the folder of its Parquet files, a
            file `.npz`; "digits" and "diabetes" come with scikit-learn and have no path.

    Raises:
        InvalidData: unknown name, missing files, a path where none is read, or contents that are not images with labels.
        UnreadableFile: a truncated or damaged file.
        MissingDependency: an optional package is needed.
    """
    if not isinstance(name, str) or not isinstance(path, str | os.PathLike | None):
        raise InvalidData(
            f"`name` must be a text and `path` a path or None, but they are {said(name)} and {said(path)}."
        )
    if name in ("digits", "diabetes") and path is not None:
        raise InvalidData(
            f"The data `{name}` come with scikit-learn and have no files, but `path` is {str(path)!r}. Drop it."
        )
    data = whole(name, None if path is None else os.fspath(path))
    train, test = (
        (as_float(split.images).numpy(), split.labels.numpy()) for split in (data.train, data.test)
    )
    return Arrays(*train, *test, data.classes)
