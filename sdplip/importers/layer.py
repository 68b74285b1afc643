"""A layer of a checkpoint, as every layout gives it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.kernel.condition import Form
from sdplip.shapes import Float
from sdplip.weights.weight import Weight

State = Mapping[str, np.ndarray]
"""Arrays by their names in a state dict."""

Group = Mapping[str, np.ndarray]
"""The arrays of one layer by the last part of their names."""

SLL_1, SLL_2 = "SLL, first version", "SLL, second version"
CPL = "CPL"
TORCHLIP, SPECTRAL = "deel-torchlip", "torch's spectral_norm"
LLC = "1LLC"
"""The comparison of layers by Prach et al. (2024), whose CPL, SLL and AOL differ from the published ones in their guards."""


@dataclass(frozen=True, eq=False)
class Imported:
    """A layer of a checkpoint.

    Attributes:
        weight: the array that runs: `(out, in)` or `(out, in, *taps)`, hidden units first in the residual form.
        t: of the residual form $x - 2 W T^{-1} \\sigma(W^T x + b)$, as the library computes it; None is T = I.
        claimed: the constant that the layer has by construction.
        layout: whose layer it is.
        assumed: what its arrays do not say.
        prefix: name of the layer in the state dict.
        bias: one number a hidden unit (an output of a linear layer), None if there is none.
    """

    weight: Weight
    form: Form
    t: Float[np.ndarray, " n"] | None
    claimed: float
    layout: str
    assumed: tuple[str, ...] = ()
    prefix: str = ""
    bias: Float[np.ndarray, " units"] | None = None

    @property
    def circular(self) -> bool:
        """Whether the images are padded with their other side."""
        return self.weight.geometry is not None and self.weight.geometry.padding_mode == "circular"


def layer_of(
    prefix: str,
    leaf: str,
    array: np.ndarray,
    group: Group,
    layout: str,
    *,
    t: Float[np.ndarray, " n"] | None = None,
    geometry: Geometry = Geometry(),
    assumed: tuple[str, ...] = (),
) -> Imported:
    """The layer that runs with `array`; its bias is that of the group, of any shape with as many entries.

    Raises:
        InvalidWeight: a bias of another length.
    """
    bias = None if "bias" not in group else finite(prefix, "bias", group["bias"]).reshape(-1)
    if bias is not None and len(bias) != len(array):
        raise InvalidWeight(
            f"`{prefix}.bias` has {len(bias)} entries, but `{prefix}.{leaf}` has the shape {array.shape}: the checkpoint is cut"
            " or mixed. Save it again."
        )
    weight = Weight(f"{prefix}.{leaf}".lstrip("."), array, None if array.ndim == 2 else geometry)
    form: Form = "linear" if t is None else "residual"
    return Imported(weight, form, t, 1.0, layout, assumed, prefix, bias)


def finite(prefix: str, leaf: str, array: np.ndarray) -> np.ndarray:
    """The array itself.

    Raises:
        InvalidWeight: other than finite numbers.
    """
    if array.dtype.kind != "f" or not np.isfinite(array).all() or not array.size:
        raise InvalidWeight(f"`{prefix}.{leaf}` holds no finite numbers, or none at all.")
    return array


def kernel_or_matrix(prefix: str, leaf: str, array: np.ndarray) -> np.ndarray:
    """A finite array with two or four axes, taps odd: "same" padding of other kernels is no published layer's.

    Raises:
        InvalidWeight: anything else.
    """
    if array.ndim not in (2, 4) or any(k % 2 == 0 for k in array.shape[2:]):
        raise InvalidWeight(
            f"`{prefix}.{leaf}` has the shape {array.shape}, but these layers have matrices, or kernels with two axes of odd"
            " length. Load the checkpoint into the library that made it, and ask `sdplip.lipschitz(module)`."
        )
    return finite(prefix, leaf, array)
