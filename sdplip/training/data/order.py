"""Random orders that depend on their key alone: the same on every machine, in every process, in every version of NumPy."""

import numpy as np
from jaxtyping import Int64


def permutation(n: int, *key: int) -> Int64[np.ndarray, " n"]:
    """A permutation of `0, ..., n - 1` drawn with this key (whole numbers, none negative).

    It sorts the raw output of Philox, a counter-based generator whose stream NumPy promises to keep; `Generator.permutation`
    carries no such promise.
    """
    return np.argsort(np.random.Philox(np.random.SeedSequence(key)).random_raw(n), kind="stable")


def seed_of(*key: int) -> int:
    """One 64-bit seed for this key (whole numbers, none negative)."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
