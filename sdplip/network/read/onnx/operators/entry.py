"""What the table of operators says about each: how it is read, and which attributes it knows."""

from collections.abc import Callable
from dataclasses import dataclass

from sdplip.network.read.arrays import Array
from sdplip.network.read.onnx.step import Step


@dataclass(frozen=True)
class Operator:
    """One operator of ONNX.

    Attributes:
        read: the array, or the arrays, that a node makes.
        options: attributes that it knows; a node with another one is refused.
        covers: what is covered, for the documentation.
    """

    read: Callable[[Step], "Array | tuple[Array, ...]"]
    options: tuple[str, ...] = ()
    covers: str = ""
