"""What rules read from the data of a proof: every field is checked for type, shape, finiteness and sign before it is used.
All raise `NotProvable` where a field is missing, or something else."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sdplip.errors import NotProvable
from sdplip.kernel.proof import Proof
from sdplip.shapes import Float

Vector = Float[np.ndarray, " n"]
Array = Float[np.ndarray, "..."]


def number(proof: Proof, name: str, *, least: float = 0.0) -> float:
    """A finite number of at least `least`."""
    value = _field(proof, name)
    plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    try:
        found = float(value) if plain else np.nan
    except OverflowError:
        found = np.nan
    if not np.isfinite(found) or found < least or (isinstance(value, int) and int(found) != value):
        raise _wrong(proof, name, f"a finite number of at least {least:g}")
    return found


def whole(proof: Proof, name: str, least: int, most: int) -> int:
    """A whole number from `least` to `most`."""
    return _whole(proof, name, _field(proof, name), least, most)


def wholes(proof: Proof, name: str, count: int | None, least: int, most: int) -> tuple[int, ...]:
    """`count` whole numbers (any number of them if None) from `least` to `most`."""
    value = _field(proof, name)
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, list | tuple) or count not in (None, len(value)):
        raise _wrong(proof, name, f"{'some' if count is None else count} whole numbers")
    return tuple(_whole(proof, name, item, least, most) for item in value)


def flag(proof: Proof, name: str) -> bool:
    """True or False."""
    value = _field(proof, name)
    if not isinstance(value, bool):
        raise _wrong(proof, name, "true or false")
    return value


def array(proof: Proof, name: str, shape: tuple[int, ...], *, least: float = -np.inf) -> Array:
    """Finite doubles of that very shape, none below `least`."""
    return numbers(proof, name, _field(proof, name), shape, least)


def vectors(proof: Proof, name: str, lengths: Sequence[int], *, least: float = -np.inf) -> tuple[Vector, ...]:
    """Vectors of those lengths."""
    value = _field(proof, name)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(lengths):
        raise _wrong(proof, name, f"{len(lengths)} vectors")
    return tuple(numbers(proof, name, v, (n,), least) for v, n in zip(value, lengths, strict=True))


def numbers(proof: Proof, name: str, value: Any, shape: tuple[int, ...], least: float) -> Array:
    """`value` as doubles of that shape."""
    wrong = _wrong(proof, name, f"numbers of shape {shape}")
    if not isinstance(value, np.ndarray) and not _fits(value, shape):
        raise wrong
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError):
        raise wrong from None
    if found.dtype.kind not in "fiu" or found.dtype.itemsize > 8 or found.shape != shape:
        raise wrong
    found = found.astype(np.float64)
    if not np.isfinite(found).all() or (found < least).any():
        raise _wrong(proof, name, f"finite numbers{f' of at least {least:g}' if least > -np.inf else ''}")
    return found


def _fits(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether nested lists have that shape, checked along the first entries before anything is allocated."""
    for length in shape:
        if not isinstance(value, list | tuple | np.ndarray) or len(value) != length:
            return False
        value = value[0] if length else ()
    return True


def _whole(proof: Proof, name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
        raise _wrong(proof, name, f"whole, from {least} to {most}")
    return int(value)


def _field(proof: Proof, name: str) -> Any:
    if name not in proof.data:
        raise NotProvable(f"The proof by `{proof.rule}` lacks `{name}`.")
    return proof.data[name]


def _wrong(proof: Proof, name: str, needed: str) -> NotProvable:
    return NotProvable(f"`{name}` of the proof by `{proof.rule}` must be {needed}.")
