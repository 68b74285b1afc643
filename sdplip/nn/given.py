"""What people hand over as what functions compute with: a number, an array, a tensor, a module; of anything else one sentence."""

import operator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sdplip.errors import InvalidProblem, SdplipError
from sdplip.shapes import array, said


def number(name: str, value: Any, error: type[SdplipError] = InvalidProblem) -> float:
    """One real number: of Python, NumPy or torch, or a bound.

    Raises:
        error: something else, a text or a complex number too.
    """
    if not isinstance(value, str | bytes | np.complexfloating):
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    raise error(f"`{name}` must be one real number, but is {said(value)}.")


def count(name: str, value: Any, least: int = 1, error: type[SdplipError] = InvalidProblem) -> int:
    """A whole number of at least `least`.

    Raises:
        error: something else.
    """
    try:
        found = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        found = least - 1
    if found < least:
        raise error(f"`{name}` must be a whole number of at least {least}, but is {said(value)}.")
    return found


def floats(name: str, values: Any) -> Float[np.ndarray, "*shape"]:
    """Real numbers in double precision: of an array, a tensor, lists or one number.

    Raises:
        InvalidProblem: no numbers, complex ones, or rows of unequal lengths.
    """
    try:
        found = array(values)
    except (TypeError, ValueError, RuntimeError):
        found = np.empty(0, dtype=object)
    if found.dtype.kind not in "biuf":
        raise InvalidProblem(f"`{name}` must be an array of real numbers, but is {said(values)}.")
    return found.astype(np.float64, copy=False)


def tensor(name: str, values: Any) -> Tensor:
    """A dense real tensor: the one that is given, or the same numbers of an array or of lists.

    Raises:
        InvalidProblem: no numbers, complex ones, rows of unequal lengths, a sparse tensor.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout is not torch.strided:
            raise InvalidProblem(f"`{name}` must hold real numbers and be dense, but is {said(values)}.")
        return values
    try:
        found = np.array(values)
        if found.dtype.kind != "c":
            return torch.from_numpy(found)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise InvalidProblem(f"`{name}` must be a tensor of real numbers, but is {said(values)}.")


def module(name: str, value: Any) -> nn.Module:
    """The module.

    Raises:
        InvalidProblem: it is none.
    """
    if not isinstance(value, nn.Module):
        raise InvalidProblem(f"`{name}` must be a `torch.nn.Module`, but is {said(value)}.")
    return value


def one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Refuses a word that is none of the known ones: a slip must not select something else.

    Raises:
        InvalidProblem: it is none.
    """
    if not isinstance(value, str) or value not in known:
        raise InvalidProblem(f"`{name}` must be one of {', '.join(known)}, but is {said(value)}.")
