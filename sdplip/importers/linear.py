r"""Linear layers of checkpoints: by spectral normalisation, and rescaled.

- deel-torchlip's spectral layers: `parametrizations.weight.original`, `.0._u`, `.0._v`, and with Björck `.1._w_bjorck`, which is what
  runs; kernels are divided by the root of their number of taps (stride 1).
- torch's `spectral_norm` has the first three of these.
- 1LLC's AOL: `parametrizations.weight.original` alone; $W T^{-1/2}$ with $t_j = \sum_i |G_{ij}| + 10^{-6}$, circular padding.
"""

from math import prod, sqrt

import numpy as np

from sdplip.convolution import aol as of_kernel
from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.importers.layer import (
    LLC,
    SPECTRAL,
    TORCHLIP,
    Group,
    Imported,
    finite,
    kernel_or_matrix,
    layer_of,
)

ROOT = "parametrizations.weight."
ORIGINAL, U, V, BJORCK = f"{ROOT}original", f"{ROOT}0._u", f"{ROOT}0._v", f"{ROOT}1._w_bjorck"
EPSILON = 1e-6
CIRCULAR = Geometry(padding_mode="circular")


def is_spectral(group: Group) -> bool:
    return {ORIGINAL, U, V} <= set(group)


def is_aol(group: Group, *, llc: bool) -> bool:
    """1LLC's: other files may have any parametrization without arrays of its own."""
    return llc and ORIGINAL in group and not any(leaf.startswith(f"{ROOT}0") for leaf in group)


def spectral(prefix: str, group: Group) -> Imported:
    """The layer as eval mode runs it.

    Raises:
        InvalidWeight: u and v of another size than the weight.
    """
    W = finite(prefix, ORIGINAL, group[ORIGINAL])
    run = group.get(BJORCK)
    if run is None:
        u, v, matrix = group[U], group[V], W.reshape(len(W), -1)
        if u.shape != matrix.shape[:1] or v.shape != matrix.shape[1:]:
            raise InvalidWeight(
                f"`{prefix}.weight`: u and v have the lengths {u.shape} and {v.shape}, W the shape {matrix.shape}."
            )
        run = finite(prefix, "the weight that runs", (W / W.dtype.type(u @ matrix @ v)).astype(W.dtype))
        said = ("The raw weight is divided by u^T W v, as eval mode does.",)
        return layer_of(prefix, "weight", run, group, SPECTRAL, assumed=said)
    run = finite(prefix, "the weight that runs", run)
    said = ("The weight that the last training step kept (`_w_bjorck`) runs, as in eval mode.",)
    if run.ndim > 2:
        run = run * run.dtype.type(sqrt(1 / prod(run.shape[2:])))
        said += (
            "Kernels have stride 1, zero padding and no factor of their own (`k_coef_lip`), which the file does not say.",
        )
    return layer_of(prefix, "weight", run, group, TORCHLIP, assumed=said)


def aol(prefix: str, group: Group) -> Imported:
    """The rescaled convolution."""
    K = kernel_or_matrix(prefix, ORIGINAL, group[ORIGINAL])
    if K.ndim != 4:
        raise InvalidWeight(
            f"`{prefix}.{ORIGINAL}` is a matrix, but AOL of {LLC} is a convolution. Save the checkpoint again."
        )
    t = of_kernel(K.astype(np.float64), Geometry(), form="linear") + EPSILON
    run = (K / np.sqrt(t)[None, :, None, None]).astype(K.dtype)
    return layer_of(prefix, "weight", run, group, f"{LLC}: AOL", geometry=CIRCULAR)
