"""HDF5 files of Keras, .h5: weights as `save_weights` and `model.save` write them, and other tables of arrays."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.errors import InvalidWeight, MissingDependency, UnreadableFile
from sdplip.weights.content import Room, opened, room_of
from sdplip.weights.damaged import refuse_damaged
from sdplip.weights.names import natural

MERGES = (
    r"(add|subtract|multiply|average|maximum|minimum|concatenate|dot|\w*attention|lstm|gru|simple_rnn)(_\d+)?"
)
"""Names that Keras gives layers by which a network is no chain: files of weights hold a group of each, without arrays."""
VARIABLES = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}
"""What the numbered variables of a layer are in files of Keras 3, by how many there are."""


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays by name, `dense_1/kernel` for example, layers in the order that the file says, else that of their names.

    Raises:
        UnreadableFile: truncated, damaged, larger than a file of its size may be, or with arrays that lie in other files.
        InvalidWeight: layers that several kernels make (separable, recurrent).
        MissingDependency: the package `h5py` is not installed.
    """
    return _read(path)[0]


def says_order(path: Path) -> bool:
    """Whether the file lists its layers, as Keras did before version 3."""
    return _read(path)[1]


def configuration(path: Path) -> Any:
    """What Keras wrote about the whole model, from JSON; None where the file holds weights alone."""
    return _read(path)[2]


def _read(path: Path) -> tuple[dict[str, np.ndarray], bool, Any]:
    h5py = library(path)
    with refuse_damaged(path, "an HDF5 file"), opened(path) as stream, h5py.File(stream, "r") as file:
        ordered = "layer_names" in file.attrs or "layer_names" in getattr(
            file.get("model_weights"), "attrs", ()
        )
        found = dict(walk(file, "", room_of(path), path))
        config = json.loads(text(file.attrs["model_config"])) if "model_config" in file.attrs else None
    return renamed(found), ordered, config


def merges(path: Path) -> list[str]:
    """Names of layers that add, join or repeat, in a file of weights."""
    h5py, found = library(path), list[str]()
    with refuse_damaged(path, "an HDF5 file"), opened(path) as stream, h5py.File(stream, "r") as file:
        file.visit(found.append)
    return [name for name in found if re.fullmatch(MERGES, name.split("/")[-1])]


def library(path: Path) -> Any:
    """The package h5py.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise MissingDependency(
            f"Reading `{path}`, an HDF5 file, needs the package `h5py`. Install it with `pip install h5py`, or save the"
            " arrays with `numpy.savez`."
        ) from None
    return h5py


def walk(group: Any, name: str, room: Room, path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a group and of all groups in it, in the order that it lists.

    Raises:
        UnreadableFile: links, arrays that lie in other files, more memory than a file of its size may ask for.
    """
    import h5py

    listed = [text(label) for label in group.attrs.get("layer_names", ())]
    for label in [*listed, *(key for key in sorted(group, key=natural) if key not in listed)]:
        if not isinstance(group.get(label, getlink=True), h5py.HardLink):
            raise UnreadableFile(
                f"`{name}{label}` in `{path}` is a link, not an array. Save the arrays themselves."
            )
        entry = group[label]
        if isinstance(entry, h5py.Group):
            yield from walk(entry, f"{name}{label}/", room, path)
        elif entry.dtype.kind in "fiubc":
            if entry.is_virtual or entry.external:
                raise UnreadableFile(
                    f"`{name}{label}` in `{path}` lies in other files. Save the arrays themselves."
                )
            room.take(entry.size * entry.dtype.itemsize)
            yield f"{name}{label}", np.asarray(entry[()])


def renamed(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names as people know them: without the folders that repeat the layer, and numbered variables as what they are."""
    numbered: dict[str, list[str]] = {}
    for name in found:
        if match := re.fullmatch(r"(.*)/vars/\d+", name):
            numbered.setdefault(match[1], []).append(name)
    names = {name: name for name in found}
    for layer, variables in numbered.items():
        kinds = VARIABLES.get(len(variables), ())
        if kinds and (found[variables[0]].ndim > 1) == (kinds[0] == "kernel"):
            names |= {name: f"{layer}/{kind}" for name, kind in zip(variables, kinds, strict=True)}
    short = {name: _short(new) for name, new in names.items()}
    if len(set(short.values())) == len(short):
        names = short
    for name in names.values():
        if re.search(r"(depthwise|pointwise|recurrent)_kernel", name):
            raise InvalidWeight(
                f"`{name}` is a kernel of a separable or recurrent layer, which is not read from weights alone."
                " Export the network to ONNX."
            )
    return {names[name]: array for name, array in found.items()}


def _short(name: str) -> str:
    """`dense_1/kernel` of `model_weights/dense_1/sequential/dense_1/kernel:0`."""
    parts = re.sub(r":\d+$", "", name).split("/")
    parts = parts[1:] if parts[0] in ("model_weights", "layers", "_layer_checkpoint_dependencies") else parts
    return "/".join(parts if len(parts) < 2 or parts[0].startswith("optim") else (parts[0], parts[-1]))


def text(label: Any) -> str:
    """Of an attribute, which may be bytes."""
    return label.decode() if isinstance(label, bytes) else str(label)
