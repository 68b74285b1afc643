"""Whole models in Keras' own format, `.keras`: an archive of the configuration and of the weights as HDF5."""

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.weights.content import Room, opened, room_of
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.hdf5 import library, renamed, text, walk

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays by the names that the model gives its layers, `dense_1/kernel` for example.

    Raises:
        UnreadableFile: truncated, damaged, larger than a file of its size may be, or with arrays that lie in other files.
        MissingDependency: the package `h5py` is not installed.
    """
    h5py = library(path)
    with _archive(path) as (archive, room), h5py.File(BytesIO(_member(archive, WEIGHTS, room))) as file:
        found = dict(walk(file, "", room, path))
        layers = file.get("layers", {})
        names = {f"layers/{key}/vars/": text(_name(layers[key], key)) for key in layers}
    return renamed({_called(key, names): array for key, array in found.items()})


def configuration(path: Path) -> Any:
    """What Keras wrote about the model, from JSON.

    Raises:
        UnreadableFile: truncated or damaged.
    """
    with _archive(path) as (archive, room):
        return json.loads(_member(archive, CONFIG, room))


@contextmanager
def _archive(path: Path) -> Iterator[tuple[zipfile.ZipFile, Room]]:
    with refuse_damaged(path, "a Keras model"), opened(path) as stream, zipfile.ZipFile(stream) as archive:
        yield archive, room_of(path)


def _member(archive: zipfile.ZipFile, name: str, room: Room) -> bytes:
    room.take(archive.getinfo(name).file_size)
    return archive.read(name)


def _name(group: Any, key: str) -> Any:
    """What the model calls a layer, which Keras writes beside its variables."""
    return group["vars"].attrs.get("name", key) if "vars" in group else key


def _called(key: str, names: dict[str, str]) -> str:
    """`layers/first/vars/0` of `layers/conv2d/vars/0`."""
    prefix = next((prefix for prefix in names if key.startswith(prefix)), "")
    return f"layers/{names[prefix]}/vars/{key.removeprefix(prefix)}" if prefix else key
