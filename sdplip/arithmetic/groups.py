"""Functions of groups of entries with a proven Lipschitz constant: softmax, layer normalisation and their kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sdplip.shapes import Float

Groups = Float[np.ndarray, "*batch count size"]


@dataclass(frozen=True)
class GroupFunction:
    r"""`value(x)` acts on the last axis; `constant(size)` is a proven Lipschitz constant of one group, rounded up. Both take the
    parameters by keyword."""

    parameters: tuple[str, ...]
    value: Callable[..., Groups]
    constant: Callable[..., float]


GROUPED: Mapping[str, GroupFunction] = {}
