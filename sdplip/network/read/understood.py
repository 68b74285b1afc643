"""What a reader understood of a file: the network, how it was read in words, and what of the file is not in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdplip.network.graph import Network
from sdplip.shapes import short


@dataclass(frozen=True, eq=False)
class Understood:
    """A network out of a file.

    Attributes:
        network: the graph.
        reading: plain JSON data with which the reader reads the file in the same way again.
        sentences: everything that the file does not say itself and was assumed, one sentence each, for the line that says
            "proven" and for certificates.
        left_out: `(array, why)` of every array of the file that the network does not hold.
        checked: how the network was compared with another evaluation of the file, in words; "" where it was not.
    """

    network: Network
    reading: Mapping[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    checked: str = ""

    __repr__ = short
