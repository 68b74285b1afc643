"""A folder of image files, one folder a class: `train/CLASS/*.png` and `test/CLASS/*.png`, or `CLASS/*.png` alone."""

from pathlib import Path

import numpy as np

from sdplip.errors import InvalidData
from sdplip.training.data.check import checked
from sdplip.training.data.dataset import DataSet, Split
from sdplip.training.data.decode import decode
from sdplip.training.data.hold_out import hold_out

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
TRAIN, TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")
SHARE = 0.1
"""Of the images of a folder without test images that is held out as such."""


def is_image_folder(folder: Path) -> bool:
    """Whether there are folders of image files in it, or in a folder `train` of it."""
    if not folder.is_dir():
        return False
    inner = _first(folder, TRAIN) or folder
    return any(_images(place) for place in inner.iterdir() if place.is_dir())


def read(folder: Path) -> DataSet:
    """The data set; classes in the order of their names, the same in both splits.

    Raises:
        InvalidData: no images, images of several sizes, a class that only one split has.
    """
    train, test = _first(folder, TRAIN), _first(folder, TEST)
    if train is not None and test is None:
        raise InvalidData(
            f"`{folder}` has `{train.name}` but no `test`. Add a folder `test` with the same classes, or put the classes directly"
            f" into `{folder}`: a tenth of them is then held out."
        )
    names = _classes(train or folder)
    first = _split(train or folder, names, None)
    if test is None:
        rest, held = hold_out(first, SHARE, seed=1)
        return DataSet(folder.resolve().name, rest, None, held, names)
    if unknown := set(_classes(test)) - set(names):
        raise InvalidData(
            f"`{test}` has the class `{min(unknown)}`, which `{train}` has not. Use the same folders in both."
        )
    return DataSet(folder.resolve().name, first, None, _split(test, names, first.shape[0]), names)


def _split(folder: Path, names: tuple[str, ...], channels: int | None) -> Split:
    files = [(path, label) for label, name in enumerate(names) for path in _images(folder / name)]
    blobs = [path.read_bytes() for path, _ in files]
    source = f"`{folder}` (files in the order of their names)"
    labels = np.array([label for _, label in files], np.int64)
    return checked(decode(blobs, source, channels=channels), labels, len(names), source)


def _classes(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(place.name for place in folder.iterdir() if place.is_dir() and _images(place)))
    if len(names) < 2:
        raise InvalidData(
            f"`{folder}` holds {len(names)} folders of images, but a folder for each of at least two classes is needed."
        )
    return names


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)
