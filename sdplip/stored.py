"""Stored numbers in double precision, also where the processor takes subnormal numbers for zero."""

import numpy as np

from sdplip.shapes import Float, Shaped


def widened(x: Shaped[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Numbers of at most 64 bits as float64, every one unchanged: subnormal float32 too, whatever the processor does with them."""
    double = x.astype(np.float64, copy=False)
    if x.dtype != np.float32:
        return double
    bits = np.ascontiguousarray(x).view(np.int32).reshape(x.shape) & 0x7FFFFFFF
    subnormal = (bits < 0x00800000) & (bits != 0)
    return np.where(subnormal, np.copysign(bits * 2.0**-149, x), double) if subnormal.any() else double
