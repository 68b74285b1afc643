"""What files hold, read in one way: numbers as doubles, whatever the processor does with subnormal ones; names that stand once."""

from collections.abc import Iterable
from typing import Any

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


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Names and what they stand for, of which some readers take the first and some the last.

    Raises:
        ValueError: a name stands twice.
    """
    found = dict[str, Any]()
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name `{name[:100]}` stands twice")
        found[name] = value
    return found
