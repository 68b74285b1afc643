"""What the kernel accepts: finite real numbers that double precision holds exactly."""

import numpy as np

from sdplip.arithmetic.powers import nonzero
from sdplip.errors import InvalidScaling, InvalidWeight
from sdplip.shapes import Bool, Float
from sdplip.stored import widened


def as_weight(
    W: np.ndarray, dimensions: tuple[int, ...] = (2,), *, zero: bool = False
) -> Float[np.ndarray, "..."]:
    """`W` as float64, every entry unchanged; a weight that is zero everywhere only if `zero` allows it.

    Raises:
        InvalidWeight: not a real array of `dimensions` axes, empty, zero everywhere, not finite, or not exact in float64.
    """
    W = np.asarray(W)
    if W.dtype.kind not in "fiub":
        raise InvalidWeight(
            f"The weight must hold real numbers, but its type is {W.dtype}. Pass its real part, or convert it."
        )
    if W.ndim not in dimensions:
        raise InvalidWeight(
            f"The weight must have {' or '.join(map(str, dimensions))} axes, but has shape {W.shape}. {_remedy(W.ndim)}"
        )
    if W.size == 0:
        raise InvalidWeight(f"The weight is empty: its shape is {W.shape}. There is nothing to certify.")
    double = widened(W)
    if not np.isfinite(double).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(double))[0])
        raise InvalidWeight(
            f"The weight is not finite: entry {where} is {W[where]}. Repair or retrain the layer."
        )
    if (W.dtype.kind in "iu" and abs(double).max() > 2.0**53) or W.dtype.itemsize > 8:
        raise InvalidWeight(
            f"Entries of type {W.dtype} are not exact in double precision. Convert the weight to float64 first."
        )
    if not (zero or double.any() or nonzero(double).any()):
        raise InvalidWeight(
            "The weight is zero everywhere: every bound of it is 0 and no scaling can be judged. Drop the layer."
        )
    return double


def _remedy(axes: int) -> str:
    """What to do with a weight of so many axes. Reshaping a kernel would give a bound of another layer."""
    if 3 <= axes <= 5:
        return (
            "Certify a convolution from its kernel (out, in / groups, *taps) with `certify_convolution`: the norm of the reshaped"
            " kernel is no bound of it."
        )
    if axes == 2:
        return "Certify a matrix with `certify`."
    return "Pass a matrix (out, in), or a kernel (out, in / groups, *taps) to `certify_convolution`."


def as_scaling(t: np.ndarray, needed: Bool[np.ndarray, " n"], scaling: str) -> Float[np.ndarray, " n"]:
    """`t` as float64, positive where `needed` says that the column of the weight is not zero.

    Raises:
        InvalidScaling: wrong length, not finite, negative, or zero on a nonzero one.
    """
    t = np.asarray(t)
    n = len(needed)
    if t.dtype.kind not in "fiub" or t.dtype.itemsize > 8:
        raise InvalidScaling(
            f"`t` must hold real numbers of at most 64 bits, but its type is {t.dtype}. Convert it to float64."
        )
    if t.shape != (n,):
        raise InvalidScaling(
            f"`t` must have one entry for each of the {n} columns of `W`, but its shape is {t.shape} (proposed by {scaling})."
            " The columns of `W` are the inputs of a linear layer and the hidden units of a residual layer."
        )
    t = widened(t)
    wrong = ~np.isfinite(t) | (nonzero(t) & np.signbit(t)) | (needed & ~nonzero(t))
    if wrong.any():
        column = int(np.flatnonzero(wrong)[0])
        raise InvalidScaling(
            f"`t` must be positive and finite on every nonzero column of `W`, but column {column} has t = {t[column]}"
            f" (proposed by {scaling}). Use a positive value of at least the squared norm of the column."
        )
    return t
