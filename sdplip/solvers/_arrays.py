"""Data of optimisation problems as read-only arrays of doubles, or one clear sentence about what is wrong with them."""

from typing import Any

import numpy as np
from jaxtyping import Float

from sdplip.errors import InvalidProblem, InvalidWeight


def excess(used: Float[np.ndarray, " n"], allowed: Float[np.ndarray, " n"]) -> float:
    return max(1.0, float(np.max(used / allowed)))


def freeze(problem: Any, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        array.flags.writeable = False
        object.__setattr__(problem, name, array)


def array_of(
    name: str, value: Any, shape: tuple[int, ...], error: type[Exception] = InvalidProblem
) -> np.ndarray:
    if np.iscomplexobj(value):
        raise error(f"`{name}` must be real, but holds complex numbers.")
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as reason:
        raise error(f"`{name}` must be an array of real numbers: {reason}.") from reason
    if array.shape != shape:
        raise error(f"`{name}` must have the shape {shape}, but has the shape {array.shape}.")
    if not np.isfinite(array).all():
        raise error(f"`{name}` holds {np.sum(~np.isfinite(array))} entries that are NaN or infinite.")
    return array


def weight_of(value: Any, name: str = "W") -> Float[np.ndarray, "m n"]:
    shape = tuple(np.shape(value))
    if len(shape) != 2 or 0 in shape:
        raise InvalidWeight(f"`{name}` must be a matrix with at least one entry, but has the shape {shape}.")
    return array_of(name, value, shape, InvalidWeight)


def kernel_of(value: Any) -> Float[np.ndarray, "out in *taps"]:
    shape = tuple(np.shape(value))
    if len(shape) < 3 or 0 in shape:
        raise InvalidWeight(
            f"`K` must be a nonempty kernel (out, in / groups, *taps), but has the shape {shape}."
        )
    return array_of("K", value, shape, InvalidWeight)


def positive(name: str, value: Any, n: int) -> Float[np.ndarray, " n"]:
    array = np.ones(n) if value is None else array_of(name, value, (n,))
    if np.any(array <= 0):
        i = int(np.argmin(array))
        raise InvalidProblem(
            f"`{name}` must be positive, but entry {i} is {array[i]}. Use a small positive number."
        )
    return array
