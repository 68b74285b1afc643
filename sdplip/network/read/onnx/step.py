"""One node of an ONNX graph, as the operators of the table see it: what it takes, its options, how it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from sdplip.network.read.arrays import Array, Tape
from sdplip.shapes import Shaped
from sdplip.stored import widened


@dataclass(frozen=True, eq=False)
class Step:
    """A node at work.

    Attributes:
        kind: its operator.
        values: what it takes: arrays, constants, None where an input is left out.
        options: its attributes.
        version: of the operator set.
        outputs: how many outputs it names.
        types: of the elements of its inputs, as the format numbers them; 0 where it is not known.
        tape: where arrays are written down.
    """

    kind: str
    values: tuple["Array | Shaped[np.ndarray, '...'] | None", ...]
    options: Mapping[str, Any]
    version: int
    outputs: int
    types: tuple[int, ...]
    tape: Tape

    def refuse(self, why: str) -> NoReturn:
        """Raises:
        InvalidWeight: with the node in front.
        """
        raise self.tape.refusal(why)

    def has(self, k: int) -> bool:
        """Whether input k is given."""
        return k < len(self.values) and self.values[k] is not None

    def array(self, k: int = 0) -> Array:
        """Input k, which depends on the input of the network."""
        value = self.values[k] if self.has(k) else None
        if not isinstance(value, Array):
            self.refuse(
                f"has a constant as its input {k + 1}, where the values of the network are expected. Only constants as weights"
                " are covered."
            )
        return value

    def is_constant(self, k: int) -> bool:
        """Whether input k is given and constant."""
        return self.has(k) and isinstance(self.values[k], np.ndarray)

    def raw(self, k: int) -> Shaped[np.ndarray, "..."]:
        """Input k, a constant, of its own type."""
        value = self.values[k] if self.has(k) else None
        if not isinstance(value, np.ndarray):
            self.refuse(
                f"takes as its input {k + 1} a value that the graph computes from its input. Only constants are covered there:"
                " products of two computed values have no Lipschitz constant on all inputs."
            )
        return value

    def constant(self, k: int) -> Shaped[np.ndarray, "..."]:
        """Input k, a constant, in double precision: every type of the format up to 64 bits is exact in it."""
        value = self.raw(k)
        return widened(value)

    def vector(self, k: int) -> Shaped[np.ndarray, " n"] | None:
        """Input k, an optional constant with one axis."""
        return self.constant(k).reshape(-1) if self.has(k) else None

    def numbers(self, k: int, name: str) -> tuple[int, ...] | None:
        """Whole numbers that are input k, or in older operator sets the attribute of that name; None where neither is given."""
        if self.has(k):
            return tuple(int(n) for n in self.raw(k).reshape(-1))
        found = self.options.get(name)
        return None if found is None else tuple(int(n) for n in np.atleast_1d(found))

    def number(self, name: str, default: float) -> float:
        """An attribute, a float of 32 bits in the file."""
        return float(self.options.get(name, default))
