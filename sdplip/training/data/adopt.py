"""Data as people hold them: arrays, torch data sets and loaders, paths; all become a `DataSet` of bytes."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sdplip.errors import InvalidData
from sdplip.training.data import rows
from sdplip.training.data.check import checked
from sdplip.training.data.dataset import DataSet
from sdplip.training.data.hold_out import hold_out
from sdplip.training.data.sources import load

if TYPE_CHECKING:
    from sdplip.training.config import DataConfig

Source = DataSet | str | os.PathLike[str] | Sequence[Any] | Iterable[Any]
"""A `DataSet`; a path; `(images, labels)` or `(images, labels, test_images, test_labels)`; a torch `Dataset` or `DataLoader`."""

SHARE = 0.1
"""Of images that come without test images that is held out as such, the same in every run."""


def as_data_set(data: Source, config: "DataConfig", *, seed: int = 0) -> DataSet:
    """`data` as a data set, with `config.validation` of its training images held out.

    Images are bytes (n, height, width), (n, channels, height, width) or (n, height, width, channels), or floating-point numbers
    in [0, 1] that are such bytes divided by 255. Rows (n, features) with floating-point targets (n,) or (n, outputs) are a table
    for regression, which is standardised by its training rows.

    Raises:
        InvalidData: something else; images of another kind; labels that do not fit.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        return load(
            replace(config, name=str(path), path=None) if path.suffix == ".npz" else _at(path, config)
        )
    found = data if isinstance(data, DataSet) else _arrays(data)
    if config.validation == 0 or found.validation is not None:
        return found
    rest, held = hold_out(found.train, config.validation, seed=seed)
    return replace(found, train=rest, validation=held)


def _at(path: Path, config: "DataConfig") -> "DataConfig":
    name = "parquet" if config.name == "digits" or config.name.endswith(".npz") else config.name
    return replace(config, name=name, path=str(path))


def _arrays(data: Any) -> DataSet:
    if isinstance(data, tuple | list) and len(data) in (2, 4) and all(_is_array(part) for part in data):
        parts = [np.asarray(part.detach().cpu() if isinstance(part, Tensor) else part) for part in data]
    elif hasattr(type(data), "__getitem__") and hasattr(
        type(data), "__len__"
    ):  # the protocol of torch's data sets
        parts = _stacked(data[i] for i in range(len(data)))
    elif isinstance(data, Iterable):
        parts = _joined(data)
    else:
        raise InvalidData(
            f"`data` is a {type(data).__name__}. Pass a `DataSet`, a path, `(images, labels)` as arrays, or a torch `Dataset` or"
            " `DataLoader` of such pairs."
        )
    if parts[0].ndim == 2 and parts[1].dtype.kind == "f":
        return rows.of_arrays("own", *parts)
    images, labels = _bytes(parts[0], "`data`"), _labels(parts[1])
    classes = int(labels.max(initial=0)) + 1
    if len(parts) == 4:
        classes = max(classes, int(_labels(parts[3]).max(initial=0)) + 1)
    train = checked(images, labels, classes, "`data`")
    if len(parts) == 4:
        test = checked(
            _bytes(parts[2], "the test images of `data`"),
            _labels(parts[3]),
            classes,
            "the test part of `data`",
        )
    else:
        train, test = hold_out(train, SHARE, seed=1)
    return DataSet("own", train, None, test, tuple(map(str, range(classes))))


def _is_array(part: Any) -> bool:
    return isinstance(part, np.ndarray | Tensor | list)


def _stacked(samples: Iterable[Any]) -> list[np.ndarray]:
    images, labels = [], []
    for sample in samples:
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise InvalidData("A torch `Dataset` must give pairs (image, label).")
        images.append(np.asarray(sample[0]))
        labels.append(int(sample[1]))
    if len({image.shape for image in images}) != 1:
        raise InvalidData(
            "The images of the data set are of several shapes, or there are none. Resize them to one size."
        )
    return [np.stack(images), np.array(labels)]


def _joined(batches: Iterable[Any]) -> list[np.ndarray]:
    images, labels = [], []
    for batch in batches:
        if (
            not isinstance(batch, tuple | list)
            or len(batch) != 2
            or not all(_is_array(part) for part in batch)
        ):
            raise InvalidData("A `DataLoader` must give pairs of tensors (images, labels).")
        images.append(np.asarray(batch[0]))
        labels.append(np.asarray(batch[1]))
    if not images or len({image.shape[1:] for image in images}) != 1:
        raise InvalidData("The batches of the loader are empty, or their images are of several shapes.")
    return [np.concatenate(images), np.concatenate(labels)]


def _bytes(images: np.ndarray, source: str) -> np.ndarray:
    """Bytes, channels first."""
    if images.dtype.kind == "f":
        if not np.isfinite(images).all() or images.min() < 0 or images.max() > 1:
            raise InvalidData(
                f"{source} holds floating-point images outside of [0, 1], normalised ones for example. Pass them as bytes, and"
                " normalise in the network (`sdplip.nn.Normalise`), so that radii are distances of images."
            )
        whole = np.rint(images.astype(np.float64) * 255)
        if abs(whole / 255 - images).max() > 1e-6:
            raise InvalidData(
                f"{source} holds images that are no bytes divided by 255. Round them: `(255 * x).round()`."
            )
        images = whole.astype(np.uint8)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise InvalidData(
            f"{source} must hold images as bytes (uint8) or numbers in [0, 1], (n, [channels,] height, width), but they are"
            f" {images.dtype} of shape {images.shape}."
        )
    if images.ndim == 3:
        return images[:, None]
    last = images.shape[3] in (1, 3) and images.shape[1] not in (1, 3)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if last else images


def _labels(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
