r"""Residual layers of CPL: $x - \frac{2}{s^2 + \epsilon} W \sigma(W^\top x + b)$ with s by power iteration, from below.

- Published: `kernel` or `weights`, `bias`, the vector `pm.u` of the iteration, and `eval_sv_max`, the s of eval mode; it is 0 in files that were
  saved while training, and eval mode then computes it from `pm.u` by 100 iterations. $\epsilon = 10^{-4}$.
- 1LLC: `kernel`, `bias`, and `u` once an image was seen; 100 iterations from there, $\epsilon = 10^{-6}$.
"""

import numpy as np

from sdplip.errors import InvalidWeight
from sdplip.geometry import Geometry
from sdplip.importers.layer import CPL, LLC, Group, Imported, finite, kernel_or_matrix, layer_of
from sdplip.network.operators import AbstractLinear, Convolution, Dense

PUBLISHED_EPSILON, LLC_EPSILON = 1e-4, 1e-6
ITERATIONS = 100
TINY = 1e-12
"""Beside each length in the power iterations of both."""


def is_cpl(group: Group, *, llc: bool) -> bool:
    weight = "kernel" in group or "weights" in group
    return weight and "q" not in group and (llc or "pm.u" in group or "eval_sv_max" in group)


def cpl(prefix: str, group: Group, *, llc: bool) -> Imported:
    """The layer as eval mode runs it.

    Raises:
        InvalidWeight: no `u`, where it is needed, or of another size than the weight.
    """
    leaf = "kernel" if "kernel" in group else "weights"
    array = kernel_or_matrix(prefix, leaf, group[leaf])
    start = "u" if llc else "pm.u"
    kept = None if llc or "eval_sv_max" not in group else finite(prefix, "eval_sv_max", group["eval_sv_max"])
    s = 0.0 if kept is None else float(kept.reshape(-1)[0])
    said = ("The spectral norm that the file keeps for eval mode (`eval_sv_max`) runs.",)
    if s == 0:
        s = _iterated(prefix, leaf, array, start, group)
        said = (
            "The file keeps no spectral norm: it is computed as eval mode does, 100 iterations from `u`.",
        )
    t = np.full(len(array), s * s + (LLC_EPSILON if llc else PUBLISHED_EPSILON))
    geometry = Geometry(image_size=image_of(group, start))
    layout = f"{LLC}: CPL" if llc else CPL
    return layer_of(prefix, leaf, array, group, layout, t=t, geometry=geometry, assumed=said)


def image_of(group: Group, start: str) -> tuple[int, int] | None:
    """The size of the images that the iteration ran on, None if the file does not say it."""
    shape = group[start].shape if start in group else ()
    return (shape[2], shape[3]) if len(shape) == 4 else None


def _iterated(prefix: str, leaf: str, array: np.ndarray, start: str, group: Group) -> float:
    """The estimate of the norm after the iterations of eval mode."""
    if start not in group:
        raise InvalidWeight(
            f"`{prefix}` keeps neither a spectral norm nor `{start}`, from which it is computed: eval mode would begin with a random"
            " vector. Run one image through the network in eval mode, and save it again."
        )
    u = finite(prefix, start, group[start]).astype(np.float64)
    if u.ndim != array.ndim or u.shape[0] != 1 or u.shape[1] != array.shape[1]:
        raise InvalidWeight(
            f"`{prefix}.{start}` has the shape {u.shape} and `{prefix}.{leaf}` the shape {array.shape}: not one input of the layer."
            " Save the checkpoint again."
        )
    A = _operator(array.astype(np.float64), u.shape[2:])
    u = u.reshape(1, -1)
    v = _direction(A.apply(u))
    for _ in range(ITERATIONS - 1):
        v = _direction(A.apply(_direction(A.adjoint(v))))
    u = _direction(A.adjoint(v))
    return float((A.apply(u) * v).sum())


def _operator(W: np.ndarray, size: tuple[int, ...]) -> AbstractLinear:
    if W.ndim == 2:
        return Dense(W)
    pads = tuple((k // 2, k // 2) for k in W.shape[2:])
    return Convolution(W, size, (1, 1), pads, (1, 1))


def _direction(x: np.ndarray) -> np.ndarray:
    return x / (np.sqrt((x * x).sum()) + TINY)
