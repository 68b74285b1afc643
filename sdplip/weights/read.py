"""The way in: a path becomes layers, or the vectors of a scaling."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from sdplip.errors import InvalidScaling, InvalidWeight, UnreadableFile
from sdplip.shapes import Shaped
from sdplip.weights import hdf5, keras, mat, nnet, npy, onnx, safetensors, table, torch
from sdplip.weights.layers import layers as named_layers
from sdplip.weights.layers import select
from sdplip.weights.sniff import FORMS, sniff
from sdplip.weights.weight import Weight

ARRAYS: Mapping[str, Callable[[Path], dict[str, np.ndarray]]] = {
    "npy": npy.arrays,
    "npz": npy.arrays,
    "mat": mat.arrays,
    "torch": torch.arrays,
    "safetensors": safetensors.arrays,
    "nnet": nnet.arrays,
    "csv": table.arrays,
    "hdf5": hdf5.arrays,
    "keras": keras.arrays,
}
"""The formats that hold named arrays, and how each is read."""


def read(
    path: str | PathLike[str], *, transpose: bool | None = None, layers: Sequence[str] = ()
) -> tuple[Weight, ...]:
    """Every 2-D weight and every convolution kernel of the file, in file order, bit for bit.

    Biases, batch-norm vectors and other 1-D arrays are left out. Nothing in the file is executed: pickles are refused.

    Args:
        path: a .npy, .npz, .mat, .pt, .pth, .safetensors, .onnx, .nnet, .csv, .h5 or .keras file, also packed as .gz.
        transpose: whether the file stores `(in, out)` matrices and `(*taps, in, out)` kernels (Keras, TensorFlow, some MATLAB
            exports); None is what the names say, which is so of Keras' and Flax's `kernel` alone. ONNX and .nnet say themselves
            which way a weight acts, so there it is refused.
        layers: the names of those that are wanted, in this order; () is all.

    Raises:
        UnreadableFile: missing, mislabelled, damaged, or in need of unpickling.
        InvalidWeight: no layer, or a layer that is not finite, empty, complex or zero everywhere.
        UnknownLayer: `layers` names what is no layer.
        MissingDependency: ONNX without the package `onnx`, .pt without `torch`, .h5 without `h5py`.
    """
    path = Path(path)
    form = sniff(path)
    if transpose and form in ("onnx", "nnet"):
        raise InvalidWeight(
            f"`{path}` says which way its weights act, so they are (out, in) already and `transpose` would be wrong. Drop it."
        )
    if form == "onnx":
        found = onnx.read(path)
        return select(found, layers) if layers else found
    return named_layers(ARRAYS[form](path), path, transpose=transpose, only=layers)


def names(path: str | PathLike[str]) -> tuple[str, ...]:
    """The names of all arrays of the file, layers or not, as `read` calls them; of ONNX the constants of the graph.

    Raises:
        UnreadableFile, MissingDependency: as `read`.
    """
    path = Path(path)
    form = sniff(path)
    found = onnx.constants(path) if form == "onnx" else ARRAYS[form](path)
    return tuple(name or path.stem for name in found)


def read_vectors(path: str | PathLike[str]) -> dict[str, Shaped[np.ndarray, " n"]]:
    """The vectors `t` or `q` of a file, one a layer name; a .npy file has one, named "".

    Where some names end in ".t", as `sdplip scale` writes them beside the weights, only those are read.
    MATLAB's `n x 1` and `1 x n` arrays come out with one axis. Sign, length and finiteness are the caller's to check, who
    knows the layer.

    Raises:
        UnreadableFile: missing, mislabelled, damaged, in need of unpickling, without arrays, ONNX or .nnet.
        InvalidScaling: an array that is not a vector of real numbers.
    """
    path = Path(path)
    form = sniff(path)
    if form in ("onnx", "nnet"):  # a table of one row or column is a vector
        raise UnreadableFile(
            f"`{path}` is {FORMS[form]}, which holds no vectors. Save them as .npy, .npz, .mat or .safetensors."
        )
    arrays = ARRAYS[form](path)
    if not arrays:
        raise UnreadableFile(f"`{path}` holds no array of numbers. Save one vector for each layer into it.")
    scalings = {name: array for name, array in arrays.items() if name.endswith(".t")}
    return {name: _vector(name or path.stem, array, path) for name, array in (scalings or arrays).items()}


def _vector(name: str, array: np.ndarray, path: Path) -> Shaped[np.ndarray, " n"]:
    if array.dtype.kind not in "fiu":
        raise InvalidScaling(
            f"`{name}` in `{path}` must hold real numbers, but its type is {array.dtype}. Save it as float64."
        )
    if sum(axis != 1 for axis in array.shape) > 1:
        raise InvalidScaling(
            f"`{name}` in `{path}` must be a vector, one entry for each column of its layer, but has shape {array.shape}."
            " Of a diagonal matrix T save `numpy.diag(T)`."
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False).reshape(-1)
