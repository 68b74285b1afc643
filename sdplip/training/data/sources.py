"""The way in: a configuration becomes a data set."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sdplip.errors import InvalidData
from sdplip.training.data import folder, hub, image_folder, npz, rows
from sdplip.training.data.check import checked, same_shape
from sdplip.training.data.columns import Encoded
from sdplip.training.data.dataset import DataSet
from sdplip.training.data.decode import decode
from sdplip.training.data.digits import load_digits
from sdplip.training.data.hold_out import hold_out

if TYPE_CHECKING:
    from sdplip.training.config import DataConfig


@dataclass(frozen=True)
class Known:
    """What is known of a data set before it is read: its name on the hub, `(channels, height, width)`, number of classes."""

    hub: str
    shape: tuple[int, int, int]
    classes: int


KNOWN = {
    "mnist": Known("ylecun/mnist", (1, 28, 28), 10),
    "fashion_mnist": Known("zalando-datasets/fashion_mnist", (1, 28, 28), 10),
    "cifar10": Known("uoft-cs/cifar10", (3, 32, 32), 10),
    "cifar100": Known("uoft-cs/cifar100", (3, 32, 32), 100),
    "tiny_imagenet": Known("zh-plus/tiny-imagenet", (3, 64, 64), 200),
}
"""Data sets known by name: their copy on the hub, shape and classes."""

NAMES = ("digits", *KNOWN, "diabetes", "parquet", "hub:OWNER/NAME", "FILE.npz")
"""What `data.name` may be."""


def load(config: "DataConfig", *, seed: int = 0) -> DataSet:
    """The data set that `config` names, with `config.validation` of its training images held out.

    Args:
        config: `name` is one of `NAMES`; `parquet` is any data set in the hub's layout at `path`, or a
            folder with a folder of image files for each class. Where `path` is a .npz
            file, `name` only says what to expect in it.
        seed: of the choice of validation images; by default the same in all runs.

    Raises:
        InvalidData: unknown name, missing files, or contents that are not images with labels.
        UnreadableFile: a truncated or damaged file.
        MissingDependency: an optional package is needed.
    """
    data = whole(config.name, config.path)
    if config.validation == 0:
        return data
    rest, held = hold_out(data.train, config.validation, seed=seed)
    return replace(data, train=rest, validation=held)


def whole(name: str, path: str | None) -> DataSet:
    """The data set with all of its training images, nothing held out; raises as `load`."""
    if name == "digits":
        return load_digits()
    if name == "diabetes":
        return rows.load_diabetes()
    if name.startswith("hub:"):
        train, test = hub.read(name.removeprefix("hub:"))
        return _decoded(name, train, test, f"`{name}`, split `train`", f"`{name}`, test split")
    if name.endswith(".npz"):
        place = Path(path or "", name)
        return _from_npz(name, place if place.exists() or not Path(name).exists() else Path(name))
    if name not in KNOWN and name != "parquet":
        raise InvalidData(f"No data set is called `{name}`. Use one of {', '.join(NAMES)}.")
    if path is not None and path.endswith(".npz"):
        return _from_npz(name, Path(path))
    place = folder.root(path, name, KNOWN[name].hub if name in KNOWN else None)
    if name not in KNOWN and image_folder.is_image_folder(place):
        return image_folder.read(place)
    train, test = folder.files(place, name)
    return _decoded(
        name, folder.read(train), folder.read(test), folder.describe(train), folder.describe(test)
    )


def _decoded(name: str, train: Encoded, test: Encoded, train_source: str, test_source: str) -> DataSet:
    known = KNOWN.get(name)
    classes = known.classes if known else len(train.names or ()) or int(train.labels.max(initial=0)) + 1
    splits = []
    channels, shape = (known.shape[0], known.shape) if known else (None, None)
    for encoded, source in ((train, train_source), (test, test_source)):
        images = decode(encoded.images, source, channels=channels)
        channels, shape = images.shape[1], shape or images.shape[1:]
        same_shape(images.shape[1:], shape, name, source)
        splits.append(checked(images, encoded.labels, classes, source))
    return DataSet(name, splits[0], None, splits[1], _names(train.names, classes))


def _from_npz(name: str, path: Path) -> DataSet:
    arrays = npz.opened(path)
    if "train_targets" in arrays:
        return rows.of_npz(name, arrays, path)
    found = npz.images_and_labels(arrays, path)
    known = KNOWN.get(name)
    labels = found["train_labels"]
    whole = labels.size and labels.dtype.kind in "iu"
    classes = known.classes if known else int(labels.max()) + 1 if whole else 1
    splits = []
    shape = known.shape if known else found["train_images"].shape[1:]
    for part in ("train", "test"):
        source = f"`{part}_images` of `{path}`"
        same_shape(found[f"{part}_images"].shape[1:], shape, name, source)
        splits.append(checked(found[f"{part}_images"], found[f"{part}_labels"], classes, source))
    return DataSet(Path(name).stem, splits[0], None, splits[1], _names(None, classes))


def _names(names: tuple[str, ...] | None, classes: int) -> tuple[str, ...]:
    return names if names is not None and len(names) == classes else tuple(map(str, range(classes)))
