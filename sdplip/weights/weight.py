"""One layer of a file: a name, an array whose entries can be certified, and how a kernel moves."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sdplip.display import equal, hashed
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.shapes import Float, short

Kind = Literal["dense", "conv1d", "conv2d", "conv3d"]


@dataclass(frozen=True, eq=False)
class Weight:
    """A finite, nonzero weight in torch's orientation, in the precision of its file.

    Attributes:
        name: the layer in its file, "fc1.weight", "weights[0]" or "params.conv_1_weight" for example.
        array: float16, float32 or float64, `(out, in)` or `(out, in / groups, taps, ...)`.
        geometry: None of a dense layer; of a convolution what the file says, which is nothing except in ONNX.
    """

    name: str
    array: Float[np.ndarray, "out in *taps"]
    geometry: Geometry | None = None

    __repr__ = short
    __eq__ = equal
    __hash__ = hashed

    @property
    def kind(self) -> Kind:
        """ "dense", or "conv1d", "conv2d", "conv3d" by the number of image axes."""
        kinds: tuple[Kind, ...] = ("dense", "conv1d", "conv2d", "conv3d")
        return kinds[self.array.ndim - 2]


def checked(name: str, array: np.ndarray, path: Path, *, zero: bool = False) -> Float[np.ndarray, "..."]:
    """`array` with the same entries as native float16, float32 or float64 (whole numbers become float64).

    `zero` allows a weight that is zero everywhere: a network with one is constant.

    Raises:
        InvalidWeight: empty, complex, not finite, zero everywhere, or not exact in double precision.
    """
    layer = f"`{name}` in `{path}`"
    if array.size == 0:
        raise InvalidWeight(
            f"{layer} is empty: its shape is {array.shape}. Save the trained weight of the layer."
        )
    if array.dtype.kind == "c":
        raise InvalidWeight(
            f"{layer} is complex ({array.dtype}). Save its real part, if the imaginary part is 0; only real layers are covered."
        )
    if array.dtype.kind not in "fiu":
        raise InvalidWeight(
            f"{layer} has type {array.dtype}, which is not a weight. Save it as float32 or float64."
        )
    finite = np.isfinite(array)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InvalidWeight(
            f"{layer} is not finite: entry {list(where)} is {array[where]}. Repair or retrain the layer."
        )
    with np.errstate(all="ignore"):  # a cast that overflows is caught by the comparison
        exact = array.astype(_exact_type(array.dtype), copy=False)
        changed = exact.astype(array.dtype, copy=False) != array
    if changed.any():
        raise InvalidWeight(
            f"{layer} has type {array.dtype} and entries that double precision cannot hold. Round it to float64 before saving."
        )
    if not zero and not exact.any():
        raise InvalidWeight(
            f"{layer} is zero everywhere; there is nothing to certify. Drop the layer, or save trained weights."
        )
    return exact


def _exact_type(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return dtype.newbyteorder("=")
    return np.dtype(np.float64)
